"""Images whose layers meet where nobody looks for it: built in parallel they are what their layers say, in order."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from flyte import Image
from flyte._image import _DockerLines

from buildkit_builder import flyte_image
from buildkit_builder.spec import ImageSpec
from tests.conftest import Engine
from tests.parity.random_layers.sequences import LEFT
from tests.parity.random_layers.vocabulary import evaluated
from tests.parity.random_layers.world import WAYS, World
from tests.parity.twice import build_twice, in_order, in_parallel

ARM = "linux/arm64"
SITE = "/opt/venv/lib/python3.11/site-packages"
Same = Callable[..., None]


def holds(path: str, text: str) -> str:
    """A check: that a file holds a text."""
    return f"grep -qxF {shlex.quote(text)} {path} || {{ ls -l {path}; cat {path}; exit 1; }}"


def owned(path: str, owner: str, mode: int) -> str:
    """A check: whose a path is, and its mode."""
    return f'said=$(stat -c "%U:%G %a" {path}); [ "$said" = "{owner} {mode:o}" ] || {{ echo "{path} is $said"; exit 1; }}'


def version(module: str, wanted: str, python: str = "$UV_PYTHON") -> str:
    """A check: which version of a package the environment has."""
    return f"{python} -c \"import {module} as m; assert m.VERSION == '{wanted}', m.VERSION\""


def mine(*modules: str) -> list[str]:
    """Checks: that packages are the user's own."""
    return [version(module.replace("-", "_"), "99.0") for module in modules]


@dataclass(frozen=True)
class Case:
    """An image, as code in the words of `tests.parity.random_layers`, and what is true of it."""

    layers: str
    checks: tuple[str, ...] = ()
    base: str = "plain"
    platform: str = "linux/amd64"


@pytest.fixture
def same(world: World, engine: Engine) -> Same:
    """Builds an image both ways, which must succeed with both and come out alike; then checks hold."""

    def same(image: Image, *checks: str) -> None:
        __tracebackhide__ = True
        spec = flyte_image.read(image)
        assert isinstance(spec, ImageSpec)
        outcome = asyncio.run(build_twice(spec, engine.address, (in_parallel, in_order), checks=checks, ignored=LEFT))
        if outcome.kind != "same":
            pytest.fail(f"{outcome.kind}:\n{outcome.text}", pytrace=False)

    return same


@pytest.fixture
def holds_for(world: World, same: Same) -> Callable[[Case], None]:
    """The same, of a case."""

    def holds_for(case: Case) -> None:
        __tracebackhide__ = True
        same(evaluated(f"base{case.layers}", world, world.base(case.base, case.platform)), *case.checks)

    return holds_for


# --- what is written later wins ---


def test_a_copy_over_a_file_of_a_package_wins_whatever_else_is_copied(world: World, same: Same) -> None:
    """Vendors' packages write to /opt: a longer chain of copies there, and the package's file stays changed."""
    files = world.files
    image = world.base("plain").with_apt_packages("bkb-vendor", "bkb-odd")
    for number in range(3):
        image = image.with_source_file(files / "config-1.ini", f"/opt/vendor/plugins/{number}")
    image = (
        image.with_source_file(files / "config-2.ini", "/opt/vendor/config.ini")
        .with_source_file(files / "config-1.ini", "/srv/odd/in")
        .with_source_file(files / "config-1.ini", "/usr/share/a/b")
    )

    same(image, holds("/opt/vendor/config.ini", "mine, two"), holds("/srv/odd/in", "mine, one"))


def test_a_package_over_a_copied_file_wins(world: World, same: Same) -> None:
    """In the other order the package's own is there, in /opt as in /usr; what it diverts is where it puts it."""
    files = world.files
    image = (
        world.base("plain")
        .with_source_file(files / "config-1.ini", "/opt/vendor/config.ini")
        .with_source_file(files / "config-1.ini", "/opt/vendor/plugins/1")
        .with_source_file(files / "tool-1", "/bin/bkb-cc")
        .with_apt_packages("bkb-vendor", "bkb-cc")
        .with_apt_packages("bkb-divert")
        .with_source_file(files / "config-2.ini", "/opt/vendor/config.ini.real")
    )

    same(
        image,
        holds("/opt/vendor/config.ini", "of the package that diverts"),
        holds("/opt/vendor/config.ini.real", "mine, two"),
        holds("/usr/bin/bkb-cc", "echo compiled"),
    )


