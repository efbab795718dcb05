"""Arguments of a natural but wrong kind are refused, in one sentence that says what to write."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.errors import ImageError

PLATFORM = llb.Platform(architecture="amd64")
BASE: Any = llb.image("alpine")
DONE = BASE.run(["true"])
ANY: Any = llb
CONFIG: Any = llb.ImageConfig()
CAPABILITIES: Any = llb.Capabilities()
DIGEST = f"sha256:{'a' * 64}"

Wrong = tuple[Callable[[], object], str]

COMMANDS: list[Wrong] = [
    (lambda: BASE.run("echo hi"), r'`args` is a text, and has to be a list. Write `\["echo", "hi"\]`'),
    (lambda: BASE.run("it's"), r"""Write `\["it's"\]`"""),
    (lambda: BASE.run(b"echo hi"), "`args` is the bytes b'echo hi', and has to be a list"),
    (lambda: BASE.run(None), "`args` is None, and has to be a list"),
    (lambda: BASE.run({"sh": "-c"}), "`args` is the dict"),
    (lambda: BASE.run({"a", "b"}), "`args` is a set, which has no order"),
    (lambda: BASE.run(frozenset({"a"})), "`args` is a set"),
    (lambda: BASE.run([b"echo"]), r"`args\[0\]` is the bytes b'echo', and has to be text"),
    (lambda: BASE.run(["kill", 9]), r'`args\[1\]` is the int 9, and has to be text. Write `"9"`'),
    (lambda: BASE.run(["cat", Path("/x")]), r'`args\[1\]` is the PosixPath .*Write `"/x"`'),
    (lambda: BASE.run(["x", None]), r"`args\[1\]` is None"),
    (lambda: BASE.run([["x"]]), r"`args\[0\]` is the list"),
    (lambda: BASE.run(["x"], env="A=b"), '`env` is a text, and has to be a list'),
    (lambda: BASE.run(["x"], env=["A=b"]), '`env` has .A=b. in it, and wants names and values. Write `env={"A": "b"}`'),
    (lambda: BASE.run(["x"], env=["AB"]), "`env` has 'AB' in it"),
    (lambda: BASE.run(["x"], env=[("A", "b", "c")]), "`env` has"),
    (lambda: BASE.run(["x"], env={("A", "b")}), "`env` is a set"),
    (lambda: BASE.run(["x"], env=None), "`env` is None"),
    (lambda: BASE.run(["x"], env={"A": None}), r"`env\[0\]\[1\]` is None, and has to be text"),
    (lambda: BASE.run(["x"], env={"A": 1}), r'`env\[0\]\[1\]` is the int 1.* Write `"1"`'),
    (lambda: BASE.run(["x"], env={"A": Path("/x")}), r'Write `"/x"`'),
    (lambda: BASE.run(["x"], env={1: "a"}), r"`env\[0\]\[0\]` is the int 1"),
    (lambda: BASE.run(["x"], cwd=Path("/x")), '`cwd` is the PosixPath .* Write `"/x"`'),
    (lambda: BASE.run(["x"], cwd=None), "`cwd` is None, and has to be text"),
    (lambda: BASE.run(["x"], user=1000), '`user` is the int 1000, and has to be text. Write `"1000"`'),
    (lambda: BASE.run(["x"], mounts=llb.Tmpfs("/t")), "`mounts` is an `llb.Tmpfs`, and has to be a list"),
    (lambda: BASE.run(["x"], mounts={"/t": llb.Tmpfs("/t")}), "`mounts` is the dict"),
    (lambda: BASE.run(["x"], mounts={llb.Tmpfs("/t")}), "`mounts` is a set"),
    (lambda: BASE.run(["x"], mounts=["/t"]), r"`mounts\[0\]` is the str '/t', and has to be an `llb.Bind` or"),
    (lambda: BASE.run(["x"], mounts=[None]), r"`mounts\[0\]` is None"),
    (lambda: BASE.run(["x"], mounts=[llb.SecretEnv("A", "a")]), r"`mounts\[0\]` is an `llb.SecretEnv`"),
    (lambda: BASE.run(["x"], secret_env={"TOKEN": "id"}), "`secret_env` is the dict"),
    (lambda: BASE.run(["x"], secret_env=["TOKEN"]), r"`secret_env\[0\]` is the str .* an `llb.SecretEnv`"),
    (lambda: BASE.run(["x"], secret_env="TOKEN"), "`secret_env` is a text"),
    (lambda: BASE.run(["x"], proxy="http://proxy"), "`proxy` is the str .* has to be an `llb.ProxyEnv` or None"),
    (lambda: BASE.run(["x"], extra_hosts=["a:10.0.0.1"]), "`extra_hosts` has 'a:10.0.0.1' in it"),
    (lambda: BASE.run(["x"], extra_hosts="a:10.0.0.1"), "`extra_hosts` is a text"),
    (lambda: BASE.run(["x"], ulimits=("nofile", 1, 2)), "`ulimits` has 'nofile' in it"),
    (lambda: BASE.run(["x"], ulimits={"nofile": (1, 2)}), "`ulimits` is the dict"),
    (lambda: BASE.run(["x"], ulimits=[("nofile", "1", "2")]), r"`ulimits\[0\]\[1\]` is the str '1'"),
    (lambda: BASE.run(["x"], valid_exit_codes=1), "`valid_exit_codes` is the int 1, and has to be a list"),
    (lambda: BASE.run(["x"], valid_exit_codes=["1"]), r"`valid_exit_codes\[0\]` is the str '1'"),
    (lambda: BASE.run(["x"], valid_exit_codes=[True]), r"`valid_exit_codes\[0\]` is the bool True"),
    (lambda: BASE.run(["x"], platform="linux/arm64"), r'`platform` is the str .*`llb.Platform.parse\("linux/arm64"\)`'),
    (lambda: BASE.run(["x"], name=3), '`name` is the int 3'),
    (lambda: BASE.run(["x"], ignore_cache="no"), "`ignore_cache` is the str 'no', and has to be True or False"),
    (lambda: BASE.run(["x"], read_only_root=1), "`read_only_root` is the int 1"),
    (lambda: BASE.run(["x"], role="quiet"), "`role` is the str 'quiet'"),
    (lambda: BASE.run(["x"], hostname=None), "`hostname` is None"),
]  # fmt: skip

MOUNTS: list[Wrong] = [
    (lambda: ANY.Bind("/x", DONE), "`source` is an `llb.Exec`, and has to be an `llb.State`. .* `.root` behind it"),
    (lambda: ANY.Bind("/x", "alpine"), r'Write `llb.image\("alpine"\)` for an image'),
    (lambda: ANY.Bind("/x", None), "`source` is None"),
    (lambda: ANY.Bind(BASE, "/x"), "`target` is an `llb.State`, and has to be text"),
    (lambda: ANY.Bind(Path("/x"), BASE), '`target` is the PosixPath .* Write `"/x"`'),
    (lambda: ANY.Bind("/x", BASE, selector=None), "`selector` is None"),
    (lambda: ANY.Bind("/x", BASE, readonly="yes"), "`readonly` is the str 'yes'"),
    (lambda: ANY.Cache("/x", 1), "`id` is the int 1"),
    (lambda: ANY.Cache("/x", "id", source=DONE), "`source` is an `llb.Exec`"),
    (lambda: ANY.Tmpfs("/x", size="64m"), "`size` is the str '64m', and has to be a whole number or None"),
    (lambda: ANY.Tmpfs("/x", size=1.5), "`size` is the float 1.5"),
    (lambda: ANY.SecretFile("/x", "id", mode="0400"), "`mode` is the str '0400', .* Write `0o400`"),
    (lambda: ANY.SecretFile("/x", "id", uid="0"), "`uid` is the str '0'"),
    (lambda: ANY.SecretFile("/x", "id", optional=None), "`optional` is None"),
    (lambda: ANY.Ssh(id=None), "`id` is None"),
    (lambda: ANY.SecretEnv("A", b"id"), "`id` is the bytes"),
    (lambda: ANY.ProxyEnv(http=None), "`http` is None"),
]  # fmt: skip

FILES: list[Wrong] = [
    (lambda: ANY.mkfile("/x", 5), "`data` is the int 5, and has to be bytes or text"),
    (lambda: ANY.mkfile("/x", None), "`data` is None"),
    (lambda: ANY.mkfile("/x", ["a"]), "`data` is the list"),
    (lambda: ANY.mkfile("/x", Path("/etc/passwd")), "`data` is the PosixPath"),
    (lambda: ANY.mkfile(b"/x", b""), "`path` is the bytes"),
    (lambda: ANY.mkfile(PurePosixPath("/x"), b""), '`path` is the PurePosixPath .* Write `"/x"`'),
    (lambda: ANY.mkfile("/x", b"", "644"), "`mode` is the str '644', and has to be a whole number. Write `0o644`"),
    (lambda: ANY.mkfile("/x", b"", None), "`mode` is None"),
    (lambda: ANY.mkfile("/x", b"", True), "`mode` is the bool True"),
    (lambda: ANY.mkfile("/x", b"", owner="root:root"), r'`owner` is the str .* Write `llb.Owner.parse\("root:root"\)`'),
    (lambda: ANY.mkfile("/x", b"", owner=0), "`owner` is the int 0"),
    (lambda: ANY.mkfile("/x", b"", timestamp=1.5), "`timestamp` is the float 1.5"),
    (lambda: ANY.mkdir(None), "`path` is None"),
    (lambda: ANY.mkdir("/x", parents="yes"), "`parents` is the str 'yes'"),
    (lambda: ANY.rm(Path("/x")), '`path` is the PosixPath .* Write `"/x"`'),
    (lambda: ANY.rm(["/x", "/y"]), "`path` is the list"),
    (lambda: ANY.symlink("/a", None), "`newpath` is None"),
    (lambda: ANY.copy(DONE, "/a", "/b"), "`source` is an `llb.Exec`.* write `.root`"),
    (lambda: ANY.copy("/a", "/b", "/c"), r'`source` is the str .* Write `llb.image\("/a"\)`'),
    (lambda: ANY.copy(BASE, ["/a"], "/b"), "`src` is the list"),
    (lambda: ANY.copy(BASE, Path("/a"), "/b"), '`src` is the PosixPath .* Write `"/a"`'),
    (lambda: ANY.copy(BASE, "/a", "/b", include="*.py"), r'`include` is a text, .* Write `\["\*.py"\]`'),
    (lambda: ANY.copy(BASE, "/a", "/b", exclude={"a"}), "`exclude` is a set, which has no order"),
    (lambda: ANY.copy(BASE, "/a", "/b", required=None), "`required` is None"),
    (lambda: ANY.copy(BASE, "/a", "/b", include=[1]), r"`include\[0\]` is the int 1"),
    (lambda: ANY.copy(BASE, "/a", "/b", mode="u+x"), "`mode` is the str 'u.x'"),
    (lambda: ANY.copy(BASE, "/a", "/b", mode_str=0o755), "`mode_str` is the int 493"),
    (lambda: ANY.copy(BASE, "/a", "/b", wildcard="*"), "`wildcard` is the str"),
    (lambda: BASE.file([llb.mkdir("/x")]), r"Write `.file\(\*actions\)`"),
    (lambda: BASE.file(BASE), r"`actions\[0\]` is an `llb.State`"),
    (lambda: BASE.file("mkdir /x"), r"`actions\[0\]` is the str"),
    (lambda: BASE.file(llb.mkdir("/x"), name=b"x"), "`name` is the bytes"),
    (lambda: ANY.Owner(user=1.0), "`user` is the float 1.0"),
    (lambda: ANY.Owner(user=True), "`user` is the bool True"),
    (lambda: ANY.Owner(user="app", lookup=DONE), "`lookup` is an `llb.Exec`"),
    (lambda: ANY.Owner.parse(1000), '`text` is the int 1000, and has to be text. Write `"1000"`'),
]  # fmt: skip

SOURCES: list[Wrong] = [
    (lambda: ANY.image(None), "`ref` is None"),
    (lambda: ANY.image(llb.ImageReference.parse("alpine")), "`ref` is an `llb.ImageReference`, and has to be text"),
    (lambda: ANY.image(b"alpine"), "`ref` is the bytes"),
    (lambda: ANY.image("alpine", platform="arm64"), r'Write `llb.Platform.parse\("arm64"\)`'),
    (lambda: ANY.image("alpine", layer_limit="1"), "`layer_limit` is the str '1'"),
    (lambda: ANY.image("alpine", layer_limit=True), "`layer_limit` is the bool True"),
    (lambda: ANY.image("alpine", checksum=b"x"), "`checksum` is the bytes"),
    (lambda: ANY.image("alpine", name=1), "`name` is the int 1"),
    (lambda: ANY.oci_layout("store", None), "`digest` is None"),
    (lambda: ANY.oci_layout(Path("/store"), DIGEST), "`store` is the PosixPath"),
    (lambda: ANY.local(Path("/src")), '`name` is the PosixPath .* Write `"/src"`'),
    (lambda: ANY.local("src", include="*.py"), r'`include` is a text, and has to be a list. Write `\["\*.py"\]`'),
    (lambda: ANY.local("src", exclude="node_modules"), r'Write `\["node_modules"\]`'),
    (lambda: ANY.local("src", follow="link"), r'Write `\["link"\]`'),
    (lambda: ANY.local("src", include={"a", "b"}), "`include` is a set"),
    (lambda: ANY.local("src", include={"a": True}), "`include` is the dict"),
    (lambda: ANY.local("src", exclude=[Path("a")]), r'`exclude\[0\]` is the PosixPath .* Write `"a"`'),
    (lambda: ANY.local("src", session=None), "`session` is None"),
    (lambda: ANY.local("src", metadata_only="yes"), "`metadata_only` is the str"),
    (lambda: ANY.git(Path("repo")), "`url` is the PosixPath"),
    (lambda: ANY.git("https://e.example/r", ref=None), "`ref` is None"),
    (lambda: ANY.git("https://e.example/r", keep_git_dir="no"), "`keep_git_dir` is the str"),
    (lambda: ANY.git("https://e.example/r", ssh=True), "`ssh` is the bool True"),
    (lambda: ANY.http(b"https://e.example/r"), "`url` is the bytes"),
    (lambda: ANY.http("https://e.example/r", mode="0644"), "`mode` is the str '0644', .* Write `0o644`"),
    (lambda: ANY.http("https://e.example/r", uid="1"), "`uid` is the str '1'"),
]  # fmt: skip

GRAPHS: list[Wrong] = [
    (lambda: ANY.marshal(DONE, platform=PLATFORM), "`state` is an `llb.Exec`, .* write `.root` behind it"),
    (lambda: ANY.marshal(None, platform=PLATFORM), "`state` is None"),
    (lambda: ANY.marshal("alpine", platform=PLATFORM), r'Write `llb.image\("alpine"\)`'),
    (lambda: ANY.marshal(BASE, platform="linux/amd64"), r'Write `llb.Platform.parse\("linux/amd64"\)`'),
    (lambda: ANY.marshal(BASE, platform=None), "`platform` is None"),
    (lambda: ANY.merge(BASE), "`states` is an `llb.State`, and has to be a list"),
    (lambda: ANY.merge([BASE, DONE]), r"`layers\[1\]` is an `llb.Exec`.* write `.root`"),
    (lambda: ANY.merge({BASE, llb.image("debian")}), "`states` is a set, which has no order"),
    (lambda: ANY.merge([BASE, None]), r"`layers\[1\]` is None"),
    (lambda: ANY.merge(["alpine"]), r"`layers\[0\]` is the str"),
    (lambda: ANY.diff(DONE, BASE), "`lower` is an `llb.Exec`"),
    (lambda: ANY.diff(BASE, DONE), "`upper` is an `llb.Exec`"),
    (lambda: ANY.diff(llb.scratch(), DONE), "`upper` is an `llb.Exec`"),
    (lambda: ANY.State("alpine"), "`op` is the str 'alpine'"),
    (lambda: ANY.State(BASE.op, "0"), "`index` is the str '0'"),
    (lambda: ANY.Exec(BASE.op), "`op` is an `llb.SourceOp`"),
    (lambda: ANY.dump(BASE), "`definition` is an `llb.State`, and has to be an `llb.Definition`"),
    (lambda: ANY.dump(llb.marshal(BASE, platform=PLATFORM).to_wire()), "`definition` is the Definition"),
    (lambda: ANY.parse(b"[]"), "`text` is the bytes"),
    (lambda: ANY.parse([]), "`text` is the list"),
    (lambda: ANY.from_definition(BASE), "`definition` is an `llb.State`"),
    (lambda: ANY.from_definition(llb.marshal(BASE, platform=PLATFORM).to_wire()), "`definition` is the Definition"),
    (lambda: ANY.from_definition(llb.marshal(BASE, platform=PLATFORM), DIGEST), "`output` is the str"),
]  # fmt: skip

WORDS: list[Wrong] = [
    (lambda: ANY.Platform(architecture=None), "`architecture` is None"),
    (lambda: ANY.Platform(architecture=64), '`architecture` is the int 64'),
    (lambda: ANY.Platform(os_features="win32k"), "`os_features` is the str 'win32k', and has to be a tuple"),
    (lambda: ANY.Platform.parse(None), "`text` is None"),
    (lambda: ANY.Platform.parse(PLATFORM), "`text` is an `llb.Platform`, and has to be text"),
    (lambda: ANY.ImageReference.parse(None), "`text` is None"),
    (lambda: ANY.ImageReference.parse("alpine").with_digest(None), "`digest` is None"),
    (lambda: CONFIG.with_cmd("python app.py"), r'`args` is a text, .* Write `\["python", "app.py"\]`'),
    (lambda: CONFIG.with_entrypoint("python"), r'Write `\["python"\]`'),
    (lambda: CONFIG.with_shell("/bin/bash -c"), r'Write `\["/bin/bash", "-c"\]`'),
    (lambda: CONFIG.with_cmd({"a"}), "`args` is a set"),
    (lambda: CONFIG.with_cmd(["a", 1]), r"`args\[1\]` is the int 1"),
    (lambda: CONFIG.with_cmd(None), "`args` is None"),
    (lambda: CONFIG.with_env("A", 1), '`value` is the int 1, and has to be text. Write `"1"`'),
    (lambda: CONFIG.with_env({"A": "b"}, ""), "`key` is the dict"),
    (lambda: CONFIG.without_env(["A"]), "`names` is the list"),
    (lambda: CONFIG.with_user(1000), '`user` is the int 1000, and has to be text. Write `"1000"`'),
    (lambda: CONFIG.with_working_dir(Path("/x")), '`path` is the PosixPath .* Write `"/x"`'),
    (lambda: CONFIG.with_label("a", None), "`value` is None"),
    (lambda: CONFIG.with_exposed_ports(8080), "`ports` is the int 8080"),
    (lambda: CONFIG.with_exposed_ports("80/tcp", ["81/tcp"]), "`ports` is the list"),
    (lambda: CONFIG.with_volumes(["/x"]), "`paths` is the list"),
    (lambda: CONFIG.with_stop_signal(15), '`signal` is the int 15, .* Write `"15"`'),
    (lambda: CONFIG.with_history(None), "`created_by` is None"),
    (lambda: CONFIG.to_json("linux/amd64"), r'Write `llb.Platform.parse\("linux/amd64"\)`'),
    (lambda: ANY.ImageConfig.empty(None), "`platform` is None"),
    (lambda: ANY.Capabilities(["mergeop"]), "`enabled` is the list"),
    (lambda: CAPABILITIES.missing("mergeop"), r'`capabilities` is the str'),
    (lambda: CAPABILITIES.require_all("mergeop"), "`capabilities` is the str"),
    (lambda: CAPABILITIES.require(["mergeop"]), "`capability` is the list"),
    (lambda: CAPABILITIES.supports(None), "`capability` is None"),
]  # fmt: skip

TYPES = [*COMMANDS, *MOUNTS, *FILES, *SOURCES, *GRAPHS, *WORDS]

VALUES: list[Wrong] = [
    (lambda: BASE.run([]), "at least one argument"),
    (lambda: BASE.run(iter(())), "at least one argument"),
    (lambda: BASE.run(["a\0b"]), r"`args\[0\]` is 'a\\x00b', which cannot be sent"),
    (lambda: BASE.run(["\udc80"]), r"`args\[0\]` is '\\udc80', which cannot be sent"),
    (lambda: BASE.run(["x"], env={"A": "\0"}), "cannot be sent"),
    (lambda: BASE.run(["x"], env={"": "a"}), "`` cannot be the name of a variable"),
    (lambda: BASE.run(["x"], env={"A=B": "a"}), "`A=B` cannot be the name of a variable"),
    (lambda: BASE.run(["x"], cwd="work"), "an absolute path, and not `work`"),
    (lambda: BASE.run(["x"], cwd=""), "working directory"),
    (lambda: BASE.run(["x"], network="bridge"), "`network` is 'bridge', .* one of `default`, `host`, `none`"),
    (lambda: BASE.run(["x"], network=None), "`network` is None, and has to be one of"),
    (lambda: BASE.run(["x"], security="privileged"), "`security` is 'privileged'"),
    (lambda: BASE.run(["x"], mounts=[llb.Tmpfs("tmp")]), "`tmp` is not an absolute path"),
    (lambda: BASE.run(["x"], valid_exit_codes=[256]), "cannot end with the exit code 256"),
    (lambda: BASE.run(["x"], valid_exit_codes=[-1]), "cannot end with the exit code -1"),
    (lambda: ANY.Cache("/x", "id", sharing="exclusive"), "`sharing` is 'exclusive', and has to be one of `shared`"),
    (lambda: ANY.Tmpfs("/x", size=-1), "cannot hold -1 bytes"),
    (lambda: ANY.SecretFile("/x", "id", mode=0o10400), "is not a mode"),
    (lambda: ANY.SecretFile("/x", "id", uid=-1), "cannot belong to -1:0"),
    (lambda: ANY.Ssh(gid=-5), "cannot belong to 0:-5"),
    (lambda: ANY.mkfile("/x", b"", 644), "0o1204 is not a mode: modes are octal. Write `mode=0o644`"),
    (lambda: ANY.mkdir("/x", 755), "Write `mode=0o755`"),
    (lambda: ANY.copy(BASE, "/a", "/b", mode=755), "Write `mode=0o755`"),
    (lambda: ANY.mkdir("/x", -1), "is not a mode"),
    (lambda: ANY.mkfile("/x", "\udc80"), "`data` is text that is not valid Unicode"),
    (lambda: ANY.mkfile("", b""), "The path is empty"),
    (lambda: ANY.mkdir(""), "The path is empty"),
    (lambda: ANY.rm(""), "The path is empty"),
    (lambda: ANY.symlink("", "/x"), "The path is empty"),
    (lambda: ANY.symlink("/x", ""), "The path is empty"),
    (lambda: ANY.mkfile("/a\0b", b""), "cannot be sent"),
    (lambda: ANY.Owner(user="a:b"), r"Write `llb.Owner.parse\("),
    (lambda: ANY.Owner(user=""), "is not a user or a group"),
    (lambda: ANY.Owner(user=-1), "-1 is not the number of a user"),
    (lambda: ANY.Owner(group=2**32), "is not the number of a user"),
    (lambda: ANY.image("alpine", resolve_mode="always"), "`resolve_mode` is 'always', and has to be one of `default`"),
    (lambda: ANY.local("src", differ="size"), "`differ` is 'size', and has to be one of `none`, `metadata`"),
    (lambda: ANY.http("https://e.example/r", mode=644), "is not a mode that a downloaded file can have"),
    (lambda: ANY.Platform(architecture="linux/arm64"), r"`linux/arm64` is a whole platform. Write `llb.Platform.parse"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "says"), TYPES)
def test_a_wrong_type_is_refused_at_once(wrong: Callable[[], object], says: str) -> None:
    """By the function that was called, before anything is marshalled, and in one line."""
    with pytest.raises(TypeError, match=says) as caught:
        wrong()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("wrong", "says"), VALUES)
def test_a_senseless_value_is_refused_at_once(wrong: Callable[[], object], says: str) -> None:
    """Where the type is right, but what it says is not."""
    with pytest.raises(ValueError, match=says):
        wrong()


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ("run", "`.root.run`"),
        ("file", "`.root.file`"),
        ("index", "`.root.index`"),
    ],
)
def test_a_command_is_not_yet_a_tree(member: str, says: str) -> None:
    """What is asked of it is asked of its root."""
    with pytest.raises(AttributeError, match=re.escape(says)):
        getattr(DONE, member)
    with pytest.raises(AttributeError, match=r"a command has no `nonsense`$"):
        _ = ANY.image("alpine").run(["x"]).nonsense
    assert not hasattr(DONE, "__iter__")


def test_what_can_be_meant_in_one_way_only_is_taken() -> None:
    """Mappings for pairs, lists for tuples, iterators, text for a file's content, buffers of bytes."""
    words = ["sh", "-c", "true"]
    pairs = {"A": "b", "C": "d"}
    one = BASE.run(
        tuple(words), env=tuple(pairs.items()), mounts=(llb.Tmpfs("/t"),), extra_hosts=(("h", "10.0.0.1"),),
        ulimits=(("nofile", 1, 2),), valid_exit_codes=(0, 3), secret_env=(llb.SecretEnv("S", "s"),),
    )  # fmt: skip
    for make in (list, iter, lambda items: (item for item in items)):
        assert one == BASE.run(
            make(words), env=pairs, mounts=make([llb.Tmpfs("/t")]), extra_hosts=MappingProxyType({"h": "10.0.0.1"}),
            ulimits=make([["nofile", 1, 2]]), valid_exit_codes=make([0, 3]), secret_env=make([llb.SecretEnv("S", "s")]),
        )  # fmt: skip
    assert one == BASE.run(
        dict.fromkeys(words).keys(), env=list(map(list, pairs.items())), mounts=[llb.Tmpfs("/t")],
        extra_hosts={"h": "10.0.0.1"}, ulimits=[("nofile", 1, 2)], valid_exit_codes=range(0, 4, 3),
        secret_env=[llb.SecretEnv("S", "s")],
    )  # fmt: skip
    text = "naïve\n"
    files = {
        llb.scratch().file(ANY.mkfile("/x", data))
        for data in (text, text.encode(), bytearray(text.encode()), memoryview(text.encode()))
    }
    assert 1 == len(files)
    assert llb.merge(iter([BASE, llb.scratch()])) == BASE
    assert ANY.local("s", include=iter(["a"])) == ANY.local("s", include=("a",))
    assert ANY.local("s", include=iter(())) == ANY.local("s")
    assert ANY.copy(BASE, "/", "/x", include=iter("ab")) == llb.copy(BASE, "/", "/x", include=["a", "b"])
    assert ["a"] == list(CONFIG.with_cmd(iter(["a"])).cmd)


