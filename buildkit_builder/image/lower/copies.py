"""Steps that put files into the image without running anything."""

from __future__ import annotations

import posixpath
from collections.abc import Generator
from typing import Any

from buildkit_builder.buildkit import llb
from buildkit_builder.image.lower.dockerfile_words import expand
from buildkit_builder.image.lower.draft import Draft, absolute
from buildkit_builder.image.lower.questions import Question, ResolveImage
from buildkit_builder.image.plan import CopyImage, CopyLocal, Workdir, WriteFile

# What is put there for the builder's own use, on the machine that it runs on as well.
_TOOLS = frozenset(["/usr/bin/uv", "/usr/local/bin/pixi"])
# Whom local files are for. Where an image has no such user, or group, the daemon makes them root's.
_FLYTE = llb.Owner(user="flyte", group="flyte")


def workdir(draft: Draft, step: Workdir) -> None:
    """Makes a folder, and lets the next steps start in it."""
    config = draft.config
    path = absolute(config.working_dir, draft.expanded(step.name, expand, step.path, config.env))
    if path != "/":
        owner = llb.Owner.parse(config.user) if config.user else None
        made = llb.mkdir(path, 0o755, parents=True, owner=owner)
        draft.change_files(step.name, path, lambda state: state.file(made, name=draft.named(step.name)))
    draft.config = config.with_working_dir(path)


def write_file(draft: Draft, step: WriteFile) -> None:
    """A file whose content is known."""
    folder = llb.mkdir(posixpath.dirname(step.path), 0o755, parents=True)
    file = llb.mkfile(step.path, step.content, 0o644)
    draft.change_files(step.name, step.path, lambda state: state.file(folder, file, name=draft.named(step.name)))


def copy_image(draft: Draft, step: CopyImage) -> Generator[Question, Any, None]:
    """A file of another image; a tool that the builder needs, for the machine that it will run on as well."""
    found = yield ResolveImage(step.image, draft.platform)
    is_plain = draft.is_plain
    _copy(draft, found.state(draft.platform), step.path, step.destination, owner=None, contents=True, name=step.name)
    if step.destination in _TOOLS:
        draft.is_plain = is_plain
    if draft.host is not None and step.destination in _TOOLS:
        platform = draft.host.platform
        found = yield ResolveImage(step.image, platform, optional=True)
        if found is None:
            draft.host = None
            return
        tool = llb.copy(
            found.state(platform), step.path, step.destination, follow_symlinks=True, contents_only=True,
            create_dest=True,
        )  # fmt: skip
        draft.host.root = draft.host.root.file(tool, name=step.name)


def copy_local(draft: Draft, step: CopyLocal) -> None:
    """Files of this machine."""
    source, whole = draft.local(step.source), step.path == "/"
    owner = None if step.as_root else _FLYTE
    _copy(draft, source, step.path, step.destination, owner=owner, contents=whole, name=step.name)


def _copy(
    draft: Draft, source: llb.State, path: str, destination: str, *, owner: llb.Owner | None, contents: bool, name: str
) -> None:
    text = draft.expanded(name, expand, destination, draft.config.env)
    target = absolute(draft.config.working_dir, text)
    place = target
    if text in ("", ".") or text.endswith(("/", "/.")):
        target = target.rstrip("/") + "/"
    action = llb.copy(source, path, target, owner=owner, follow_symlinks=True, contents_only=contents, create_dest=True)
    draft.change_files(name, place, lambda state: state.file(action, name=draft.named(name)))
