"""What is read because something names it: `uv`, apt, dpkg and packages' scripts see all that is before them."""

from __future__ import annotations

import pytest

from tests.parity.random_layers.world import WAYS
from tests.parity.written import SITE, Case, Written, holds, mine, version

# --- what uv reads by name ---


def test_an_index_that_arguments_name_is_asked(written: Written) -> None:
    """In the arguments of layers and in requirements, by its address or by a variable: nothing comes of strangers."""
    world, files = written.world, written.world.files
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

    written.same(image, *mine(*WAYS[:12]))


def test_what_a_variable_of_uv_names_is_read(written: Written) -> None:
    """An index, a directory of wheels, settings; by way of another variable, and each unset again but the last."""
    world, files = written.world, written.world.files
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

    written.same(image, *mine(*WAYS[: len(variables)]))


def test_what_settings_name_is_read(written: Written) -> None:
    """Settings of the system, of a home, of the working directory and above it; each emptied again."""
    world, files = written.world, written.world.files
    image = (
        world.base("plain")
        .with_workdir("/srv/deep")
        .with_source_folder(files / "simple-1", "/opt/simple", copy_contents_only=True)
    )
    # An empty file of the directory below hides the others.
    places = ["/etc/uv/uv.toml", "/etc/xdg/uv/uv.toml", "/root/.config/uv/uv.toml", "/srv/pyproject.toml"]
    places += ["/srv/uv.toml", "uv.toml"]
    for way, place in zip(WAYS, places, strict=False):
        file = "pyproject.toml" if place.endswith("pyproject.toml") else "index.toml"
        image = image.with_source_file(files / file, place).with_pip_packages(way)
        image = image.with_source_file(files / "empty", place)

    written.same(image, *mine(*WAYS[: len(places)]))


@pytest.mark.parametrize(("base", "place"), [("links", "/opt/settings"), ("home", "/opt/app/.config/uv")])
def test_settings_are_found_where_the_base_has_them(written: Written, base: str, place: str) -> None:
    """Behind a link of the base, as the index is; in the home that a variable of the base names."""
    world, files = written.world, written.world.files
    image = (
        world.base(base)
        .with_source_folder(files / "simple-1", "/opt/simple", copy_contents_only=True)
        .with_source_file(files / "index.toml", f"{place}/uv.toml")
        .with_pip_packages("wa")
    )

    written.same(image, *mine("wa"))


def test_what_the_base_has_uv_read_is_read_anew(written: Written) -> None:
    """A directory of wheels that the base's settings name, and constraints that a variable of the base does."""
    world, files = written.world, written.world.files
    folder = world.base("settings").with_source_folder(files / "wheels-1", "/usr/share/wheels", copy_contents_only=True)
    constraints = world.base("constrained").with_source_file(files / "constraints-1.txt", "/etc/constraints.txt")

    written.same(folder.with_pip_packages("wa"), version("wa", "2.5"))
    written.same(constraints.with_pip_packages("wa"), version("wa", "1.1"))


@pytest.mark.parametrize("variable", ["UV_CONSTRAINT", "UV_OVERRIDE"])
def test_versions_that_a_variable_names_a_file_of_are_held(written: Written, variable: str) -> None:
    """Of constraints, and of overrides, which hold for what a package needs; two files of one size and time."""
    world, files = written.world, written.world.files
    image = (
        world.base("plain")
        .with_source_file(files / "constraints-2.txt", "/etc/constraints.txt")
        .with_source_file(files / "constraints-1.txt", "/etc/constraints.txt")
        .with_env_vars({variable: "/etc/constraints.txt"})
        .with_pip_packages("wb")
        .with_env_vars({variable: ""})
        .with_pip_packages("wc", extra_args="--constraint /etc/constraints.txt")
    )

    written.same(image, version("wa", "1.1"))


