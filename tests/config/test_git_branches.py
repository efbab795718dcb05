"""Which branch is built: what CI systems say, and what git's own files say where there is none."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from buildkit_builder.config import Lineage, git_branches


def test_a_branch_on_github(tmp_path: Path) -> None:
    """The branch is a variable; which one is the default stands in the event's file."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"repository": {"default_branch": "trunk"}}))
    environ = {
        "GITHUB_ACTIONS": "true", "GITHUB_REF": "refs/heads/feature/x", "GITHUB_REF_NAME": "feature/x",
        "GITHUB_REF_TYPE": "branch", "GITHUB_EVENT_PATH": str(event),
    }  # fmt: skip

    assert Lineage(own="feature/x", ancestors=("trunk",)) == git_branches.find(environ, tmp_path)


@pytest.mark.parametrize("content", [None, "", "[]", '{"repository": 1}', '{"repository": {"default_branch": 7}}'])
def test_an_event_that_tells_nothing(tmp_path: Path, content: str | None) -> None:
    """Without a default branch to be had, it is taken to be the usual one."""
    event = tmp_path / "event.json"
    if content is not None:
        event.write_text(content)
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "x", "GITHUB_EVENT_PATH": str(event)}

    assert ("x", "main") == git_branches.find(environ, tmp_path).names


CHANGES = {
    "github": {
        "GITHUB_ACTIONS": "true", "GITHUB_REF": "refs/pull/7/merge", "GITHUB_REF_NAME": "7/merge",
        "GITHUB_HEAD_REF": "mine", "GITHUB_BASE_REF": "release",
    },
    "gitlab": {
        "GITLAB_CI": "true", "CI_MERGE_REQUEST_IID": "7", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "mine",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "release", "CI_DEFAULT_BRANCH": "main",
    },
    "buildkite": {
        "BUILDKITE": "true", "BUILDKITE_PULL_REQUEST": "7", "BUILDKITE_BRANCH": "mine",
        "BUILDKITE_PULL_REQUEST_BASE_BRANCH": "release",
    },
    "jenkins": {
        "JENKINS_URL": "https://ci.example/", "CHANGE_ID": "7", "CHANGE_BRANCH": "mine", "CHANGE_TARGET": "release",
        "BRANCH_NAME": "PR-7",
    },
}  # fmt: skip


@pytest.mark.parametrize("environ", CHANGES.values(), ids=CHANGES)
def test_a_proposed_change(environ: dict[str, str], tmp_path: Path) -> None:
    """It is told by its number, since its branch may be named as another's; it comes from that and its target."""
    assert Lineage(own="pr-7", ancestors=("mine", "release", "main")) == git_branches.find(environ, tmp_path)


BRANCHES = {
    "gitlab": {"GITLAB_CI": "true", "CI_COMMIT_BRANCH": "mine", "CI_DEFAULT_BRANCH": "trunk"},
    "buildkite": {
        "BUILDKITE": "true", "BUILDKITE_BRANCH": "mine", "BUILDKITE_PULL_REQUEST": "false",
        "BUILDKITE_PIPELINE_DEFAULT_BRANCH": "trunk",
    },
    "circleci": {"CIRCLECI": "true", "CIRCLE_BRANCH": "mine"},
    "jenkins": {"JENKINS_URL": "https://ci.example/", "BRANCH_NAME": "mine"},
    "jenkins without branches": {"JENKINS_URL": "https://ci.example/", "GIT_BRANCH": "origin/mine"},
}  # fmt: skip


@pytest.mark.parametrize("environ", BRANCHES.values(), ids=BRANCHES)
def test_a_branch(environ: dict[str, str], tmp_path: Path) -> None:
    """The branch comes first, then the default one, which is the usual one where the system does not say."""
    default = "trunk" if "trunk" in environ.values() else "main"

    assert Lineage(own="mine", ancestors=(default,)) == git_branches.find(environ, tmp_path)


