from __future__ import annotations

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.wire import ops_pb2
from tests.buildkit.llb.graphs import capabilities, last_op

BASE = llb.image("alpine")
CODE = llb.local("code")


def actions(state: llb.State) -> list[ops_pb2.FileAction]:
    """The actions of a file vertex."""
    return list(last_op(state).file.actions)


def named(name: str, index: int) -> ops_pb2.UserOpt:
    """A user to be looked up in an input."""
    return ops_pb2.UserOpt(byName=ops_pb2.NamedUserOpt(name=name, input=index))


def test_a_copy_says_all_of_itself() -> None:
    """Every option of a copy is a field of its action."""
    state = BASE.file(
        llb.copy(
            CODE,
            "/src",
            "/dst",
            owner=llb.Owner(user=1, group=2),
            mode=0o4755,
            follow_symlinks=True,
            contents_only=True,
            unpack=True,
            create_dest=True,
            wildcard=True,
            allow_empty_wildcard=True,
            include=["*.py"],
            exclude=["*.pyc"],
            timestamp=5,
            replace=True,
            required=["a.py"],
        )
    )

    assert [
        ops_pb2.FileAction(
            input=0,
            secondaryInput=1,
            output=0,
            copy=ops_pb2.FileActionCopy(
                src="/src",
                dest="/dst",
                owner=ops_pb2.ChownOpt(user=ops_pb2.UserOpt(byID=1), group=ops_pb2.UserOpt(byID=2)),
                mode=0o4755,
                followSymlink=True,
                dirCopyContents=True,
                attemptUnpackDockerCompatibility=True,
                createDestPath=True,
                allowWildcard=True,
                allowEmptyWildcard=True,
                timestamp=5,
                include_patterns=["*.py"],
                exclude_patterns=["*.pyc"],
                alwaysReplaceExistingDestPaths=True,
                required_paths=["a.py"],
            ),
        )
    ] == actions(state)
    assert {
        "file.base",
        "file.copy.includeexcludepatterns",
        "file.copy.alwaysreplaceexistingdestpaths",
        "file.copy.requiredpaths",
    } == capabilities(state)


def test_a_plain_copy_leaves_mode_and_time() -> None:
    """What is not said is -1, because 0 would be a mode and a time."""
    state = BASE.file(llb.copy(CODE, "/a", "/b"))

    assert [ops_pb2.FileActionCopy(src="/a", dest="/b", mode=-1, timestamp=-1)] == [
        action.copy for action in actions(state)
    ]
    assert {"file.base"} == capabilities(state)


def test_a_copy_may_change_modes_in_words() -> None:
    """A mode in words replaces the number, and shows among what the definition needs but not on the wire."""
    state = BASE.file(llb.copy(CODE, "/a", "/b", mode_str="u+x"))

    assert ("u+x", 0) == (actions(state)[0].copy.modeStr, actions(state)[0].copy.mode)
    assert {"file.base"} == capabilities(state)
    assert "file.copy.modestring" in llb.marshal(state, platform=llb.Platform()).capabilities


@pytest.mark.parametrize(
    ("written", "meant"),
    [("b", "/b"), ("/b/", "/b/"), ("/b/.", "/b/."), ("/", "/"), ("/.", "/."), ("/a/../b/", "/b/"), ("//b", "/b")],
)
def test_the_end_of_a_destination_is_kept(written: str, meant: str) -> None:
    """Destinations become absolute, but a slash or dot at the end says that a directory is meant."""
    assert meant == actions(BASE.file(llb.copy(CODE, "/a", written)))[0].copy.dest


@pytest.mark.parametrize(("written", "meant"), [("a", "/a"), ("/a/", "/a"), (".", "/"), ("../a", "/a"), ("//a", "/a")])
def test_sources_become_absolute(written: str, meant: str) -> None:
    """Paths in the source are from its root."""
    assert meant == actions(BASE.file(llb.copy(CODE, written, "/b")))[0].copy.src


def test_copying_from_scratch_copies_nothing() -> None:
    """An empty source is no input."""
    state = BASE.file(llb.copy(llb.scratch(), "/", "/b"))

    assert (0, -1) == (actions(state)[0].input, actions(state)[0].secondaryInput)
    assert 1 == len(last_op(state).inputs)


def test_a_file_is_made() -> None:
    """A file has content, mode, owner and time."""
    state = BASE.file(llb.mkfile("etc/motd", b"\xff", 0o600, owner=llb.Owner(user=0), timestamp=0))

    assert [
        ops_pb2.FileAction(
            input=0,
            secondaryInput=-1,
            output=0,
            mkfile=ops_pb2.FileActionMkFile(
                path="/etc/motd",
                mode=0o600,
                data=b"\xff",
                owner=ops_pb2.ChownOpt(user=ops_pb2.UserOpt(byID=0)),
            ),
        )
    ] == actions(state)


def test_a_directory_is_made() -> None:
    """A directory has a mode, perhaps parents, an owner and a time."""
    state = llb.scratch().file(llb.mkdir("/a/b", 0o700, parents=True, owner=llb.Owner(group=5)))

    assert [
        ops_pb2.FileAction(
            input=-1,
            secondaryInput=-1,
            output=0,
            mkdir=ops_pb2.FileActionMkDir(
                path="/a/b",
                mode=0o700,
                makeParents=True,
                owner=ops_pb2.ChownOpt(group=ops_pb2.UserOpt(byID=5)),
                timestamp=-1,
            ),
        )
    ] == actions(state)