@pytest.mark.parametrize("names", [("uv",), ("sh", "env", "tar", "bash", "dpkg", "apt-get")])
def test_a_program_that_stands_before_another_is_run(written: Written, names: tuple[str, ...]) -> None:
    """Copied to a directory that comes first in PATH: the usual one, or one that a variable puts there."""
    world, files = written.world, written.world.files
    image = world.base("plain")
    for name in names:
        image = image.with_source_file(files / "shadow" / name, f"/usr/local/bin/{name}")
    image = image.with_pip_packages("wa").with_apt_packages("bkb-py", "bkb-bash")
    image = image.with_env_vars({"PATH": "/shadow:$PATH"})
    for name in names:
        image = image.with_source_file(files / "shadow" / name, f"/shadow/{name}")
    image = image.with_pip_packages("wc")

    checks = [f"test -e /ran{place}/uv" for place in ("/usr/local/bin", "/shadow") if names == ("uv",)]
    written.same(image, *checks)


def test_the_index_of_a_project_is_asked(written: Written) -> None:
    """A project without a lock, whose own index is a directory that a layer copies."""
    world, files = written.world, written.world.files
    image = (
        world.base("plain")
        .with_source_folder(files / "simple-1", "/opt/simple", copy_contents_only=True)
        .with_workdir("/app")
        .with_uv_project(files / "indexed" / "pyproject.toml")
    )

    written.same(image, *mine("wa"))


UV_CASES = {
    "settings that a copy empties": Case(
        '.with_source_file(files / "empty", "/etc/uv/uv.toml").with_pip_packages("wa")',
        (version("wa", "1.1"),),
        base="settings",
    ),
    "settings that a command removes": Case(
        '.with_commands(["rm /etc/uv/uv.toml"]).with_pip_packages("wa")', (version("wa", "1.1"),), base="settings"
    ),
    "settings behind a link that are emptied": Case(
        '.with_source_file(files / "index.toml", "/opt/settings/uv.toml")'
        '.with_source_file(files / "empty", "/opt/settings/uv.toml").with_pip_packages("wa")',
        (version("wa", "1.1"),),
        base="links",
    ),
    "settings of another home that are removed": Case(
        '.with_source_file(files / "index.toml", "/opt/app/.config/uv/uv.toml")'
        '.with_commands(["rm -r /opt/app/.config"]).with_pip_packages("wa")',
        (version("wa", "1.1"),),
        base="home",
    ),
    "a module that Python loads at its start": Case(
        '.with_source_file(files / "patch.py", "/usr/lib/python3.11/sitecustomize.py").with_pip_packages("wa")',
        (version("sitecustomize", "patched"),),
    ),
    "a package that Python loads at its start": Case(
        '.with_source_file(files / "patch.py", "/usr/lib/python3.11/sitecustomize/__init__.py")'
        '.with_pip_packages("wa")',
        (version("sitecustomize", "patched"),),
    ),
    "a directory that a file of paths names": Case(
        '.with_source_file(files / "patch.py", "/opt/modules/wa/__init__.py")'
        f'.with_commands(["echo /opt/modules >{SITE}/x.pth"]).with_pip_packages("wc")',
        (version("wc", "1.0"),),
    ),
    "a module of the standard library": Case(
        '.with_source_file(files / "patch.py", "/usr/lib/python3.11/this.py").with_pip_packages("wa")',
        (version("this", "patched"),),
    ),
    "package lists behind a link": Case(
        '.with_commands(["mv /var/lib/apt/lists /opt/lists && ln -s /opt/lists /var/lib/apt/lists"])'
        '.with_apt_packages("bkb-cc").with_pip_packages("wa").with_apt_packages("bkb-odd")',
        ("test -L /var/lib/apt/lists && test -d /opt/lists",),
    ),
}


@pytest.mark.parametrize("case", UV_CASES.values(), ids=UV_CASES)
def test_an_installation_sees_what_was_changed_before_it(written: Written, case: Case) -> None:
    """Also what is there no longer, what the interpreter loads by itself, and what lies behind a link."""
    written.holds_for(case)


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
        '.with_source_file(files / "signed.list", "/etc/apt/sources.list.d/signed.list")'
        '.with_apt_packages("bkb-extra")',
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
            holds("/var/lib/bkb/hook", "hooked"),
            holds("/var/lib/bkb/watch", "p0"),
            holds("/var/lib/bkb/watch", "p1"),
            holds("/var/lib/bkb/users", "worker:1234"),
            holds("/var/lib/bkb/find", "/srv/a flyte 644"),
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
def test_packages_find_what_was_there_before_them(written: Written, case: Case) -> None:
    """Apt reads what its settings name, and a package's script whatever it likes."""
    written.holds_for(case)
