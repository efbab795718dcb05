"""The words by which failures are known, and what to tell the user of each.

Daemons, registries and package managers say what went wrong in prose only, so this is the one place that reads prose.
"""

from __future__ import annotations

import re

CONNECTION_BROKE = re.compile(r"RST_STREAM|socket closed|connection reset|stream removed|GOAWAY", re.IGNORECASE)

INCAPABLE = re.compile(
    # protocol: buildkit `util/apicaps`.
    r"unknown API capability"
    r"|requested .{0,100}feature .{0,200} (?:is not supported by|has been disabled on) (?:the )?build server"
    r"|unknown (?:service|method) moby\."
    r"|(?:exporter|cache (?:export|import)er?) .{0,60}(?:could not be found|not supported|is not supported)"
    r"|multi-node builds? not supported|[Mm]ulti-platform build is not supported",
)

# protocol: grpc-go, on messages over the server's limit.
TOO_LARGE = re.compile(r"received message larger than max \((?P<size>\d{1,12}) vs\. (?P<limit>\d{1,12})\)")

DISK_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)

NO_PLATFORM = re.compile(r"no match for platform|no matching manifest for|does not match the specified platform")

REGISTRY_FAILED = re.compile(
    r"unexpected status(?: code)?.{0,300}?: 5\d\d\b|\b50\d [A-Z][a-z]+",
)

UNREACHABLE = re.compile(
    r"dial (?:tcp|unix)|no such host|connection refused|connection reset by peer|i/o timeout|TLS handshake timeout"
    r"|x509:|tls: |server gave HTTP response to HTTPS client|network is unreachable|no route to host|proxyconnect"
    r"|unexpected status(?: code)?.{0,300}?: 429\b|\b429 Too Many Requests"
    r"|toomanyrequests"
    r"|broken pipe|use of closed network connection|unexpected EOF|: EOF$"
    r"|request canceled while waiting for connection|Client\.Timeout exceeded",
)

REGISTRY_WORDS = re.compile(
    r"https?://[^\s\"]+/v2/|/token\b|failed to (?:push|pull|fetch|authorize|resolve|copy|do request|configure registry)"
    r"|registry|manifest|blob",
    re.IGNORECASE,
)

DENIED = re.compile(
    r"\b401\b|\b403 Forbidden\b|unauthorized|insufficient_scope|no basic auth credentials|authorization failed"
    r"|authentication required|failed to authorize|access denied|requested access .* denied|denied: "
    r"|invalid credentials"
    r"|failed to fetch (?:oauth|anonymous) token",
    re.IGNORECASE,
)

PUSHING = re.compile(
    r"failed to push|error pushing|name unknown|repository .* (?:does not exist|not found)", re.IGNORECASE
)

MISSING_IMAGE = re.compile(r"manifest unknown|not found|404 Not Found|does not exist", re.IGNORECASE)

_IMAGE = (
    # containerd and buildkit name the image at different places of the chain of errors; the nearest to the cause last.
    re.compile(r"docker-image://(?P<image>[^\s\"',]+?)(?=[:,;]? |[\"',:]?$|: )"),
    re.compile(
        r"failed to (?:resolve source metadata for|resolve reference|load metadata for|pull and unpack image|push"
        r"|do request for) \"?(?P<image>[^\s\"]+?)\"?:? "
    ),
    re.compile(r"\b(?P<image>[a-z0-9.-]+(?::\d+)?/[a-z0-9._/-]+(?:[:@][\w.:-]+)?): not found"),
)

_STATUS = re.compile(r"unexpected status[^\n]{0,500}?: [45]\d\d\b[^\n]{0,100}")
_EXIT = re.compile(r"exit (?:code|status):? (\d{1,9})")
_COMMAND = re.compile(r'process "(?P<command>.*)" did not complete successfully', re.DOTALL)

_HINTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"Unable to locate package|has no installation candidate", re.IGNORECASE),
        "apt knows no such package: check its name, and that this release of the distribution has it.",
    ),
    (
        re.compile(r"Could not get lock /var/lib/(?:dpkg|apt)"),
        "Another process held apt's lock; build again.",
    ),
    (
        re.compile(
            r"Temporary failure resolving|Temporary failure in name resolution|Could not resolve host|no such host"
            r"|Name or service not known|dns error|failed to lookup address"
            r"|lookup .{1,255} on .{1,100}: (?:server misbehaving|i/o)",
            re.IGNORECASE,
        ),
        "A host name could not be resolved there: check the daemon's network and DNS, and whether a proxy must be set.",
    ),
    (
        re.compile(
            r"certificate verify failed|unknown issuer|UnknownIssuer|self.signed certificate|x509:"
            r"|unable to get local issuer certificate|SSL certificate problem|invalid peer certificate",
            re.IGNORECASE,
        ),
        "A TLS certificate was not trusted there: behind a proxy that opens TLS, give its CA bundle in the settings.",
    ),
    (
        re.compile(
            r"No matching distribution found|No solution found when resolving|Could not find a version that satisfies"
            r"|was not found in the package registry|no wheels? with a matching",
            re.IGNORECASE,
        ),
        "No such Python package fits: check its name and version, and that it supports this Python and platform.",
    ),
    (
        re.compile(
            r"Connection refused|Connection timed out|Network is unreachable|ProxyError|Tunnel connection failed"
            r"|Could not connect to|Max retries exceeded|error sending request|i/o timeout|tcp connect error",
            re.IGNORECASE,
        ),
        "The network could not be reached there: check the daemon's network, and whether a proxy has to be set.",
    ),
    (
        re.compile(r"server gave HTTP response to HTTPS client"),
        "The registry speaks plain HTTP: name it among the insecure registries of the daemon.",
    ),
    (
        re.compile(r"toomanyrequests|429 Too Many Requests|pull rate limit", re.IGNORECASE),
        "The registry limits how often it may be asked: log in, use a mirror, or wait.",
    ),
    (
        re.compile(r"name unknown|repository .* (?:does not exist|not found)", re.IGNORECASE),
        "Create the repository in the registry first, or correct the image's name.",
    ),
    (
        re.compile(r"exec format error|Exec format error"),
        "The daemon cannot run programs of that platform: install emulation there (binfmt), or build for its own.",
    ),
    (
        re.compile(r"executable file not found|: not found\b.*\b(?:sh|bash)|command not found"),
        "A program is missing in the image: install it in an earlier layer.",
    ),
    (
        re.compile(r'"/[^"\n]*": not found$', re.MULTILINE),
        "What is to be copied is not there: check its path, and whether an ignore file leaves it out.",
    ),
    (
        re.compile(r"Permission denied|EACCES"),
        "The step's user may not do that: see which user it runs as.",
    ),
)

_SILENT = re.compile(r"connection refused|i/o timeout|network is unreachable|no route to host|unexpected EOF|: EOF$")

_EXITS = {
    127: "A program is missing in the image: install it in an earlier layer.",
    137: "The command was killed, most often for want of memory: give the daemon more, or use less.",
}

_STORE_ON = (
    'Switch the containerd image store on: put `"features": {"containerd-snapshotter": true}` into the engine\'s '
    "daemon.json (Docker Desktop: Settings, General) and restart the engine, which then no longer shows the images "
    "it had before."
)
_STORE_NEWER = (
    "This engine is too old to have a containerd image store: update to Docker Engine 24.0 or newer, and switch it on "
    "there."
)
_ANOTHER_DAEMON = (
    "Or let `buildkit-builder builder create` make a builder in a container of the engine, or point the `endpoint` "
    "setting at a buildkitd."
)


def of_store(*, is_there: bool) -> str:
    """How an engine comes by what only the containerd image store has, as sentences.

    Args:
        is_there: Whether the engine is new enough to have it.
    """
    return f"{_STORE_ON if is_there else _STORE_NEWER} {_ANOTHER_DAEMON}"


def of(text: str, *, exit_code: int | None = None) -> str:
    """What to do about a failure, as a sentence; empty where nothing better is known than its own words."""
    for pattern, hint in _HINTS:
        if pattern.search(text):
            return hint
    return _EXITS.get(exit_code, "") if exit_code is not None else ""


def of_registry(text: str) -> str:
    """What to do about a registry that cannot be reached, as a sentence."""
    if _SILENT.search(text):
        return "See that the registry runs, and that the daemon, which may be on another machine, can reach it."
    return of(text)


def status_in(logs: str) -> str | None:
    """The last failure that a registry's answer began with, as a daemon logs it before it tries again."""
    return next(reversed(_STATUS.findall(logs)), None)


def exit_code_in(message: str) -> int | None:
    """The exit code that a daemon put into words; before 0.12 that is the only place."""
    found = _EXIT.search(message)
    return int(found[1]) if found else None


def command_in(message: str) -> str | None:
    """The command that a daemon put into words."""
    found = _COMMAND.search(message)
    return found["command"] if found else None


def without_command(message: str) -> str:
    """The words of a daemon about a command that failed, without the command."""
    return _COMMAND.sub("its command did not complete successfully", message)


def image_in(message: str) -> str | None:
    """The image reference that a daemon put into words."""
    for pattern in _IMAGE:
        if found := pattern.search(message):
            return found["image"].rstrip(":")
    return None
