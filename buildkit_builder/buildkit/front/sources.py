"""Where states begin: an image, nothing, a local directory, a git repository, a file on the web."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.front.mounts import Secret, Ssh
from buildkit_builder.buildkit.front.needs import Needs
from buildkit_builder.buildkit.front.recipe import BaseImage, Lowered, Lowering, Step
from buildkit_builder.buildkit.session.filesync import LocalDirectory
from buildkit_builder.buildkit.session.patterns import parse_dockerignore
from buildkit_builder.errors import MissingSourceError

_SSH_ADDRESS = re.compile(r"ssh://|[\w.-]+@[\w.-]+:(?!//)")
_ODD = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class FromImage(Step):
    """Begin with an image: its files, and its config."""

    image: BaseImage

    def base(self) -> BaseImage:
        """Return the image."""
        return self.image

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Take the files by digest, and the config."""
        found = lowering.bases[self.image]
        tree = llb.image(found.reference, platform=self.image.platform, resolve_mode=found.mode)
        return replace(before, tree=tree, config=found.config, platform=self.image.platform or before.platform)


@dataclass(frozen=True, slots=True)
class FromScratch(Step):
    """Begin with nothing."""

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Begin with no files, and the config of an image made from scratch."""
        return before


@dataclass(frozen=True, slots=True, kw_only=True)
class FromLocal(Step):
    """Begin with a directory, or a single file, of this machine.

    Attributes:
        path: The directory or file, absolute.
        include: Patterns of the paths to send; none means all.
        exclude: Patterns of the paths to leave out.
        obeys_dockerignore: Whether the directory's `.dockerignore` counts as well.
    """

    path: Path
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    obeys_dockerignore: bool = True

    @property
    def content(self) -> str:
        """Return the file, or the root of the directory."""
        return f"/{self.path.name}" if self.path.is_file() else "/"

    @property
    def name(self) -> str:
        """Return what the daemon keeps its copy under: the same for the same directory, patterns and machine."""
        words = [f"{uuid.getnode():x}", os.fspath(self.path), *self.include, "", *self.exclude]
        digest = hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()
        return f"{_ODD.sub('-', self.path.name) or 'root'}-{digest[:16]}"

    def needs(self) -> Needs:
        """Serve the directory, less what is left out.

        Raises:
            MissingSourceError: It is not there.
        """
        if self.path.is_file():
            files = {self.path.name: self.path.resolve()}
            return Needs(directories={self.name: LocalDirectory(self.name, self.path.parent, files=files)})
        if not self.path.is_dir():
            raise MissingSourceError(f"There is no file or directory {self.path}, which `bk.local` names.")
        exclude = (*self._dockerignore(), *self.exclude)
        return Needs(directories={self.name: LocalDirectory(self.name, self.path, exclude=exclude)})

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Have the session send it."""
        tree = llb.local(
            self.name, session=lowering.session, include=self.include, display=f"local files of {self.path.name or '/'}"
        )
        return replace(before, tree=tree)

    def _dockerignore(self) -> list[str]:
        file = self.path / ".dockerignore"
        if not self.obeys_dockerignore or not file.is_file():
            return []
        return parse_dockerignore(file.read_text(encoding="utf-8", errors="replace"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FromGit(Step):
    """Begin with a git repository at one commit."""

    tree: llb.State
    token: Secret | None = None
    agent: Ssh | None = None

    def needs(self) -> Needs:
        """Collect the token, or the agent."""
        return Needs.joined(each.needs() for each in (self.token, self.agent) if each is not None)

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Have the daemon fetch it."""
        return replace(before, tree=self.tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class FromHttp(Step):
    """Begin with a file on a web server."""

    tree: llb.State
    name: str

    @property
    def content(self) -> str:
        """Return the file."""
        return f"/{self.name}"

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Have the daemon fetch it."""
        return replace(before, tree=self.tree)


def from_image(reference: str, platform: str | None) -> FromImage:
    """Make the step of `image`.

    Raises:
        ImageError: The reference or the platform is malformed.
        TypeError: The reference is no text.
    """
    if not isinstance(reference, str):
        raise TypeError(f"`reference` is {reference!r}, and has to be the name of an image.")
    llb.ImageReference.parse(reference)
    return FromImage(BaseImage(reference=reference, platform=llb.Platform.parse(platform) if platform else None))


def from_local(path: str | Path, include: Sequence[str], exclude: Sequence[str], dockerignore: bool) -> FromLocal:
    """Make the step of `local`.

    Raises:
        TypeError: The patterns are one text instead of a list.
    """
    for name, patterns in (("include", include), ("exclude", exclude)):
        if isinstance(patterns, str):
            raise TypeError(f'`{name}` is a text, and has to be a list of patterns. Write `["{patterns}"]`.')
    absolute = Path(os.path.abspath(Path(path).expanduser()))
    return FromLocal(path=absolute, include=tuple(include), exclude=tuple(exclude), obeys_dockerignore=dockerignore)


def from_git(
    url: str, ref: str, subdir: str, *, token: Secret | None, ssh: Ssh | None, known_hosts: str | None
) -> FromGit:
    """Make the step of `git`.

    Raises:
        ValueError: The address makes no sense.
    """
    agent = ssh or (Ssh() if _SSH_ADDRESS.match(url) else None)
    tree = llb.git(
        url,
        ref=ref,
        subdir=subdir,
        auth_token_secret=token.name if token else None,
        known_ssh_hosts=known_hosts,
        ssh=agent.id if agent else None,
    )
    return FromGit(tree=tree, token=token, agent=agent)


def from_http(url: str, name: str | None, checksum: str | None, mode: int) -> FromHttp:
    """Make the step of `http`.

    Raises:
        ValueError: The address makes no sense.
    """
    chosen = name or posixpath.basename(urlsplit(url).path) or "download"
    return FromHttp(tree=llb.http(url, checksum=checksum, filename=chosen, mode=mode), name=chosen)
