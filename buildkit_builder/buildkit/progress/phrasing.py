"""What the daemon's own vertices are called in front of the user, and how amounts are written.

Steps of the user's image have a name of their own, which is not touched; the rest (pulls, exports, cache, sign-in) come
in the daemon's words (protocol: buildkit `exporter`, `util/push`, `util/resolver`, `cache/remotecache`,
`frontend/dockerui`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"exporting to image", "exporting the image"),
        (r"exporting to (?:oci|OCI) image format", "exporting an OCI archive"),
        (r"exporting to docker image format", "exporting a Docker archive"),
        (r"exporting to client(?: directory)?|copying files.*", "sending the files back"),
        (r"exporting layers", "packing the layers"),
        (r"exporting (?:attestation )?manifest list .*", "writing the list of platforms"),
        (r"exporting attestation manifest .*", "writing the attestation"),
        (r"exporting manifest .*", "writing the manifest"),
        (r"exporting config .*", "writing the image config"),
        (r"naming to (.*)", lambda match: f"naming it {_familiar(match[1])}"),
        (r"unpacking to (.*)", lambda match: f"unpacking {_familiar(match[1])}"),
        (r"pushing layers", "pushing the layers"),
        (r"pushing manifest for (.*)", lambda match: f"pushing {_familiar(match[1])}"),
        (r"pushing (.*) with (?:docker|containerd)", lambda match: f"pushing {_familiar(match[1])}"),
        (r"sending tarball", "sending the archive back"),
        (r"importing to docker", "loading the image"),
        (
            r"\[auth\] (\S+?)(?::\S*)? token for (\S+)",
            lambda match: f"signing in to {_registry(match[2])} for {match[1]}",
        ),
        (r"\[auth\] (.*)", lambda match: f"signing in ({match[1]})"),
        (r"importing cache manifest from (.*)", lambda match: f"reading the build cache from {_familiar(match[1])}"),
        (r"inferred cache manifest type: .*", "reading the build cache"),
        (r"exporting cache to (?:registry|client directory|\S+)", "saving the build cache"),
        (r"preparing build cache for export", "preparing the build cache"),
        (r"writing layer (\S+)", lambda match: f"writing {_layer(match[1])}"),
        (r"writing config (\S+)", "writing the cache config"),
        (r"writing cache (?:image )?manifest (\S+)", "writing the cache manifest"),
        (
            r"resolve image config for (?:docker-image://)?(.*)|\[internal\] load metadata for (.*)",
            lambda match: f"looking up {_familiar(match[1] or match[2])}",
        ),
        (r"resolve (\S+)", lambda match: f"looking up {_familiar(match[1])}"),
        (r"docker-image://(\S+)", lambda match: f"base image {_familiar(match[1])}"),
        (r"oci-layout://(\S+)", lambda match: f"image {_familiar(match[1])}"),
        (r"\[internal\] load build definition from (.*)", lambda match: f"reading {match[1]}"),
        (r"\[internal\] load (\.dockerignore)", "reading .dockerignore"),
        (r"\[internal\] load build context", "reading the build context"),
        (r"\[internal\] (.*)", lambda match: match[1]),
        (r"local://(.*)", lambda match: f"reading {match[1]}"),
        (r"git://(.*)", lambda match: f"fetching {match[1]}"),
        (r"(https?://.*)", lambda match: f"downloading {match[1]}"),
        (r"transferring (.*?):?", lambda match: f"sending {match[1]}"),
        (r"extracting (sha256:\S+)", lambda match: f"unpacking {_layer(match[1])}"),
        (r"(sha256:\S+)(?: .*)?", lambda match: _layer(match[1])),
    )
)

_INTERNAL = re.compile(
    r"exporting |naming to |unpacking to |pushing |sending tarball|importing (?:to docker|cache)|inferred cache|"
    r"preparing build cache|writing |resolve |\[auth\]|\[internal\]"
)

_DIGEST_TAG = re.compile(r":([0-9a-f]{8})[0-9a-f]{24,}$")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def plain_name(name: str) -> str:
    """A name that the daemon gave a vertex, or a part of one, in plain words."""
    for pattern, words in _RULES:
        match = pattern.fullmatch(name)
        if match is not None:
            return words if isinstance(words, str) else words(match)
    return name


def short_title(title: str) -> str:
    """A build's title, short enough to begin every line where several builds are shown.

    The image goes without its registry, and of a tag that is a digest, as Flyte's are, the first characters will do.
    """
    image, space, rest = title.partition(" ")
    return _DIGEST_TAG.sub(r":\1", image.rpartition("/")[2]) + space + rest


def is_internal(name: str) -> bool:
    """Whether a vertex of this name is the daemon's own work and not a step of the image."""
    return _INTERNAL.match(name) is not None


def human_bytes(count: int) -> str:
    """An amount of data: `512 B`, `12.3 MB`; 1 kB is 1000 bytes."""
    amount = float(count)
    for unit in _UNITS:
        if amount < 999.95 or unit == _UNITS[-1]:
            break
        amount /= 1000
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def amount_of(current: int, total: int) -> str:
    """How much of how much: `12.3 MB / 40.0 MB`; only what is done where the total is not known; may be empty."""
    if total > 0:
        return f"{human_bytes(current)} / {human_bytes(total)}"
    return human_bytes(current) if current else ""


def human_seconds(seconds: float) -> str:
    """A duration: `3.2s`."""
    return f"{max(0.0, seconds):.1f}s"


def _layer(digest: str) -> str:
    return f"layer {digest.removeprefix('sha256:')[:12]}"


def _registry(host: str) -> str:
    return "docker.io" if host == "registry-1.docker.io" else host


def _familiar(reference: str) -> str:
    """A reference as people write it: no default registry, and no digest where there is a tag."""
    short = reference.removeprefix("docker.io/").removeprefix("library/")
    name, at, digest = short.partition("@")
    if at and ":" in name.rpartition("/")[2]:
        return name
    return f"{name}@{digest.removeprefix('sha256:')[:12]}" if at else name