def test_a_change_on_circleci(tmp_path: Path) -> None:
    """The number is the end of an address."""
    environ = {"CIRCLECI": "true", "CIRCLE_BRANCH": "mine", "CIRCLE_PULL_REQUEST": "https://git.example/o/r/pull/7"}

    assert Lineage(own="pr-7", ancestors=("mine", "main")) == git_branches.find(environ, tmp_path)


def test_the_primary_branch_on_jenkins(tmp_path: Path) -> None:
    """It is its own default."""
    environ = {"JENKINS_URL": "https://ci.example/", "BRANCH_NAME": "trunk", "BRANCH_IS_PRIMARY": "true"}

    assert Lineage(own="trunk") == git_branches.find(environ, tmp_path)


TAGS = {
    "github": {"GITHUB_ACTIONS": "true", "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1"},
    "gitlab": {"GITLAB_CI": "true", "CI_COMMIT_TAG": "v1", "CI_COMMIT_REF_NAME": "v1"},
    "buildkite": {"BUILDKITE": "true", "BUILDKITE_BRANCH": "v1", "BUILDKITE_TAG": "v1"},
    "circleci": {"CIRCLECI": "true", "CIRCLE_TAG": "v1"},
    "jenkins": {"JENKINS_URL": "https://ci.example/", "BRANCH_NAME": "v1", "TAG_NAME": "v1"},
}


@pytest.mark.parametrize("environ", TAGS.values(), ids=TAGS)
def test_a_tag_is_no_branch(environ: dict[str, str], tmp_path: Path) -> None:
    """A tag is built once: it has ancestors, and nothing of its own."""
    assert Lineage(ancestors=("main",)) == git_branches.find(environ, tmp_path)


def test_a_system_that_is_switched_off(tmp_path: Path) -> None:
    """An empty variable, and one that says false, name no system."""
    environ = {"GITHUB_ACTIONS": "", "GITLAB_CI": "false", "GITHUB_REF_NAME": "x"}

    assert Lineage(ancestors=("main",)) == git_branches.find(environ, tmp_path)


# --- git ---


def git(folder: Path, *words: str) -> None:
    """Runs git in a folder, with nobody's configuration."""
    environ = {
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": str(folder),
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }  # fmt: skip
    subprocess.run(["git", *words], cwd=folder, env=environ, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a repository whose default branch is `trunk`, on a branch of its own."""
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "trunk")
    git(origin, "commit", "-q", "--allow-empty", "-m", "one")
    git(tmp_path, "clone", "-q", "origin", "clone")
    git(tmp_path / "clone", "checkout", "-q", "-b", "team/mine")
    return tmp_path / "clone"


def test_a_clone(clone: Path) -> None:
    """The branch is that of HEAD, the default one that of the remote, in a folder below as well."""
    (clone / "deep" / "er").mkdir(parents=True)

    assert Lineage(own="team/mine", ancestors=("trunk",)) == git_branches.find({}, clone / "deep" / "er")


def test_a_worktree(clone: Path) -> None:
    """It has a HEAD of its own, and the remote of the repository it belongs to."""
    git(clone, "worktree", "add", "-q", "-b", "other", "../worktree")

    assert Lineage(own="other", ancestors=("trunk",)) == git_branches.find({}, clone.parent / "worktree")


def test_a_detached_head(clone: Path) -> None:
    """It is no branch."""
    git(clone, "checkout", "-q", "--detach")

    assert Lineage(ancestors=("trunk",)) == git_branches.find({}, clone)


def test_no_repository(tmp_path: Path) -> None:
    """Nothing tells then."""
    assert Lineage(ancestors=("main",)) == git_branches.find({}, tmp_path)


@pytest.mark.parametrize("content", ["", "gitdir: nowhere", "\x00\xff", "ref: refs/tags/v1"])
def test_a_broken_repository(tmp_path: Path, content: str) -> None:
    """Files that are not what they should be tell nothing, and are no error."""
    (tmp_path / ".git").write_text(content, encoding="latin-1")

    assert Lineage(ancestors=("main",)) == git_branches.find({}, tmp_path)
