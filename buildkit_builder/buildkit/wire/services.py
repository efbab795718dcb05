"""Paths of the gRPC methods on both sides of the connection.

The messages here live in packages of our own, so that they clash with nobody's; these strings are what travels.
Protocol: buildkit `api/services/control`, `frontend/gateway/pb`, `session/*`; containerd `services/content/v1`.
"""

from __future__ import annotations

CONTROL = "moby.buildkit.v1.Control"
CONTROL_SOLVE = f"/{CONTROL}/Solve"
CONTROL_STATUS = f"/{CONTROL}/Status"
CONTROL_SESSION = f"/{CONTROL}/Session"
CONTROL_INFO = f"/{CONTROL}/Info"
CONTROL_LIST_WORKERS = f"/{CONTROL}/ListWorkers"
CONTROL_DISK_USAGE = f"/{CONTROL}/DiskUsage"
CONTROL_PRUNE = f"/{CONTROL}/Prune"
CONTROL_LISTEN_BUILD_HISTORY = f"/{CONTROL}/ListenBuildHistory"
CONTROL_UPDATE_BUILD_HISTORY = f"/{CONTROL}/UpdateBuildHistory"

LLBBRIDGE = "moby.buildkit.v1.frontend.LLBBridge"
LLBBRIDGE_PING = f"/{LLBBRIDGE}/Ping"
LLBBRIDGE_RESOLVE_IMAGE_CONFIG = f"/{LLBBRIDGE}/ResolveImageConfig"
LLBBRIDGE_RESOLVE_SOURCE_META = f"/{LLBBRIDGE}/ResolveSourceMeta"
LLBBRIDGE_SOLVE = f"/{LLBBRIDGE}/Solve"
LLBBRIDGE_READ_FILE = f"/{LLBBRIDGE}/ReadFile"
LLBBRIDGE_READ_DIR = f"/{LLBBRIDGE}/ReadDir"
LLBBRIDGE_STAT_FILE = f"/{LLBBRIDGE}/StatFile"
LLBBRIDGE_EVALUATE = f"/{LLBBRIDGE}/Evaluate"
LLBBRIDGE_RETURN = f"/{LLBBRIDGE}/Return"
LLBBRIDGE_INPUTS = f"/{LLBBRIDGE}/Inputs"
LLBBRIDGE_WARN = f"/{LLBBRIDGE}/Warn"

FILESYNC = "moby.filesync.v1.FileSync"
FILESYNC_DIFF_COPY = f"/{FILESYNC}/DiffCopy"
FILESEND = "moby.filesync.v1.FileSend"
FILESEND_DIFF_COPY = f"/{FILESEND}/DiffCopy"

AUTH = "moby.filesync.v1.Auth"
AUTH_CREDENTIALS = f"/{AUTH}/Credentials"
AUTH_FETCH_TOKEN = f"/{AUTH}/FetchToken"
AUTH_GET_TOKEN_AUTHORITY = f"/{AUTH}/GetTokenAuthority"
AUTH_VERIFY_TOKEN_AUTHORITY = f"/{AUTH}/VerifyTokenAuthority"

SECRETS = "moby.buildkit.secrets.v1.Secrets"
SECRETS_GET_SECRET = f"/{SECRETS}/GetSecret"

SSH = "moby.sshforward.v1.SSH"
SSH_CHECK_AGENT = f"/{SSH}/CheckAgent"
SSH_FORWARD_AGENT = f"/{SSH}/ForwardAgent"

CONTENT = "containerd.services.content.v1.Content"

HEALTH = "grpc.health.v1.Health"
HEALTH_CHECK = f"/{HEALTH}/Check"
