"""Where trees come from: images, directories of the client, git, HTTP, OCI layouts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from buildkit_builder.buildkit.llb.arguments import checked, words
from buildkit_builder.buildkit.llb.operation import Inputs, Operation, absolute
from buildkit_builder.buildkit.llb.platforms import Platform
from buildkit_builder.buildkit.llb.reference import ImageReference
from buildkit_builder.buildkit.llb.state import State
from buildkit_builder.buildkit.wire import ops_pb2

ResolveMode = Literal["default", "pull", "local"]
Differ = Literal["none", "metadata"]

_GIT_PROTOCOLS = frozenset({"http", "https", "ssh", "git"})
_SCHEME = re.compile(r"[a-zA-Z0-9]+://")
_SCP_STYLE = re.compile(r"(?P<user>[a-zA-Z0-9_-]+)@(?P<host>[a-zA-Z0-9.-]+):(?P<path>[^?#]*)(?:#(?P<fragment>.*))?")
_PLATFORM_SCHEMES = ("docker-image://", "oci-layout://")
# Go's encoder escapes these even inside strings, and the attribute's bytes are part of the digest.
_GO_JSON_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceOp(Operation):
    """The vertex of a source.

    Attributes:
        identifier: What to fetch, as a URL of the protocol.
        attributes: How to fetch it.
        needs: Ids of what the daemon must be able to do.
        platform: For which platform, if it is not the one the graph is marshalled for.
    """

    identifier: str
    attributes: tuple[tuple[str, str], ...]
    needs: tuple[str, ...]
    platform: Platform | None

    def dependencies(self) -> tuple[State, ...]:
        """Nothing."""
        return ()

    def capabilities(self) -> tuple[str, ...]:
        """Ids of what the daemon must be able to do."""
        return self.needs

    def encode(self, op: ops_pb2.Op, inputs: Inputs, platform: Platform) -> None:
        """Write it; only images have a platform."""
        if self.identifier.startswith(_PLATFORM_SCHEMES):
            op.platform.CopyFrom((self.platform or platform).to_wire())
        op.source.identifier = self.identifier
        op.source.attrs.update(dict(self.attributes))


@checked
def image(
    ref: str,
    *,
    platform: Platform | None = None,
    resolve_mode: ResolveMode = "default",
    layer_limit: int | None = None,
    checksum: str | None = None,
    name: str | None = None,
) -> State:
    """An image in a registry.

    Args:
        ref: Its name, completed by Docker's rules (`ImageReference`).
        platform: For which platform, if it is not the one the graph is marshalled for.
        resolve_mode: `pull` asks the registry even if the daemon has the image; `local` prefers the daemon's.
        layer_limit: Take only that many layers, from the lowest.
        checksum: Digest that the image must have.
        name: What progress calls the vertex.

    Raises:
        ImageError: If `ref` cannot be the name of an image.
    """
    values = {
        # Go's client demands the ability only for `pull`, where a daemon without it would give something stale.
        "image.resolvemode": (
            "" if resolve_mode == "default" else resolve_mode,
            "source.image.resolvemode" if resolve_mode == "pull" else "",
        ),
        "image.layerlimit": ("" if layer_limit is None else str(layer_limit), "source.image.layerlimit"),
        "image.checksum": (checksum or "", "source.image.checksum"),
    }
    identifier = f"docker-image://{ImageReference.parse(ref)}"
    return _source(identifier, ["source.image"], values, platform=platform, name=name)


@checked
def oci_layout(
    store: str,
    digest: str,
    *,
    session: str = "",
    platform: Platform | None = None,
    layer_limit: int | None = None,
    display: str | None = None,
) -> State:
    """An image in an OCI layout that the client serves as a content store.

    Args:
        store: Id of the content store.
        digest: Digest of the manifest or index in it.
        session: Session of the client that serves it; empty means any that does.
        platform: For which platform, if it is not the one the graph is marshalled for.
        layer_limit: Take only that many layers, from the lowest.
        display: What progress calls the vertex.

    Raises:
        ImageError: If `store` or `digest` is malformed.
    """
    # The name only shows in messages, but daemons insist on one with a host; the store is found by its id.
    reference = ImageReference.parse(store).with_digest(digest)
    values = {
        "oci.session": (session, ""),
        "oci.store": (store, ""),
        "oci.layerlimit": ("" if layer_limit is None else str(layer_limit), ""),
    }
    identifier = f"oci-layout://{reference.repository}@{reference.digest}"
    return _source(identifier, ["source.ocilayout"], values, platform=platform, name=display)


@checked
def local(
    name: str,
    *,
    session: str = "",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow: Sequence[str] = (),
    shared_key: str = "",
    unique: str = "",
    differ: Differ | None = None,
    metadata_only: bool = False,
    display: str | None = None,
) -> State:
    """A directory of the client.

    The daemon keeps what it was sent under `name` and `shared_key` and asks only for what changed, so both should
    stay the same for one directory.

    Args:
        name: Name under which the session offers the directory.
        session: Session to read it from. Without it and without `unique`, equal sources of builds that run at the
            same time may become one vertex, which reads from either client.
        include: Patterns of the paths to send; none means all.
        exclude: Patterns of the paths to leave out, as in `.dockerignore`.
        follow: Paths to send together with what their symbolic links lead to.
        shared_key: What tells directories of the same name apart on the daemon.
        unique: A word that keeps the vertex apart from others, where `session` is not given.
        differ: How the daemon finds what changed: by `metadata`, or `none` to be sent everything.
        metadata_only: Send names, sizes and times, but no content.
        display: What progress calls the vertex.
    """
    values = {
        "local.session": (session, "source.local.sessionid"),
        "local.unique": ("" if session else unique, "source.local.unique"),
        "local.includepattern": (_go_json(words(include, "include")), "source.local.includepatterns"),
        "local.followpaths": (_go_json(words(follow, "follow")), "source.local.followpaths"),
        "local.excludepatterns": (_go_json(words(exclude, "exclude")), "source.local.excludepatterns"),
        "local.sharedkeyhint": (shared_key, "source.local.sharedkeyhint"),
        # Go's client demands this ability only on request; a daemon without it sends more than it must, no worse.
        "local.differ": (differ or "", ""),
        "local.metadatatransfer": ("true" if metadata_only else "", "source.local.metadatatransfer"),
    }
    return _source(f"local://{name}", ["source.local"], values, name=display)


@checked
def git(
    url: str,
    *,
    ref: str = "",
    subdir: str = "",
    keep_git_dir: bool = False,
    auth_token_secret: str | None = None,
    auth_header_secret: str | None = None,
    known_ssh_hosts: str | None = None,
    ssh: str | None = None,
    checksum: str | None = None,
    display: str | None = None,
) -> State:
    """A git repository at one commit.

    Args:
        url: Where it is: `https://…`, `ssh://…`, `git://…` or `user@host:path`. `#ref:subdir` at its end is
            understood; with no protocol at all, HTTPS is meant.
        ref: Branch, tag or commit; empty means the default branch.
        subdir: Directory of the repository to take; empty means all of it.
        keep_git_dir: Keep `.git`.
        auth_token_secret: Id of the secret that is an access token. `None` means the usual `GIT_AUTH_TOKEN`, which
            need not be there.
        auth_header_secret: Id of the secret that is the value of an authorization header. `None` means the usual
            `GIT_AUTH_HEADER`, which need not be there.
        known_ssh_hosts: Lines as in `known_hosts`; needed for SSH.
        ssh: Id of the agent of the client to use for SSH; `None` means `default`.
        checksum: Commit that `ref` must be.
        display: What progress calls the vertex.

    Raises:
        ValueError: If the URL is of an unknown protocol, or names a ref or directory and they are also arguments.
    """
    remote = _GitRemote.parse(url)
    ref, subdir = remote.choose(ref, subdir)
    is_ssh = remote.protocol == "ssh"
    # Go's client always names the two usual secrets, and demands the ability only where the caller chose them.
    token = ("GIT_AUTH_TOKEN", "") if auth_token_secret is None else (auth_token_secret, "source.git.httpauth")
    header = ("GIT_AUTH_HEADER", "") if auth_header_secret is None else (auth_header_secret, "source.git.httpauth")
    hosts = f"{known_ssh_hosts.removesuffix(chr(10))}\n" if known_ssh_hosts else ""
    values = {
        "git.keepgitdir": ("true" if keep_git_dir else "", "source.git.keepgitdir"),
        "git.fullurl": (remote.url, "source.git.fullurl"),
        "git.authtokensecret": token,
        "git.authheadersecret": header,
        "git.knownsshhosts": (hosts if is_ssh else "", "source.git.knownsshhosts"),
        "git.mountsshsock": ((ssh or "default") if is_ssh else "", "source.git.mountsshsock"),
        "git.checksum": (checksum or "", "source.git.checksum"),
    }
    fragment = f"#{ref}" + (f":{subdir}" if subdir else "") if ref or subdir else ""
    identifier = f"git://{remote.host}{absolute(remote.path)}{fragment}"
    base = ["source.git", "source.git.subdir"] if subdir else ["source.git"]
    return _source(identifier, base, values, name=display)


@checked
def http(
    url: str,
    *,
    checksum: str | None = None,
    filename: str | None = None,
    mode: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
    auth_header_secret: str | None = None,
    accept: str = "",
    user_agent: str = "",
    display: str | None = None,
) -> State:
    """A file on an HTTP server, alone in a tree.

    Args:
        url: Where it is, `http://…` or `https://…`.
        checksum: Digest that it must have.
        filename: What it is called in the tree; `None` means what the server or the URL calls it.
        mode: Its permissions, up to `0o777`; `None` means `0o600`.
        uid: Its owner; `None` means root.
        gid: Its group; `None` means root.
        auth_header_secret: Id of the secret that is the value of an authorization header.
        accept: Value of the `Accept` header of the request.
        user_agent: Value of the `User-Agent` header of the request.
        display: What progress calls the vertex.

    Raises:
        ValueError: If `url` is of another protocol, or `mode` is not a mode that can be set.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"`{url}` is not an HTTP address.")
    if mode is not None and not 0 < mode <= 0o777:
        raise ValueError(f"{mode:#o} is not a mode that a downloaded file can have.")
    values = {
        "http.checksum": (checksum or "", "source.http.checksum"),
        "http.filename": (filename or "", ""),
        "http.perm": ("" if mode is None else f"0{mode:o}", "source.http.perm"),
        # The misspelt id is the real one.
        "http.uid": (str(uid) if uid else "", "soruce.http.uidgid"),
        "http.gid": (str(gid) if gid else "", "soruce.http.uidgid"),
        "http.authheadersecret": (auth_header_secret or "", "source.http.auth"),
        "http.header.accept": (accept, "source.http.header"),
        "http.header.user-agent": (user_agent, "source.http.header"),
    }
    return _source(url, ["source.http"], values, name=display)