def test_two_paths_to_one_place_are_one_place(world: World, same: Same) -> None:
    """Links of a usual base, /bin among them: an unrelated copy more flips nothing."""
    files = world.files
    image = world.base("plain")
    for one, other in (
        ("/usr/bin", "/bin"),
        ("/sbin", "/usr/sbin"),
        ("/usr/lib/bkb", "/lib/bkb"),
        ("/lib64/bkb", "/usr/lib64/bkb"),
        ("/run/bkb", "/var/run/bkb"),
        ("/var/lock/bkb", "/run/lock/bkb"),
    ):
        image = (
            image.with_source_file(files / "config-1.ini", f"{one}/tool")
            .with_source_file(files / "answers", f"{other}/a")
            .with_source_file(files / "config-2.ini", f"{other}/tool")
        )

    same(image, *(holds(f"{folder}/tool", "mine, two") for folder in ("/bin", "/sbin", "/lib/bkb", "/lib64/bkb")),
         holds("/run/bkb/tool", "mine, two"), holds("/run/lock/bkb/tool", "mine, two"))  # fmt: skip


def test_links_that_others_made_are_followed(world: World, same: Same) -> None:
    """A base's own, with several turns, and those of a package."""
    files = world.files
    image = (
        world.base("links")
        .with_apt_packages("bkb-links")
        .with_source_file(files / "config-1.ini", "/opt/vendor/config.ini")
        .with_source_file(files / "answers", "/opt/current/a")
        .with_source_file(files / "config-2.ini", "/vendor/vendor/config.ini")
        .with_source_file(files / "config-1.ini", "/srv/www/a")
        .with_source_file(files / "config-1.ini", "/opt/lab/b")
        .with_source_file(files / "answers", "/vendor/www/b")
        .with_source_file(files / "config-2.ini", "/opt/www/a")
        .with_source_file(files / "config-1.ini", "/usr/lib/bkb/lab/a")
        .with_source_file(files / "config-2.ini", "/vendor/lab/a")
        .with_source_file(files / "config-1.ini", "/app/one")
        .with_source_file(files / "answers", "/data/apps/two")
        .with_source_file(files / "config-2.ini", "/data/apps/one")
        .with_source_file(files / "config-1.ini", "/opt/current/config.ini")
    )

    same(
        image,
        holds("/opt/vendor/config.ini", "mine, one"),
        holds("/opt/www/a", "mine, two"),
        holds("/opt/lab/a", "mine, two"),
        holds("/app/one", "mine, two"),
    )


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ("--target /app/lib", "/app/lib"),
        ("--prefix /opt/prefix", "/opt/prefix/lib/python3.11/site-packages"),
        ("--system --break-system-packages", "/usr/local/lib/python3.11/dist-packages"),
        ("", SITE),
    ],
)
def test_a_patch_of_an_installed_file_stays(world: World, same: Same, options: str, path: str) -> None:
    """Wherever `uv` was told to install to: a copy over it wins, and an installation over a copy."""
    files = world.files
    image = world.base("plain").with_source_file(files / "patch.py", f"{path}/wc/__init__.py")
    image = image.with_pip_packages("wa", extra_args=options or None)
    for name in ("one", "two", "answers"):
        image = image.with_source_file(files / "answers", f"{path}/{name}")
    image = (
        image.with_source_file(files / "patch.py", f"{path}/wa/__init__.py")
        .with_pip_packages("wc", extra_args=options or None)
        .with_source_file(files / "answers", "/usr/bin/a")
    )

    same(image, holds(f"{path}/wa/__init__.py", "VERSION = 'patched'"))


# --- directories that two layers share ---


def test_directories_are_those_of_whoever_makes_them_first(world: World, same: Same) -> None:
    """A package's with a group, a sticky bit and a number for an owner; a copy below them changes nothing of that."""
    files = world.files
    image = (
        world.base("plain")
        .with_apt_packages("bkb-ftp")
        .with_source_folder(files / "one", "/srv/ftp/pub", copy_contents_only=True)
        .with_apt_packages("bkb-odd")
        .with_source_folder(files / "one", "/srv/odd/deep/er", copy_contents_only=True)
        .with_workdir("/home/odd/work")
        .with_apt_packages("bkb-home")
        .with_source_file(files / "answers", "/home/worker/answers")
    )

    same(
        image,
        owned("/srv/ftp", "root:ftp", 0o2750),
        'test "$(stat -c "%u:%g %a" /srv/odd /home/odd)" = "1234:4321 2750\n1234:0 1777"',
        owned("/home/worker", "worker:worker", 0o700),
    )