def test_what_is_handed_in_can_be_changed_afterwards() -> None:
    """A graph is a value: what a list or a buffer holds later is no part of it."""
    args, env, data = ["echo"], {"A": "b"}, bytearray(b"x")
    state = BASE.run(args, env=env).root.file(ANY.mkfile("/x", data))
    before = llb.marshal(state, platform=PLATFORM)
    args.append("more")
    env["C"] = "d"
    data += b"y"

    assert before == llb.marshal(state, platform=PLATFORM)


def _public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every function, constructor and method that people call."""
    for name in llb.__all__:
        found = getattr(llb, name)
        if inspect.isfunction(found):
            yield name, found
        elif inspect.isclass(found):
            if dataclasses.is_dataclass(found):
                yield name, found
            for member, attribute in vars(found).items():
                function = getattr(attribute, "__func__", attribute)
                if inspect.isfunction(function) and not member.startswith("_"):
                    yield f"{name}.{member}", function


WILD: Any = object()
# What is no input of people's: it comes from the daemon's messages, or from the operations themselves.
TAKEN_AS_IT_IS = {
    "Definition", "Definition.from_wire", "Definition.op", "Definition.metadata_of", "Definition.command",
    "Definition.title", "Platform.from_wire", "ImageConfig.parse", "Owner.encode", "ImageReference", "ImageConfig",
    "Role", "Copy.encode",
}  # fmt: skip


def test_every_parameter_of_every_public_function_is_held() -> None:
    """Handed something that it cannot be, each raises `TypeError` and names the parameter."""
    silent: list[str] = []
    for name, function in _public():
        if name in TAKEN_AS_IT_IS:
            continue
        signature = inspect.signature(function)
        for parameter in signature.parameters.values():
            if parameter.name in ("self", "cls") or _names_it(name, function, signature, parameter):
                continue
            silent.append(f"{name}({parameter.name})")

    assert [] == silent


RIGHT: dict[str, Any] = {
    "self": None, "args": ["x"], "path": "/x", "data": b"", "source": BASE, "src": "/a", "dst": "/b", "ref": "alpine",
    "store": "store", "digest": DIGEST, "name": "n", "url": "https://e.example/r", "state": BASE, "platform": PLATFORM,
    "states": [BASE], "lower": BASE, "upper": BASE, "definition": llb.marshal(BASE, platform=PLATFORM), "text": "x",
    "target": "/x", "id": "id", "op": None, "oldpath": "/a", "newpath": "/b", "key": "k", "value": "v", "user": "u",
    "signal": "s", "created_by": "c", "capability": "c", "capabilities": ["c"], "names": "n", "ports": "1/tcp",
    "paths": "/x", "actions": llb.mkdir("/x"),
}  # fmt: skip
SELF = {"State": BASE, "Exec": DONE, "ImageConfig": CONFIG, "Capabilities": CAPABILITIES,
        "ImageReference": llb.ImageReference.parse("alpine"), "Platform": PLATFORM,
        "Owner": llb.Owner(user=0)}  # fmt: skip


def _names_it(
    name: str, function: Callable[..., Any], signature: inspect.Signature, parameter: inspect.Parameter
) -> bool:
    """Whether the parameter is named by what is raised when it is handed an object of no use."""
    owner, args, kwargs = name.partition(".")[0], list[Any](), dict[str, Any]()
    for each in signature.parameters.values():
        value = WILD if each is parameter else RIGHT.get(each.name)
        if each.name in ("self", "cls"):
            args.append(SELF[owner] if each.name == "self" else getattr(llb, owner))
        elif each.kind is each.VAR_POSITIONAL:
            args.append(value)
        elif each is parameter or each.default is each.empty:
            kwargs[each.name] = value
    with pytest.raises((TypeError, ValueError, ImageError)) as caught:
        function(*args, **kwargs)
    # What is merged are layers.
    named = "layers" if parameter.name == "states" and "layers" in str(caught.value) else parameter.name
    return f"`{named}" in str(caught.value)