def _source(
    identifier: str,
    needs: Sequence[str],
    values: Mapping[str, tuple[str, str]],
    *,
    platform: Platform | None = None,
    name: str | None = None,
) -> State:
    """The state of a source; `values` gives each attribute its value and the ability it needs, if it is there."""
    given = {key: value for key, (value, _) in values.items() if value}
    needed = [capability for value, capability in values.values() if value and capability]
    return State(
        SourceOp(
            name=name,
            identifier=identifier,
            attributes=tuple(sorted(given.items())),
            needs=tuple(dict.fromkeys([*needs, *needed])),
            platform=platform,
        )
    )


def _go_json(patterns: Sequence[str]) -> str:
    """A JSON array byte for byte as Go's encoder writes it; empty for none."""
    if not patterns:
        return ""
    return json.dumps(list(patterns), ensure_ascii=False, separators=(",", ":")).translate(_GO_JSON_ESCAPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class _GitRemote:
    protocol: str
    host: str
    path: str
    url: str
    fragment: str

    @classmethod
    def parse(cls, url: str) -> _GitRemote:
        scp = _SCP_STYLE.fullmatch(url)
        if scp is not None and not _SCHEME.match(url):
            host, path = scp["host"], scp["path"]
            remote = f"{scp['user']}@{host}:{path}"
            return cls(protocol="ssh", host=host, path=path, url=remote, fragment=scp["fragment"] or "")
        parts = urlsplit(url if _SCHEME.match(url) else f"https://{url}")
        if parts.scheme not in _GIT_PROTOCOLS or not parts.netloc:
            raise ValueError(f"`{url}` is not the address of a git repository.")
        if parts.query:
            raise ValueError(f"The address `{url}` of a git repository has a query, which BuildKit would drop.")
        return cls(
            protocol=parts.scheme,
            # The identifier is the same for all protocols and users; the full URL stands in an attribute.
            host=parts.netloc.rpartition("@")[2],
            path=unquote(parts.path),
            url=urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")),
            fragment=unquote(parts.fragment),
        )

    def choose(self, ref: str, subdir: str) -> tuple[str, str]:
        """The ref and directory to take: those of the arguments, or those at the end of the address."""
        written_ref, _, written_subdir = self.fragment.partition(":")
        if self.fragment and (ref or subdir):
            raise ValueError(f"The address ends in `#{self.fragment}`, and `ref` or `subdir` are given too.")
        return ref or written_ref, absolute(subdir or written_subdir).strip("/")
