"""Names of images in registries, and the full form of them that daemons want."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from buildkit_builder.buildkit.llb.arguments import checked
from buildkit_builder.errors import ImageError

_DEFAULT_DOMAIN = "docker.io"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """The full name of an image: registry, repository, and a tag or a digest or both.

    Daemons parse names but do not complete them (protocol: BuildKit `docker-image://` sources), so what people
    write, such as `python:3.12`, is completed here by Docker's rules. `str()` gives the full form.

    Attributes:
        domain: Registry host, with its port if it has one; `docker.io` unless written otherwise.
        path: Repository in that registry, such as `library/python`.
        tag: Tag, or empty.
        digest: Digest with its algorithm, such as `sha256:…`, or empty. Where both are there, the digest decides.
    """

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @classmethod
    @checked
    def parse(cls, text: str) -> ImageReference:
        """Read a name as people write it; a name with neither tag nor digest gets the tag `latest`.

        Raises:
            ImageError: If the text cannot be the name of an image.
        """
        if _IDENTIFIER.fullmatch(text):
            raise ImageError(f"`{text}` is the id of an image, not its name. Use its name in a registry.")
        domain, remainder = _split_domain(text)
        remainder, _, digest = remainder.partition("@")
        path, _, tag = remainder.partition(":")
        if path != path.lower():
            raise ImageError(f"`{text}` is not the name of an image: the repository `{path}` must be in lower case.")
        well_formed = (
            _DOMAIN.fullmatch(domain)
            and _PATH.fullmatch(path)
            and (":" not in remainder or _TAG.fullmatch(tag))
            and ("@" not in text or _DIGEST.fullmatch(digest))
        )
        if not well_formed:
            raise ImageError(
                f"`{text}` is not the name of an image. Write one as `registry/repository:tag`, such as "
                "`ghcr.io/flyteorg/flyte:py3.12`."
            )
        if not tag and not digest:
            tag = "latest"
        return cls(domain=domain, path=path, tag=tag, digest=digest)

    @property
    def repository(self) -> str:
        """Registry and repository, with neither tag nor digest."""
        return f"{self.domain}/{self.path}"

    @checked
    def with_digest(self, digest: str) -> ImageReference:
        """The same name, pinned to `digest`.

        Raises:
            ImageError: If `digest` is not one.
        """
        if not _DIGEST.fullmatch(digest):
            raise ImageError(f"`{digest}` is not a digest. One looks like `sha256:` and 64 hexadecimal digits.")
        return replace(self, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def _split_domain(name: str) -> tuple[str, str]:
    """Whether the first word is a registry shows only in its spelling: a dot, a colon, a capital, or `localhost`."""
    first, slash, rest = name.partition("/")
    is_domain = first == "localhost" or "." in first or ":" in first or first != first.lower()
    if not slash or not is_domain:
        domain, remainder = _DEFAULT_DOMAIN, name
    else:
        domain, remainder = _DEFAULT_DOMAIN if first == _LEGACY_DOMAIN else first, rest
    if domain == _DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder
