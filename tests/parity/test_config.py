"""Variables, working directories and commands: what a Dockerfile makes of their text."""

from __future__ import annotations

from flyte import Image

from tests.parity.builders import Parity


async def test_variables(base: Image, parity: Parity) -> None:
    """Variables in their order, one that was there before, and values with signs of their own."""
    image = base.with_env_vars(
        {
            "B": "2",
            "A": "1",
            "LANG": "de_DE.UTF-8",
            "EMPTY": "",
            "PAIR": "a=b=c",
            "URL": "http://x/?a=1&b=2#c",
            "É": "ü",
        }
    )

    assert "a=b=c" == (await parity.same(image)).env["PAIR"]


async def test_references(base: Image, parity: Parity) -> None:
    """References to variables of the base, of Flyte, of earlier layers, of the same layer and to none."""
    image = base.with_env_vars({"FIRST": "1"}).with_env_vars(
        {
            "SECOND": "${FIRST}2",
            "THIRD": "$SECOND/$LANG/$UV_PYTHON",
            "NONE": "<$MISSING>",
            "OTHERWISE": "${MISSING:-other}-${FIRST:-no}-${EMPTY-unset}",
            "INSTEAD": "${FIRST:+set}${MISSING:+set}",
            "ITSELF": "$ITSELF:x",
        }
    )

    assert "12/C.UTF-8//opt/venv/bin/python" == (await parity.same(image)).env["THIRD"]


async def test_quotes(base: Image, parity: Parity) -> None:
    """Quotes and backslashes, which a Dockerfile takes away."""
    image = base.with_env_vars(
        {
            "NAME": "x y".replace(" ", ""),
            "DOUBLE": '"two words"',
            "SINGLE": "'$NAME stays'",
            "MIXED": "a'b c'\"d e\"f",
            "ESCAPED": "two\\ words\\$NAME\\\\",
            "JSON": "'{\"key\": [1, 2]}'",
            "INSIDE": '"say \\"$NAME\\""',
        }
    )

    env = (await parity.same(image)).env

    assert "two words" == env["DOUBLE"]
    assert '{"key": [1, 2]}' == env["JSON"]


async def test_path(base: Image, parity: Parity) -> None:
    """Changes of PATH, at both ends and in two layers, and what steps then find."""
    image = (
        base.with_env_vars({"PATH": "/opt/first:$PATH"})
        .with_env_vars({"PATH": "${PATH}:/opt/last", "LD_LIBRARY_PATH": "/opt/lib:$LD_LIBRARY_PATH"})
        .with_commands(
            [
                "mkdir -p /opt/first",
                "printf '#!/bin/sh\\necho mine' > /opt/first/id",
                "chmod +x /opt/first/id",
                "id > /who",
            ]
        )
    )

    assert b"mine\n" == (await parity.same(image)).tree()["who"].content


async def test_variables_that_flyte_sets(base: Image, parity: Parity) -> None:
    """What Flyte's own builder sets may be set again."""
    image = base.with_env_vars({"UV_COMPILE_BYTECODE": "0", "UV_LINK_MODE": "hardlink", "VIRTUALENV": "/elsewhere"})

    assert "/elsewhere" == (await parity.same(image)).env["VIRTUALENV"]


async def test_python_paths(base: Image, parity: Parity) -> None:
    """Another interpreter named by a variable is the one that packages would go into."""
    image = base.with_env_vars({"UV_PYTHON": "/usr/bin/python3"}).with_commands(
        ["uv pip list --python $UV_PYTHON --format=freeze > /listed"]
    )

    assert "listed" in (await parity.same(image)).tree()


async def test_working_directories(base: Image, parity: Parity) -> None:
    """Absolute, relative and upward ones, with variables, quotes and slashes too many; made where they are missing."""
    image = (
        base.with_workdir("/srv/app/")
        .with_env_vars({"PLACE": "deep/er"})
        .with_workdir("${PLACE}")
        .with_commands(["pwd > /first"])
        .with_workdir("../..//x/./y")
        .with_commands(["pwd > /second"])
        .with_workdir('"/with space/$PLACE"')
        .with_commands(["pwd > /third"])
    )

    tree = (await parity.same(image)).tree()

    assert [b"/srv/app/deep/er\n", b"/srv/app/x/y\n", b"/with space/deep/er\n"] == [
        tree[path].content for path in ("first", "second", "third")
    ]


