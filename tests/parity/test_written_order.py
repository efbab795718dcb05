"""Images whose layers meet where nobody looks for it: built in parallel they are what their layers say, in order."""

from __future__ import annotations

import pytest
from flyte._image import _DockerLines

from tests.parity.written import SITE, Case, Written, holds, mine, owned, version

ARM = "linux/arm64"
LIST = "/etc/apt/sources.list.d/mine.list"
MENDS = f"cp -r {{0}}/repo /srv/ && echo 'deb [trusted=yes] file:/srv/repo ./' >{LIST}"


# --- what is written later wins ---


def test_a_copy_over_a_file_of_a_package_wins_whatever_else_is_copied(written: Written) -> None:
    """Vendors' packages write to /opt: a longer chain of copies there, and the package's file stays changed."""
    world, files = written.world, written.world.files
    image = world.base("plain").with_apt_packages("bkb-vendor", "bkb-odd")
    for number in range(3):
        image = image.with_source_file(files / "config-1.ini", f"/opt/vendor/plugins/{number}")
    image = (
        image.with_source_file(files / "config-2.ini", "/opt/vendor/config.ini")
        .with_source_file(files / "config-1.ini", "/srv/odd/in")
        .with_source_file(files / "config-1.ini", "/usr/share/a/b")
    )

    written.same(image, holds("/opt/vendor/config.ini", "mine, two"), holds("/srv/odd/in", "mine, one"))


def test_a_package_over_a_copied_file_wins(written: Written) -> None:
    """In the other order the package's own is there, in /opt as in /usr; what it diverts is where it puts it."""
    world, files = written.world, written.world.files
    image = (
        world.base("plain")
        .with_source_file(files / "config-1.ini", "/opt/vendor/config.ini")
        .with_source_file(files / "config-1.ini", "/opt/vendor/plugins/1")
        .with_source_file(files / "tool-1", "/bin/bkb-cc")
        .with_apt_packages("bkb-vendor", "bkb-cc")
        .with_apt_packages("bkb-divert")
        .with_source_file(files / "config-2.ini", "/opt/vendor/config.ini.real")
    )

    written.same(
        image,
        holds("/opt/vendor/config.ini", "of the package that diverts"),
        holds("/opt/vendor/config.ini.real", "mine, two"),
        holds("/usr/bin/bkb-cc", "echo compiled"),
    )


def test_two_paths_to_one_place_are_one_place(written: Written) -> None:
    """Links of a usual base, /bin among them: an unrelated copy more flips nothing."""
    world, files = written.world, written.world.files
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

    folders = ("/bin", "/sbin", "/lib/bkb", "/lib64/bkb", "/run/bkb", "/run/lock/bkb")
    written.same(image, *(holds(f"{folder}/tool", "mine, two") for folder in folders))