def test_a_copy_before_a_package_makes_its_directories(world: World, same: Same) -> None:
    """In the other order they are the copy's, as far as the package leaves them alone."""
    files = world.files
    image = (
        world.base("plain")
        .with_source_file(files / "config-1.ini", "/opt/vendor/plugins/0")
        .with_source_file(files / "config-1.ini", "/srv/odd/in")
        .with_workdir("/srv/ftp/pub")
        .with_apt_packages("bkb-vendor", "bkb-odd", "bkb-ftp")
    )

    same(image, holds("/opt/vendor/plugins/0", "of the package"), owned("/srv/ftp", "root:ftp", 0o2750))


def test_a_copy_is_for_the_user_that_an_earlier_layer_made(world: World, same: Same) -> None:
    """Whether copies of /etc/passwd and /etc/group name it, or a package's script makes it."""
    files = world.files
    copied = (
        world.base("plain")
        .with_source_file(files / "passwd-1", "/etc/passwd")
        .with_source_file(files / "group-1", "/etc/group")
        .with_source_folder(files / "one", "/app", copy_contents_only=True)
        .with_source_file(files / "passwd-2", "/etc/passwd")
        .with_source_file(files / "group-2", "/etc/group")
        .with_source_folder(files / "one", "/data", copy_contents_only=True)
    )
    made = (
        world.base("plain")
        .with_source_folder(files / "one", "/before", copy_contents_only=True)
        .with_apt_packages("bkb-flyte")
        .with_source_folder(files / "one", "/app", copy_contents_only=True)
    )

    same(copied, 'test "$(stat -c %u:%g /app/main.py /data/main.py)" = "1000:1000\n2000:2000"')
    same(made, 'test "$(stat -c %u:%g /app/main.py /before/main.py)" = "1500:1500\n0:0"')


def test_a_directory_that_the_base_lacks_is_of_the_first_to_make_it(world: World, same: Same) -> None:
    """A copy for the `flyte` user and a working directory of root's, below a /srv that is not there."""
    files = world.files
    base = world.base("user")

    same(
        base.with_source_file(files / "answers", "/srv/a").with_workdir("/srv/w"),
        owned("/srv", "flyte:flyte", 0o755),
        owned("/srv/w", "root:root", 0o755),
    )
    same(
        base.with_workdir("/srv/w").with_source_file(files / "answers", "/srv/a/b"),
        owned("/srv", "root:root", 0o755),
        owned("/srv/a", "flyte:flyte", 0o755),
    )


# --- what uv reads by name ---


def test_an_index_that_arguments_name_is_asked(world: World, same: Same) -> None:
    """In the arguments of layers and in requirements, by its address or by a variable: nothing comes of strangers."""
    files = world.files
    (files / "via.txt").write_text(f"--extra-index-url ${{MINE}}\n{WAYS[0]}\n")
    (files / "via-links.txt").write_text(f"--find-links /opt/wheels\n{WAYS[1]}\n")
    (files / "via-more.txt").write_text("-r /opt/more.txt\n")
    (files / "more.txt").write_text(f"--extra-index-url file:///opt/simple\n{WAYS[2]}\n")
    image = (
        world.base("plain")
        .with_source_folder(files / "simple-1", "/opt/simple", copy_contents_only=True)
        .with_source_folder(files / "wheels-3", "/opt/wheels", copy_contents_only=True)
        .with_source_file(files / "more.txt", "/opt/more.txt")
        .with_env_vars({"MINE": "file:///opt/simple", "FOLDER": "/opt/wheels"})
        .with_requirements(files / "via.txt")
        .with_requirements(files / "via-links.txt")
        .with_requirements(files / "via-more.txt")
        .with_pip_packages(WAYS[3], extra_index_urls="$MINE")
        .with_pip_packages(WAYS[4], extra_index_urls="${MINE}")
        .with_pip_packages(WAYS[5], extra_args="--index file:///opt/simple")
        .with_pip_packages(WAYS[6], extra_args="--find-links $FOLDER")
        .with_pip_packages(WAYS[7], extra_args="-f /opt/wheels")
        .with_pip_packages(WAYS[8], extra_args="--default-index=$MINE")
        .with_pip_packages(WAYS[9], extra_args="--index mine=$MINE")
        # Which the variable of the base would overrule.
        .with_env_vars({"UV_DEFAULT_INDEX": ""})
        .with_pip_packages(WAYS[10], index_url="$MINE")
        .with_pip_packages(WAYS[11], index_url="file:///opt/simple")
    )

    same(image, *mine(*WAYS[:12]))


