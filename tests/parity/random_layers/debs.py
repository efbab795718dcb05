"""Packages of the distribution which do what real ones do: write anywhere, run programs, read what is there."""

from __future__ import annotations

from tests.parity.random_layers.made import Deb, Member, shared_library

NOTES = "/var/lib/bkb"


def _file(path: str, content: str | bytes, mode: int = 0, uid: int = 0, gid: int = 0) -> Member:
    return Member(path=path, content=content, mode=mode, uid=uid, gid=gid)


def _noting(name: str, command: str, *members: Member) -> Deb:
    """A package whose script notes what a command prints, and that it failed."""
    note = f"{NOTES}/{name}"
    return Deb(
        name=f"bkb-{name}",
        members=members,
        scripts={"postinst": f"mkdir -p {NOTES}\n{{ {command}; }} > {note} 2>/dev/null || echo failed >> {note}"},
    )


WRITING = (
    Deb(
        name="bkb-vendor",
        members=(
            _file("opt/vendor/config.ini", "of the package\n"),
            Member(path="opt/vendor/plugins", mode=0o750),
            _file("opt/vendor/plugins/0", "of the package\n", 0o600),
        ),
    ),
    Deb(
        name="bkb-ftp",
        scripts={
            "postinst": "getent group ftp >/dev/null || groupadd --system ftp\n"
            "id ftp >/dev/null 2>&1 || useradd --system --gid ftp --home-dir /srv/ftp --no-create-home ftp\n"
            "install -d -o root -g ftp -m 2750 /srv/ftp"
        },
    ),
    Deb(
        name="bkb-home",
        scripts={
            "postinst": "id worker >/dev/null 2>&1 || useradd --create-home --home-dir /home/worker worker\n"
            "install -d -o worker -m 700 /home/worker\necho of the package > /home/worker/.profile"
        },
    ),
    Deb(name="bkb-flyte", scripts={"postinst": "id flyte >/dev/null 2>&1 || useradd --uid 1500 flyte"}),
    Deb(
        name="bkb-odd",
        members=(
            Member(path="srv/odd", mode=0o2750, uid=1234, gid=4321),
            _file("srv/odd/in", "of the package\n", 0o640, 1234, 4321),
            Member(path="home/odd", mode=0o1777, uid=1234),
        ),
    ),
    Deb(
        name="bkb-links",
        members=(
            Member(path="opt/current", link="vendor"),
            Member(path="srv/www", link="../opt/www"),
            Member(path="usr/lib/bkb/lab", link="/opt/lab"),
        ),
    ),
    Deb(
        name="bkb-conf",
        members=(_file("etc/bkb/main.conf", "of the package\n"), _file("opt/vendor/vendor.conf", "of the package\n")),
        control={"conffiles": "/etc/bkb/main.conf\n/opt/vendor/vendor.conf\n"},
    ),
    # What is no ordinary file, or has more than a mode.
    Deb(
        name="bkb-special",
        members=(_file("opt/special/set", "#!/bin/sh\n", 0o6755), _file("opt/special/two", "two\n", 0, 1234, 4321)),
        scripts={
            "postinst": "cd /opt/special\nrm -f fifo null linked\nmkfifo -m 640 fifo\nmknod null c 1 3\nln two linked\n"
            'python3 -Ic "import os\n'
            "os.setxattr('set', 'security.capability', bytes.fromhex('0100000200040000' + 24 * '0'))\""
        },
    ),
    # As vendors do who put something beside what is there: into the environment itself.
    Deb(
        name="bkb-venv",
        members=(
            _file("opt/venv/lib/python3.11/site-packages/of_deb.py", "NAME = 'deb'\n"),
            _file("opt/venv/lib/python3.11/site-packages/wa/__init__.py", "VERSION = 'of the package'\n"),
        ),
    ),
    Deb(name="bkb-plugin", members=(_file("opt/plugins/p1", "of the package\n"),)),
    Deb(name="bkb-cc", members=(_file("usr/bin/bkb-cc", "#!/bin/sh\necho compiled\n", 0o755),)),
)

CHANGING = (
    Deb(
        name="bkb-divert",
        members=(_file("opt/vendor/config.ini", "of the package that diverts\n"),),
        scripts={
            "preinst": "dpkg-divert --package bkb-divert --add --rename --divert /opt/vendor/config.ini.real "
            "/opt/vendor/config.ini >/dev/null"
        },
    ),
    Deb(
        name="bkb-override",
        scripts={
            "postinst": "dpkg-statoverride --list /opt/vendor/plugins/0 >/dev/null ||\n"
            "dpkg-statoverride --update --add root adm 0640 /opt/vendor/plugins/0"
        },
    ),
    *(
        Deb(
            name=f"bkb-alt{number}",
            members=(_file(f"usr/lib/bkb/tool-{number}", f"#!/bin/sh\necho {number}\n", 0o755),),
            scripts={
                "postinst": f"update-alternatives --install /usr/bin/tool tool /usr/lib/bkb/tool-{number} {number}0"
            },
        )
        for number in (1, 2)
    ),
    Deb(
        name="bkb-watch",
        scripts={"postinst": f"mkdir -p {NOTES}\nls /opt/plugins > {NOTES}/watch 2>/dev/null || true"},
        control={"triggers": "interest-noawait /opt/plugins\n"},
    ),
    Deb(
        name="bkb-ld",
        members=(_file("etc/ld.so.conf.d/bkb.conf", "/opt/vendor/lib\n/srv/lib\n"),),
        scripts={"postinst": "ldconfig"},
    ),
    Deb(
        name="bkb-lib",
        members=(_file("usr/lib/bkb-lib/libpkg.so.1", shared_library("libpkg.so.1")),),
        control={"triggers": "activate-noawait ldconfig\n"},
    ),
)

READING = (
    _noting("answers", "cat /opt/lab/answers"),
    Deb(name="bkb-need", scripts={"postinst": "test -e /opt/lab/license"}),
    Deb(
        name="bkb-tmp",
        scripts={"postinst": f'mkdir -p {NOTES}\nfile=$(mktemp)\necho "${{file%/*}}" > {NOTES}/tmp\nrm "$file"'},
    ),
    _noting("env", "env | grep -E '^(MODE|HOME|LD_|PYTHON|TMPDIR|UV_|ENV|BASH_ENV|BKB)' | sort"),
    _noting("py", "python3 -c 'import bkbmod; print(bkbmod.WHERE)'"),
    _noting("rc", 'cat "$HOME/.bkbrc"'),
    Deb(
        name="bkb-bash",
        scripts={"postinst": f'#!/bin/bash\nmkdir -p {NOTES}\necho "${{FROM_BASH_ENV-none}}" > {NOTES}/bash\n'},
    ),
    _noting("hook", "bkb-hook; run-parts /opt/hooks.d"),
    _noting("find", "find /opt /srv /home -path /opt/venv -prune -o -printf '%p %u %m\\n' | sort"),
    _noting("local", "bkb-local"),
    _noting("users", "cut -d: -f1,3 /etc/passwd; id worker"),
)

ALL = (*WRITING, *CHANGING, *READING)
# What the repository that layers copy has besides: a package of its own, and a newer one of another's.
COPIED = (
    Deb(name="bkb-extra", members=(_file("opt/extra/file", "of the package\n"),)),
    Deb(name="bkb-vendor", version="2", members=(_file("opt/vendor/config.ini", "of the newer package\n"),)),
)