def test_links_that_others_made_are_followed(written: Written) -> None:
    """A base's own, with several turns, and those of a package."""
    world, files = written.world, written.world.files
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

    written.same(
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
def test_a_patch_of_an_installed_file_stays(written: Written, options: str, path: str) -> None:
    """Wherever `uv` was told to install to: a copy over it wins, and an installation over a copy."""
    world, files = written.world, written.world.files
    image = world.base("plain").with_source_file(files / "patch.py", f"{path}/wc/__init__.py")
    image = image.with_pip_packages("wa", extra_args=options or None)
    for name in ("one", "two", "answers"):
        image = image.with_source_file(files / "answers", f"{path}/{name}")
    image = (
        image.with_source_file(files / "patch.py", f"{path}/wa/__init__.py")
        .with_pip_packages("wc", extra_args=options or None)
        .with_source_file(files / "answers", "/usr/bin/a")
    )

    written.same(image, holds(f"{path}/wa/__init__.py", "VERSION = 'patched'"))


# --- directories that two layers share ---


def test_directories_are_those_of_whoever_makes_them_first(written: Written) -> None:
    """A package's with a group, a sticky bit and a number for an owner; a copy below them changes nothing of that."""
    world, files = written.world, written.world.files
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

    written.same(
        image,
        owned("/srv/ftp", "root:ftp", 0o2750),
        'test "$(stat -c "%u:%g %a" /srv/odd /home/odd)" = "1234:4321 2750\n1234:0 1777"',
        owned("/home/worker", "worker:worker", 0o700),
    )


def test_a_copy_before_a_package_makes_its_directories(written: Written) -> None:
    """In the other order they are the copy's, as far as the package leaves them alone."""
    world, files = written.world, written.world.files
    image = (
        world.base("plain")
        .with_source_file(files / "config-1.ini", "/opt/vendor/plugins/0")
        .with_source_file(files / "config-1.ini", "/srv/odd/in")
        .with_workdir("/srv/ftp/pub")
        .with_apt_packages("bkb-vendor", "bkb-odd", "bkb-ftp")
    )

    written.same(image, holds("/opt/vendor/plugins/0", "of the package"), owned("/srv/ftp", "root:ftp", 0o2750))


def test_a_copy_is_for_the_user_that_an_earlier_layer_made(written: Written) -> None:
    """Whether copies of /etc/passwd and /etc/group name it, or a package's script makes it."""
    world, files = written.world, written.world.files
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

    written.same(copied, 'test "$(stat -c %u:%g /app/main.py /data/main.py)" = "1000:1000\n2000:2000"')
    written.same(made, 'test "$(stat -c %u:%g /app/main.py /before/main.py)" = "1500:1500\n0:0"')


def test_a_directory_that_the_base_lacks_is_of_the_first_to_make_it(written: Written) -> None:
    """A copy for the `flyte` user and a working directory of root's, below a /srv that is not there."""
    world, files = written.world, written.world.files
    base = world.base("user")

    written.same(
        base.with_source_file(files / "answers", "/srv/a").with_workdir("/srv/w"),
        owned("/srv", "flyte:flyte", 0o755),
        owned("/srv/w", "root:root", 0o755),
    )
    written.same(
        base.with_workdir("/srv/w").with_source_file(files / "answers", "/srv/a/b"),
        owned("/srv", "root:root", 0o755),
        owned("/srv/a", "flyte:flyte", 0o755),
    )


# --- helpers of ours ---


@pytest.mark.parametrize(
    ("file", "destination", "mends"),
    [
        ("signed.list", "/etc/apt/sources.list.d/signed.list", "cp {0}/k.gpg /opt/keys/ && cp -r {0}/signed /srv/"),
        ("mine.list", "/etc/apt/sources.list.d/mine.list", "cp -r {0}/repo /srv/"),
        ("unusable.conf", "/etc/apt/apt.conf.d/97bkb", f"rm /etc/apt/apt.conf.d/97bkb && {MENDS}"),
    ],
)  # fmt: skip
def test_what_only_the_next_command_makes_usable_fails_nothing(
    written: Written, file: str, destination: str, mends: str
) -> None:
    """A vendor's source whose key, repository or settings the command after it brings."""
    world, files = written.world, written.world.files
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

    written.same(image, holds("/opt/extra/file", "of the package"))


def test_lines_of_a_dockerfile_mend_a_source_as_well(written: Written) -> None:
    """They are commands, too."""
    world, files = written.world, written.world.files
    run = "RUN cp -r /tmp/repo /srv/ && apt-get -qq update && apt-get -qq install -y bkb-extra && rm -rf /var/cache/apt"
    image = (
        world.base("plain")
        .with_source_folder(files / "repo", "/tmp/repo", copy_contents_only=True)
        .with_apt_packages("bkb-cc")
        .with_source_file(files / "mine.list", "/etc/apt/sources.list.d/mine.list")
        .clone(addl_layer=_DockerLines(lines=(run,)))
    )

    written.same(image, holds("/opt/extra/file", "of the package"))


# --- projects without a lock ---


@pytest.mark.parametrize("folder", ["/app", "/"])
def test_a_project_without_a_lock_leaves_the_same_in_parallel(written: Written, folder: str) -> None:
    """Whatever it leaves: in the working directory, and in the environment."""
    world, files = written.world, written.world.files
    image = (
        world.base("plain")
        .with_workdir(folder)
        .with_apt_packages("bkb-cc")
        .with_uv_project(files / "app" / "pyproject.toml")
        .with_source_file(files / "answers", "/app/answers")
    )

    written.same(image, version("wa", "1.1"))


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
        (version("wa", "1.2rc1"), *mine("via-0", "via-1"), "test -e /ran/usr/local/bin/uv"),
    ),
    "a patch": Case(
        f'.with_pip_packages("wa").with_source_file(files / "patch.py", "{SITE}/wa/__init__.py")'
        '.with_pip_packages("wc")',
        (version("wa", "patched"),),
    ),
}


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("case", FOREIGN_CASES.values(), ids=FOREIGN_CASES)
def test_a_foreign_platform_is_helped_only_where_nothing_steers_the_work(written: Written, case: Case) -> None:
    """What the machine's own programs would not see: settings, variables, and programs of the image."""
    written.holds_for(Case(case.layers, case.checks, case.base, ARM))