def test_what_a_variable_of_uv_names_is_read(world: World, same: Same) -> None:
    """An index, a directory of wheels, settings; put together from another variable, and each unset again but the last."""
    files = world.files
    image = (
        world.base("plain")
        .with_source_folder(files / "simple-1", "/opt/simple", copy_contents_only=True)
        .with_source_folder(files / "wheels-3", "/opt/wheels", copy_contents_only=True)
        .with_source_file(files / "index.toml", "/opt/uv.toml")
        .with_source_file(files / "index.toml", "/opt/xdg/uv/uv.toml")
        .with_source_file(files / "index.toml", "/opt/app/.config/uv/uv.toml")
        .with_env_vars({"PLACE": "/opt"})
    )
    variables = {
        "UV_INDEX": "file://$PLACE/simple",
        "UV_EXTRA_INDEX_URL": "file://$PLACE/simple",
        "UV_DEFAULT_INDEX": "file:///opt/simple",
        "UV_FIND_LINKS": "${PLACE}/wheels",
        "XDG_CONFIG_HOME": "/opt/xdg",
        "XDG_CONFIG_DIRS": "/opt/xdg",
        "HOME": "/opt/app",
        "UV_CONFIG_FILE": "/opt/uv.toml",
    }
    for way, (name, value) in zip(WAYS, variables.items(), strict=False):
        unset = {"HOME": "/root", "UV_DEFAULT_INDEX": world.index.public}.get(name, "")
        image = image.with_env_vars({name: value}).with_pip_packages(way)
        if name != "UV_CONFIG_FILE":  # which may not be empty
            image = image.with_env_vars({name: unset})

    same(image, *mine(*WAYS[: len(variables)]))


def test_what_settings_name_is_read(world: World, same: Same) -> None:
    """Settings of the system, of a home, of the working directory and above it; each emptied again."""
    files = world.files
    image = (
        world.base("plain")
        .with_workdir("/srv/deep")
        .with_source_folder(files / "simple-1", "/opt/simple", copy_contents_only=True)
    )
    # An empty file of the directory below hides the others.
    places = ("/etc/uv/uv.toml", "/etc/xdg/uv/uv.toml", "/root/.config/uv/uv.toml", "/srv/pyproject.toml", "/srv/uv.toml",
              "uv.toml")  # fmt: skip
    for way, place in zip(WAYS, places, strict=False):
        file = "pyproject.toml" if place.endswith("pyproject.toml") else "index.toml"
        image = image.with_source_file(files / file, place).with_pip_packages(way)
        image = image.with_source_file(files / "empty", place)

    same(image, *mine(*WAYS[: len(places)]))


@pytest.mark.parametrize(("base", "place"), [("links", "/opt/settings"), ("home", "/opt/app/.config/uv")])
def test_settings_are_found_where_the_base_has_them(world: World, same: Same, base: str, place: str) -> None:
    """Behind a link of the base, as the index is; in the home that a variable of the base names."""
    files = world.files
    image = (
        world.base(base)
        .with_source_folder(files / "simple-1", "/opt/simple", copy_contents_only=True)
        .with_source_file(files / "index.toml", f"{place}/uv.toml")
        .with_pip_packages("wa")
    )

    same(image, *mine("wa"))


def test_what_the_base_has_uv_read_is_read_anew(world: World, same: Same) -> None:
    """A directory of wheels that the base's settings name, and constraints that a variable of the base does."""
    files = world.files
    folder = world.base("settings").with_source_folder(files / "wheels-1", "/usr/share/wheels", copy_contents_only=True)
    constraints = world.base("constrained").with_source_file(files / "constraints-1.txt", "/etc/constraints.txt")

    same(folder.with_pip_packages("wa"), version("wa", "2.5"))
    same(constraints.with_pip_packages("wa"), version("wa", "1.1"))