def test_a_path_is_removed() -> None:
    """A removal may be of a pattern, and of what is not there."""
    state = BASE.file(llb.rm("/tmp/*", allow_not_found=True, wildcard=True))

    assert [ops_pb2.FileActionRm(path="/tmp/*", allowNotFound=True, allowWildcard=True)] == [
        action.rm for action in actions(state)
    ]
    assert {"file.base", "file.rm.wildcard"} == capabilities(state)


def test_a_link_is_made() -> None:
    """The text of a link stays as written; where it is made becomes absolute."""
    state = BASE.file(llb.symlink("../target", "usr/link", owner=llb.Owner.parse("a", lookup=CODE)))

    assert [
        ops_pb2.FileActionSymlink(
            oldpath="../target", newpath="/usr/link", owner=ops_pb2.ChownOpt(user=named("a", 1)), timestamp=-1
        )
    ] == [action.symlink for action in actions(state)]
    assert {"file.base", "file.symlink.create"} == capabilities(state)


def test_actions_of_one_vertex_follow_each_other() -> None:
    """Each action works on the result of the one before; indexes count on from the inputs, and the last is output."""
    other = llb.local("other")
    state = BASE.file(
        llb.mkdir("/a"), llb.copy(CODE, "/x", "/a/x"), llb.copy(other, "/y", "/a/y"), llb.copy(CODE, "/z", "/a/z")
    )

    assert 3 == len(last_op(state).inputs)
    assert [(0, -1, -1), (3, 1, -1), (4, 2, -1), (5, 1, 0)] == [
        (action.input, action.secondaryInput, action.output) for action in actions(state)
    ]


def test_actions_on_scratch_count_from_what_they_read() -> None:
    """Without a base the first action has no input, and results count on from the other inputs."""
    state = llb.scratch().file(llb.mkdir("/a"), llb.copy(CODE, "/x", "/a/x"))

    assert [(-1, -1, -1), (1, 0, 0)] == [
        (action.input, action.secondaryInput, action.output) for action in actions(state)
    ]


def test_copying_from_the_changed_state_shares_its_input() -> None:
    """A copy within one tree reads the tree as it was before."""
    state = BASE.file(llb.mkdir("/a"), llb.copy(BASE, "/etc", "/a"))

    assert [(0, -1), (1, 0)] == [(action.input, action.secondaryInput) for action in actions(state)]


def test_names_are_looked_up_in_the_changed_state() -> None:
    """An owner's names resolve where the files go, unless another state is named."""
    users = llb.image("debian")
    state = BASE.file(
        llb.copy(CODE, "/a", "/a", owner=llb.Owner.parse("app:staff")),
        llb.copy(CODE, "/b", "/b", owner=llb.Owner("app", 7, lookup=users)),
    )

    assert [
        ops_pb2.ChownOpt(user=named("app", 0), group=named("staff", 0)),
        ops_pb2.ChownOpt(user=named("app", 2), group=ops_pb2.UserOpt(byID=7)),
    ] == [action.copy.owner for action in actions(state)]


@pytest.mark.parametrize(
    ("text", "user", "group"),
    [
        ("app", "app", None),
        ("app:staff", "app", "staff"),
        ("1000:1000", 1000, 1000),
        ("root:root", 0, 0),
        ("0", 0, None),
        ("4294967296", "4294967296", None),
        ("\uff11", "\uff11", None),
    ],
)
def test_owners_are_read_as_docker_reads_them(text: str, user: str | int, group: str | int | None) -> None:
    """Digits are numbers, `root` is 0, and all else is a name."""
    assert llb.Owner(user, group) == llb.Owner.parse(text)


@pytest.mark.parametrize("text", ["", ":", "app:", ":staff"])
def test_half_an_owner_is_refused(text: str) -> None:
    """There is a user before the colon and a group after it."""
    with pytest.raises(ValueError, match="is not an owner"):
        llb.Owner.parse(text)


def test_senseless_actions_are_refused() -> None:
    """What a daemon would misunderstand is not sent to it."""
    with pytest.raises(ValueError, match="at least one action"):
        BASE.file()
    with pytest.raises(ValueError, match="names a user, a group or both"):
        llb.Owner()
    with pytest.raises(ValueError, match="`/etc/passwd` in scratch"):
        llb.scratch().file(llb.mkdir("/a", owner=llb.Owner.parse("app")))
    with pytest.raises(ValueError, match="either `mode` or `mode_str`"):
        llb.copy(CODE, "/a", "/b", mode=0, mode_str="u+x")
    with pytest.raises(ValueError, match="0o10000 is not a mode"):
        llb.copy(CODE, "/a", "/b", mode=0o10000)
    with pytest.raises(ValueError, match="0o4755 is not a mode"):
        llb.mkfile("/a", b"", 0o4755)
    with pytest.raises(ValueError, match="0o1777 is not a mode"):
        llb.mkdir("/a", 0o1777)
