"""Which branch is being built, and which it came from: by a CI system's variables, or by git's own files.

No process is run for it; of a `.git` only small text files are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_USUAL_DEFAULT = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a build stands among the branches of a project.

    Attributes:
        own: What is being built: a branch, or `pr-7` for a proposed change, whose branch may be of the same name in
            another's copy of the project; `None` for a tag, and where nothing tells.
        ancestors: Branches whose builds are like it, nearest first; the default branch is the last.
    """

    own: str | None = None
    ancestors: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Itself, and its ancestors, nearest first."""
        return tuple(dict.fromkeys(name for name in (self.own, *self.ancestors) if name))


def find(environ: Mapping[str, str], folder: Path) -> Lineage:
    """The lineage of a build.

    Args:
        environ: The environment; GitHub Actions, GitLab CI, Buildkite, CircleCI and Jenkins are known.
        folder: The working folder, whose git repository is asked where no CI system tells.
    """
    for variable, read in _SYSTEMS.items():
        if environ.get(variable, "").lower() not in ("", "false"):
            return read(_Variables(environ))
    return _of_git(folder)


class _Variables:
    """The environment, where what is empty is not there."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str | None:
        return self._environ.get(name) or None


def _lineage(
    branch: str | None, *, change: str | None = None, base: str | None = None, default: str | None = None
) -> Lineage:
    """Of a branch, or of a change that is proposed from it: its number and the branch it is for."""
    default = default or _USUAL_DEFAULT
    if change is None:
        return Lineage(own=branch, ancestors=(default,) if branch != default else ())
    found = dict.fromkeys(name for name in (branch, base, default) if name)
    return Lineage(own=f"pr-{change}", ancestors=tuple(found))


def _of_github(get: _Variables) -> Lineage:
    default = None
    if path := get["GITHUB_EVENT_PATH"]:
        try:
            default = json.loads(Path(path).read_text(encoding="utf-8"))["repository"]["default_branch"]
        except (OSError, ValueError, LookupError, TypeError):
            default = None
    change = re.fullmatch(r"refs/pull/([0-9]+)/.*", get["GITHUB_REF"] or "")
    if change:
        base = get["GITHUB_BASE_REF"]
        return _lineage(get["GITHUB_HEAD_REF"], change=change[1], base=base, default=_text(default))
    branch = get["GITHUB_REF_NAME"] if get["GITHUB_REF_TYPE"] != "tag" else None
    return _lineage(branch, default=_text(default))


def _of_gitlab(get: _Variables) -> Lineage:
    default = get["CI_DEFAULT_BRANCH"]
    if change := get["CI_MERGE_REQUEST_IID"]:
        branch, base = get["CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"], get["CI_MERGE_REQUEST_TARGET_BRANCH_NAME"]
        return _lineage(branch, change=change, base=base, default=default)
    return _lineage(get["CI_COMMIT_BRANCH"], default=default)


def _of_buildkite(get: _Variables) -> Lineage:
    default, change = get["BUILDKITE_PIPELINE_DEFAULT_BRANCH"], get["BUILDKITE_PULL_REQUEST"]
    branch = get["BUILDKITE_BRANCH"] if not get["BUILDKITE_TAG"] else None
    if change and change != "false":
        base = get["BUILDKITE_PULL_REQUEST_BASE_BRANCH"]
        return _lineage(branch, change=change, base=base, default=default)
    return _lineage(branch, default=default)


def _of_circleci(get: _Variables) -> Lineage:
    change = re.fullmatch(r".*/([0-9]+)", get["CIRCLE_PULL_REQUEST"] or "")
    return _lineage(get["CIRCLE_BRANCH"], change=change[1] if change else None)


def _of_jenkins(get: _Variables) -> Lineage:
    if change := get["CHANGE_ID"]:
        return _lineage(get["CHANGE_BRANCH"], change=change, base=get["CHANGE_TARGET"])
    branch = get["BRANCH_NAME"] or (get["GIT_BRANCH"] or "").removeprefix("origin/") or None
    if get["TAG_NAME"]:
        branch = None
    return _lineage(branch, default=branch if get["BRANCH_IS_PRIMARY"] == "true" else None)


_SYSTEMS: Mapping[str, Callable[[_Variables], Lineage]] = {
    "GITHUB_ACTIONS": _of_github,
    "GITLAB_CI": _of_gitlab,
    "BUILDKITE": _of_buildkite,
    "CIRCLECI": _of_circleci,
    "JENKINS_URL": _of_jenkins,
}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _of_git(folder: Path) -> Lineage:
    for parent in (folder, *folder.parents):
        if (parent / ".git").exists():
            return _of_repository(_git_folder(parent / ".git"))
    return _lineage(None)


def _of_repository(folder: Path) -> Lineage:
    # A worktree has a HEAD of its own; what is known of the remote is in the repository it belongs to.
    shared = _read(folder / "commondir")
    common = (folder / shared) if shared else folder
    default = _branch(_read(common / "refs" / "remotes" / "origin" / "HEAD"), "refs/remotes/origin/")
    return _lineage(_branch(_read(folder / "HEAD"), "refs/heads/"), default=default)


def _git_folder(path: Path) -> Path:
    """Where `.git` is a file, as in a worktree and a submodule, it says where the folder is."""
    said = _read(path) if path.is_file() else ""
    return path.parent / said.removeprefix("gitdir:").strip() if said.startswith("gitdir:") else path


def _branch(head: str, prefix: str) -> str | None:
    target = head.removeprefix("ref:").strip()
    return target.removeprefix(prefix) if head.startswith("ref:") and target.startswith(prefix) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