@pytest.mark.parametrize("variable", ["UV_CONSTRAINT", "UV_OVERRIDE"])
def test_versions_that_a_variable_names_a_file_of_are_held(world: World, same: Same, variable: str) -> None:
    """Of constraints, and of overrides, which hold for what a package needs; two files of one size and time."""
    files = world.files
    image = (
        world.base("plain")
        .with_source_file(files / "constraints-2.txt", "/etc/constraints.txt")
        .with_source_file(files / "constraints-1.txt", "/etc/constraints.txt")
        .with_env_vars({variable: "/etc/constraints.txt"})
        .with_pip_packages("wb")
        .with_env_vars({variable: ""})
        .with_pip_packages("wc", extra_args="--constraint /etc/constraints.txt")
    )

    same(image, version("wa", "1.1"))


@pytest.mark.parametrize("names", [("uv",), ("python3", "python", "sh", "env", "tar", "bash")])
def test_a_program_that_stands_before_another_is_run(world: World, same: Same, names: tuple[str, ...]) -> None:
    """Copied to a directory that comes first in PATH: the usual one, or one that a variable puts there."""
    files = world.files
    image = world.base("plain")
    for name in names:
        image = image.with_source_file(files / "shadow" / name, f"/usr/local/bin/{name}")
    image = image.with_pip_packages("wa").with_apt_packages("bkb-py", "bkb-bash")
    image = image.with_env_vars({"PATH": "/shadow:$PATH"})
    for name in names:
        image = image.with_source_file(files / "shadow" / name, f"/shadow/{name}")
    image = image.with_pip_packages("wc")

    same(image, *(["grep -qx /shadow /ran-uv"] if names == ("uv",) else []))


def test_the_index_of_a_project_is_asked(world: World, same: Same) -> None:
    """A project without a lock, whose own index is a directory that a layer copies."""
    files = world.files
    image = (
        world.base("plain")
        .with_source_folder(files / "simple-1", "/opt/simple", copy_contents_only=True)
        .with_workdir("/app")
        .with_uv_project(files / "indexed" / "pyproject.toml")
    )

    same(image, *mine("wa"))


# --- what apt, dpkg and the scripts of packages read ---