async def test_working_directory_that_is_there(base: Image, parity: Parity) -> None:
    """Folders that are there keep their owners and modes, and a link is followed."""
    image = (
        base.with_commands(["mkdir -m 0700 /mine", "chown 1234:4321 /mine", "ln -s /mine /link"])
        .with_workdir("/mine")
        .with_workdir("/link/below")
        .with_workdir("/tmp")
        .with_workdir("/")
    )

    tree = (await parity.same(image)).tree()

    assert (0o700, 1234, 4321) == (tree["mine"].mode, tree["mine"].uid, tree["mine"].gid)


async def test_commands(base: Image, parity: Parity) -> None:
    """Pipes, quotes, variables, subshells and globs go to the shell as they are."""
    image = base.with_env_vars({"WHO": "world"}).with_commands(
        [
            "echo \"hello $WHO\" 'and $WHO' | tr a-z A-Z > /greeting",
            "for i in 1 2 3; do echo $i; done | (tac; echo end) > /numbers",
            'ls -d /etc/host* >> /listing && echo "$(id -un):$PWD:$0" >> /listing',
            "echo 'back\\\\slash' \\$HOME > /slashes; printf '%s\\n' \"tab\\there\" >> /slashes",
            "umask 077; echo x > /private; touch /was-there; rm /was-there",
        ]
    )

    tree = (await parity.same(image)).tree()

    assert b"HELLO WORLD AND $WHO\n" == tree["greeting"].content
    assert b"3\n2\n1\nend\n" == tree["numbers"].content


async def test_environment_of_commands(base: Image, parity: Parity) -> None:
    """A step sees the same variables, user, folder, descriptors' limits and networks."""
    image = base.with_workdir("/tmp").with_commands(["env | sort > /seen; id >> /seen; pwd >> /seen; umask >> /seen"])

    assert b"UV_PYTHON=/opt/venv/bin/python\n" in (await parity.same(image)).tree()["seen"].content


async def test_continued_commands(base: Image, parity: Parity) -> None:
    """Backslashes at the ends of lines join them, also with comments and empty lines between."""
    image = base.with_commands(
        [
            "echo one \\\n    two > /joined && \\\n    echo three >> /joined",
            "echo a \\\n# not this\n b > /commented",
            "echo a \\\n\n b > /spaced",
            "printf '%s' 'in \\\n quotes' > /quoted",
            "cat <<'END' > /here && echo more >> /here\nfrom $HERE\nEND",
        ]
    )

    tree = (await parity.same(image)).tree()

    assert b"one two\nthree\n" == tree["joined"].content
    assert b"a b\n" == tree["commented"].content


async def test_commands_that_make_everything(base: Image, parity: Parity) -> None:
    """Links, hard links, devices, special bits, odd names, times of old, and folders that become files."""
    image = base.with_commands(
        [
            "mkdir -p /all/sub && cd /all && echo data > file && ln file hard && ln -s file soft; ln -s /gone dead",
            "cd /all && mkfifo pipe && chmod 4755 file && chmod 1777 sub && touch -d 2001-01-01 old 'a b' \"quote'd\"",
            "cd /all && ln -f file hard && echo more >> hard && chown 1000:1000 soft -h",
            "cd /all && mkdir folder && echo x > folder/inner",
            "cd /all && rm -r folder && echo now a file > folder && rm soft && mkdir soft && echo y > soft/inner",
            "python3 -c \"import os; os.setxattr('/all/old', 'user.colour', b'blue')\"",
            "rm -rf /usr/share/doc/bash && mkdir /usr/share/doc/bash && echo only > /usr/share/doc/bash/this",
        ]
    )

    tree = (await parity.same(image)).tree("all")

    assert {"file"} == {tree["all/folder"].kind, tree["all/hard"].kind}
    assert b"data\nmore\n" == tree["all/file"].content


async def test_failing_command(base: Image, parity: Parity) -> None:
    """A command that fails fails the build, and ours says which one."""
    pair = await parity.both_fail(base.with_commands(["true", "echo about to fail; exit 7"]))

    assert "about to fail" in pair.ours.error
    assert "exit code 7" in pair.ours.error