COPIED = '.with_source_folder(files / "{0}", "/srv/{0}", copy_contents_only=True)'
APT_CASES = {
    "a repository": Case(
        COPIED.format("repo")
        + '.with_source_file(files / "mine.list", "/etc/apt/sources.list.d/mine.list").with_apt_packages("bkb-extra")',
        (holds("/opt/extra/file", "of the package"),),
    ),
    "a key": Case(
        COPIED.format("signed")
        + '.with_source_file(files / "k.gpg", "/opt/keys/k.gpg")'
        '.with_source_file(files / "signed.list", "/etc/apt/sources.list.d/signed.list").with_apt_packages("bkb-extra")',
        (holds("/opt/extra/file", "of the package"),),
    ),
    "lists elsewhere": Case(
        COPIED.format("repo")
        + '.with_source_file(files / "apt-sources.conf", "/etc/apt/apt.conf.d/98bkb")'
        '.with_source_file(files / "mine.list", "/opt/sources/mine.list").with_apt_packages("bkb-vendor")',
        (holds("/opt/vendor/config.ini", "of the newer package"),),
    ),
    "APT_CONFIG": Case(
        '.with_source_file(files / "apt.conf", "/app/apt.conf").with_env_vars({"APT_CONFIG": "/app/apt.conf"})'
        '.with_apt_packages("bkb-cc")',
        ("test -e /opt/post-invoke",),
    ),
    "settings of dpkg in the home": Case(
        '.with_source_file(files / "dpkg.cfg", "/root/.dpkg.cfg").with_apt_packages("bkb-vendor")',
        ("test ! -e /opt/vendor/plugins/0",),
    ),
    "settings of dpkg in another home": Case(
        '.with_source_file(files / "dpkg.cfg", "/opt/app/.dpkg.cfg").with_apt_packages("bkb-vendor")',
        ("test ! -e /opt/vendor/plugins/0",),
        base="home",
    ),
    "a library": Case(
        '.with_source_file(files / "lib-1.so", "/opt/vendor/lib/libbkb.so.1")'
        '.with_source_file(files / "ld.conf", "/etc/ld.so.conf.d/mine.conf").with_apt_packages("bkb-ld")',
        ("ldconfig -p | grep -q /opt/vendor/lib/libbkb.so.1",),
    ),
    "a library, and a trigger": Case(
        '.with_source_file(files / "lib-1.so", "/usr/local/lib/libbkb.so.1").with_apt_packages("bkb-lib")',
        ("ldconfig -p | grep -q /usr/local/lib/libbkb.so.1",),
    ),
    "files, each of which a script reads": Case(
        '.with_source_file(files / "answers", "/opt/lab/answers").with_apt_packages("bkb-answers")'
        '.with_source_file(files / "license", "/opt/lab/license").with_apt_packages("bkb-need")'
        '.with_source_file(files / "bkbrc", "/root/.bkbrc").with_apt_packages("bkb-rc")'
        '.with_source_file(files / "hook", "/usr/local/bin/bkb-hook")'
        '.with_source_file(files / "hook", "/opt/hooks.d/hook").with_apt_packages("bkb-hook")'
        '.with_apt_packages("bkb-watch").with_source_file(files / "answers", "/opt/plugins/p0")'
        '.with_apt_packages("bkb-plugin")'
        '.with_source_file(files / "passwd-1", "/etc/passwd").with_apt_packages("bkb-users")'
        '.with_source_file(files / "answers", "/srv/a").with_workdir("/home/w").with_apt_packages("bkb-find")'
        '.with_source_file(files / "answers", "/opt/late")',
        (
            holds("/var/lib/bkb/answers", "forty-two"),
            holds("/var/lib/bkb/rc", "of the home"),
            'test "$(grep -c hooked /var/lib/bkb/hook)" = 2',
            holds("/var/lib/bkb/watch", "p0"),
            holds("/var/lib/bkb/watch", "p1"),
            holds("/var/lib/bkb/users", "worker:1234"),
            holds("/var/lib/bkb/find", "/srv/a root 644"),
            holds("/var/lib/bkb/find", "/home/w root 755"),
        ),
    ),
    "files, each of which a variable names": Case(
        '.with_workdir("/opt/tmp").with_env_vars({"TMPDIR": "/opt/tmp"}).with_apt_packages("bkb-tmp")'
        '.with_source_file(files / "bkbmod-1.py", "/opt/py/bkbmod.py").with_env_vars({"PYTHONPATH": "/opt/py"})'
        '.with_apt_packages("bkb-py")'
        '.with_source_file(files / "env.sh", "/opt/env.sh").with_env_vars({"BASH_ENV": "/opt/env.sh"})'
        '.with_apt_packages("bkb-bash")'
        '.with_source_file(files / "bkbrc", "/home/app/.bkbrc").with_env_vars({"HOME": "/home/app"})'
        '.with_apt_packages("bkb-rc")',
        (
            holds("/var/lib/bkb/tmp", "/opt/tmp"),
            holds("/var/lib/bkb/py", "mod 1"),
            holds("/var/lib/bkb/bash", "yes"),
            holds("/var/lib/bkb/rc", "of the home"),
        ),
    ),
    "a library that comes later": Case(
        '.with_apt_packages("bkb-ld").with_source_file(files / "lib-1.so", "/opt/vendor/lib/libbkb.so.1")',
        ("! ldconfig -p | grep -q libbkb",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", APT_CASES.values(), ids=APT_CASES)
def test_packages_find_what_was_there_before_them(holds_for: Callable[[Case], None], case: Case) -> None:
    """Apt reads what its settings name, and a package's script whatever it likes."""
    holds_for(case)


# --- helpers of ours ---


@pytest.mark.parametrize(
    ("file", "destination", "mends"),
    [
        ("signed.list", "/etc/apt/sources.list.d/signed.list", "cp {0}/k.gpg /opt/keys/ && cp -r {0}/signed /srv/"),
        ("mine.list", "/etc/apt/sources.list.d/mine.list", "cp -r {0}/repo /srv/"),
        ("unusable.conf", "/etc/apt/apt.conf.d/97bkb", "rm /etc/apt/apt.conf.d/97bkb && cp -r {0}/repo /srv/"
         " && echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list.d/mine.list"),
    ],
)  # fmt: skip
def test_what_only_the_next_command_makes_usable_fails_nothing(
    world: World, same: Same, file: str, destination: str, mends: str
) -> None:
    """A vendor's source whose key, repository or settings the command after it brings."""
    files = world.files
    install = "apt-get -qq update && apt-get -qq install -y bkb-extra >/dev/null && rm -rf /var/cache/apt"
    image = (
        world.base("plain")
        .with_source_folder(files / "signed", "/tmp/given/signed", copy_contents_only=True)
        .with_source_folder(files / "repo", "/tmp/given/repo", copy_contents_only=True)
        .with_source_file(files / "k.gpg", "/tmp/given/k.gpg")
        .with_apt_packages("bkb-cc")
        .with_source_file(files / file, destination)
        .with_commands([f"mkdir -p /opt/keys && {mends.format('/tmp/given')} && {install}"])
    )

    same(image, holds("/opt/extra/file", "of the package"))


def test_lines_of_a_dockerfile_mend_a_source_as_well(world: World, same: Same) -> None:
    """They are commands, too."""
    files = world.files
    run = "RUN cp -r /tmp/repo /srv/ && apt-get -qq update && apt-get -qq install -y bkb-extra && rm -rf /var/cache/apt"
    image = (
        world.base("plain")
        .with_source_folder(files / "repo", "/tmp/repo", copy_contents_only=True)
        .with_apt_packages("bkb-cc")
        .with_source_file(files / "mine.list", "/etc/apt/sources.list.d/mine.list")
        .clone(addl_layer=_DockerLines(lines=(run,)))
    )

    same(image, holds("/opt/extra/file", "of the package"))


# --- projects without a lock ---


@pytest.mark.parametrize("folder", ["/app", "/"])
def test_a_project_without_a_lock_leaves_the_same_in_parallel(world: World, same: Same, folder: str) -> None:
    """Whatever it leaves: in the working directory, and in the environment."""
    files = world.files
    image = (
        world.base("plain")
        .with_workdir(folder)
        .with_apt_packages("bkb-cc")
        .with_uv_project(files / "app" / "pyproject.toml")
        .with_source_file(files / "answers", "/app/answers")
    )

    same(image, version("wa", "1.1"))


# --- a foreign platform ---


FOREIGN_CASES = {
    "the environment that the base names": Case(
        '.with_uv_project(files / "locked" / "pyproject.toml", files / "locked" / "uv.lock")',
        (version("wa", "1.0", "/app/.venv/bin/python"),),
        base="venv",
    ),
    "settings, variables and programs": Case(
        '.with_source_file(files / "pre.toml", "/root/.config/uv/uv.toml").with_pip_packages("wa")'
        '.with_source_file(files / "empty", "/root/.config/uv/uv.toml")'
        '.with_source_folder(files / "simple-1", "/opt/simple", copy_contents_only=True)'
        '.with_source_file(files / "index.toml", "/etc/uv/uv.toml").with_pip_packages("via-0")'
        '.with_source_file(files / "empty", "/etc/uv/uv.toml")'
        '.with_env_vars({"UV_INDEX": "file:///opt/simple"}).with_pip_packages("via-1")'
        '.with_env_vars({"UV_INDEX": ""})'
        '.with_source_file(files / "shadow" / "uv", "/usr/local/bin/uv").with_pip_packages("wc")',
        (version("wa", "1.2rc1"), *mine("via-0", "via-1"), "test -e /ran-uv"),
    ),
    "a patch": Case(
        f'.with_pip_packages("wa").with_source_file(files / "patch.py", "{SITE}/wa/__init__.py").with_pip_packages("wc")',
        (version("wa", "patched"),),
    ),
}


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("case", FOREIGN_CASES.values(), ids=FOREIGN_CASES)
def test_a_foreign_platform_is_helped_only_where_nothing_steers_the_work(
    holds_for: Callable[[Case], None], case: Case
) -> None:
    """What the machine's own programs would not see: settings, variables, and programs of the image."""
    holds_for(Case(case.layers, case.checks, case.base, ARM))
