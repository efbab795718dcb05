"""What meets only where several layers come together, and what is put beside it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.parity.random_layers.layers import (
    SITE,
    TRIPLET,
    apt,
    commands,
    env,
    file,
    folder,
    lines,
    pip,
    requirements,
    workdir,
)
from tests.parity.random_layers.world import SHADOWED

_SIMPLE = (
    folder("simple-1", "/opt/simple"),
    folder("simple-2", "/opt/simple"),
    folder("simple-1", "/usr/share/simple"),
)
_PIPS = (pip("wa"), pip("wa"), pip("wb"), requirements("r.txt"))
_SETTINGS = (
    "/etc/uv/uv.toml",
    "/etc/xdg/uv/uv.toml",
    "/root/.config/uv/uv.toml",
    "/opt/app/.config/uv/uv.toml",
    "/opt/settings/uv.toml",
    "/opt/xdg/uv/uv.toml",
    "/app/uv.toml",
    "/uv.toml",
    "uv.toml",
)
_COPIES = tuple(file("config-1.ini", f"/opt/vendor/plugins/{number}") for number in range(3))
_BY_SCRIPT = {
    "answers": (
        file("answers", "/opt/lab/answers"),
        file("answers", "/vendor/lab/answers"),
        file("answers", "/usr/lib/bkb/lab/answers"),
    ),
    "need": (file("license", "/opt/lab/license"),),
    "hook": (file("hook", "/usr/local/bin/bkb-hook"), file("hook", "/opt/hooks.d/hook")),
    "rc": (file("bkbrc", "/root/.bkbrc"), file("bkbrc", "/opt/app/.bkbrc")),
    "py": (file("bkbmod-1.py", "/opt/py/bkbmod.py"), file("bkbmod-2.py", "/usr/lib/python3/dist-packages/bkbmod.py")),
    "bash": (file("env.sh", "/opt/env.sh"),),
    "find": (file("answers", "/srv/a"), workdir("/home/w"), folder("one", "/opt/one")),
    "users": (file("passwd-1", "/etc/passwd"), apt("home")),
    "plugin": (file("answers", "/opt/plugins/p0"),),
    "watch": (file("answers", "/opt/plugins/p0"), folder("one", "/opt/plugins")),
}
_FOR_SCRIPT = {
    "py": (env("PYTHONPATH", "/opt/py"), env("PYTHONPATH", "$LIB/py")),
    "rc": (env("HOME", "/opt/app"), env("MODE", "1")),
    "bash": (env("BASH_ENV", "/opt/env.sh"),),
    "plugin": (apt("watch"),),
}

_WHOLE = (
    ".with_uv_project(files / 'locked' / 'pyproject.toml', files / 'locked' / 'uv.lock', "
    "project_install_mode='install_project')"
)
# What meets only where several layers come together: each has a place for each of them, with what may stand there.
RECIPES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "index by a variable": (
        _SIMPLE,
        (
            env("UV_INDEX", "file:///opt/simple"),
            env("UV_EXTRA_INDEX_URL", "file:///opt/simple"),
            env("UV_DEFAULT_INDEX", "file:///opt/simple"),
            env("UV_INDEX", "$MINE"),
        ),
        _PIPS,
    ),
    "index by settings": (_SIMPLE, tuple(file("index.toml", place) for place in _SETTINGS), _PIPS),
    "settings by a variable": (
        _SIMPLE,
        (
            file("index.toml", "/opt/uv.toml"),
            file("index.toml", "/opt/xdg/uv/uv.toml"),
            file("index.toml", "/opt/app/.config/uv/uv.toml"),
            file("pyproject.toml", "/app/pyproject.toml"),
        ),
        (
            env("UV_CONFIG_FILE", "/opt/uv.toml"),
            env("XDG_CONFIG_HOME", "/opt/xdg"),
            env("XDG_CONFIG_DIRS", "/opt/xdg"),
            env("HOME", "/opt/app"),
            workdir("/app/deep"),
        ),
        _PIPS,
    ),
    "index by arguments": (
        _SIMPLE,
        (env("MINE", "file:///opt/simple"), env("MINE", "file://$PLACE/simple"), env("PLACE", "/opt")),
        (
            pip("wa", extra_index_urls="$MINE"),
            pip("wb", index_url="$MINE"),
            requirements("r-index.txt"),
            pip("wa", extra_args="--index file:///opt/simple"),
        ),
    ),
    "wheels": (
        (folder("wheels-1", "/usr/share/wheels"), folder("wheels-2", "/usr/share/wheels")),
        (env("UV_FIND_LINKS", "/usr/share/wheels"), file("links.toml", "/etc/uv/uv.toml"), workdir("/app")),
        (pip("wa"), pip("wa", extra_args="--find-links /usr/share/wheels"), requirements("r-links.txt")),
    ),
    "constraints": (
        (file("constraints-1.txt", "/etc/constraints.txt"), file("constraints-2.txt", "/etc/constraints.txt")),
        (env("UV_CONSTRAINT", "/etc/constraints.txt"), env("UV_OVERRIDE", "/etc/constraints.txt"), workdir("/app")),
        (*_PIPS, pip("wb", extra_args="--constraint /etc/constraints.txt"), requirements("r-constraint.txt")),
    ),
    "a project": (
        _SIMPLE,
        (workdir("/app"), file("index.toml", "/app/uv.toml"), env("UV_INDEX", "file:///opt/simple")),
        (
            ".with_uv_project(files / 'indexed' / 'pyproject.toml')",
            ".with_uv_project(files / 'app' / 'pyproject.toml')",
        ),
    ),
    "a target": (
        (
            pip("wa", extra_args="--target /app/lib"),
            pip("wb", extra_args="--prefix /opt/prefix"),
            pip("wa"),
            pip("wa", extra_args="--system --break-system-packages"),
        ),
        (folder("one", "/app/lib"), file("answers", "/app/lib/a"), file("answers", f"{SITE}/a")),
        (
            file("patch.py", "/app/lib/wa/__init__.py"),
            file("patch.py", f"{SITE}/wa/__init__.py"),
            file("patch.py", "/opt/prefix/lib/python3.11/site-packages/wa/__init__.py"),
            file("patch.py", "/usr/local/lib/python3.11/dist-packages/wa/__init__.py"),
        ),
    ),
    "a repository": (
        (folder("repo", "/srv/repo"), folder("repo", "/data/srv/repo")),
        (file("mine.list", "/etc/apt/sources.list.d/mine.list"), file("mine.list", "/etc/apt/sources.list")),
        (apt("extra"), apt("vendor")),
    ),
    "a key": (
        (folder("signed", "/srv/signed"),),
        (file("k.gpg", "/opt/keys/k.gpg"), file("k.gpg", "/vendor/keys/k.gpg")),
        (file("signed.list", "/etc/apt/sources.list.d/signed.list"),),
        (apt("extra"),),
    ),
    "settings of apt": (
        (
            file("apt.conf", "/etc/apt/apt.conf.d/99bkb"),
            file("apt.conf", "/app/apt.conf"),
            file("dpkg.cfg", "/root/.dpkg.cfg"),
            file("dpkg.cfg", "/opt/app/.dpkg.cfg"),
            file("dpkg.cfg", "/etc/dpkg/dpkg.cfg.d/bkb"),
        ),
        (env("APT_CONFIG", "/app/apt.conf"), env("HOME", "/opt/app"), workdir("/app")),
        (apt("vendor"), apt("vendor", "cc")),
    ),
    "lists for a command": (
        (apt("cc"), apt("vendor")),
        (
            file("mine.list", "/etc/apt/sources.list.d/mine.list"),
            file("unusable.conf", "/etc/apt/apt.conf.d/97bkb"),
            file("apt-sources.conf", "/etc/apt/apt.conf.d/98bkb"),
            env("APT_CONFIG", "/app/apt.conf"),
            file("signed.list", "/etc/apt/sources.list.d/signed.list"),
        ),
        (
            commands(
                "rm -f /etc/apt/apt.conf.d/97bkb; apt-cache policy bkb-vendor bkb-extra > /srv/found 2>&1 || true; "
                "rm -rf /var/cache/apt"
            ),
            lines("RUN ls /var/lib/apt/lists > /srv/lists"),
        ),
    ),
    "TMPDIR": (
        (workdir("/opt/tmp"), folder("one", "/opt/tmp"), file("answers", "/opt/tmp/a")),
        (env("TMPDIR", "/opt/tmp"),),
        (apt("tmp"), pip("wa"), pip("wn"), apt("cc")),
    ),
    "libraries": (
        tuple(
            file("lib-1.so", f"{place}/libbkb.so.1")
            for place in ("/opt/vendor/lib", "/srv/lib", "/usr/local/lib", "/lib", TRIPLET)
        ),
        (file("ld.conf", "/etc/ld.so.conf.d/mine.conf"), file("ld.conf", "/etc/ld.so.conf"), apt("cc")),
        (apt("ld"), apt("lib")),
    ),
    "programs": (
        tuple(
            file(f"shadow/{name}", f"{place}/{name}")
            for name in SHADOWED
            for place in ("/usr/local/bin", "/shadow", "/opt/venv/bin")
            if place != "/opt/venv/bin" or name != "python"
        ),
        (env("PATH", "/shadow:$PATH"), env("PATH", "$PATH:/shadow"), workdir("/shadow")),
        (pip("wa"), pip("wb"), apt("py", "hook"), apt("alt1"), apt("ld"), pip("wn")),
    ),
    "over a package's": (
        (apt("vendor"), apt("odd"), apt("conf"), apt("divert"), apt("vendor", "divert")),
        _COPIES,
        _COPIES,
        (
            file("config-2.ini", "/opt/vendor/config.ini"),
            file("config-2.ini", "/srv/odd/in"),
            file("config-2.ini", "/etc/bkb/main.conf"),
            file("config-2.ini", "/opt/vendor/vendor.conf"),
            file("config-2.ini", "/vendor/vendor/config.ini"),
            file("config-2.ini", "/opt/vendor/config.ini.real"),
        ),
    ),
    "links": (
        (
            file("config-1.ini", "/usr/bin/a"),
            file("config-1.ini", "/usr/sbin/a"),
            file("config-1.ini", "/usr/lib/bkb/a"),
            file("config-1.ini", "/run/bkb/a"),
            file("config-1.ini", "/run/lock/bkb"),
            apt("alt1"),
            apt("cc"),
            apt("links"),
        ),
        (
            file("answers", "/bin/b"),
            file("answers", "/sbin/b"),
            file("answers", "/lib/bkb/b"),
            file("answers", "/var/run/bkb/b"),
            file("answers", "/opt/current/b"),
            file("answers", "/srv/www/b"),
        ),
        (
            file("config-2.ini", "/bin/a"),
            file("config-2.ini", "/sbin/a"),
            file("config-2.ini", "/lib/bkb/a"),
            file("config-2.ini", "/var/run/bkb/a"),
            file("config-2.ini", "/var/lock/bkb"),
            file("config-2.ini", "/bin/tool"),
            file("config-2.ini", "/bin/bkb-cc"),
            file("config-2.ini", "/opt/vendor/b"),
            file("config-2.ini", "/opt/www/b"),
        ),
    ),
    "owners": (
        (
            apt("ftp"),
            apt("home"),
            apt("odd"),
            apt("flyte"),
            file("passwd-1", "/etc/passwd"),
            file("group-1", "/etc/group"),
            workdir("/srv/w"),
            folder("one", "/srv/w"),
        ),
        (
            file("answers", "/srv/ftp/a"),
            folder("one", "/srv/ftp/pub"),
            file("answers", "/home/worker/a"),
            file("answers", "/srv/odd/a"),
            workdir("/home/odd/w"),
            workdir("/srv/ftp/in"),
            folder("one", "/app"),
            file("answers", "/srv/a"),
            workdir("/home/flyte/w"),
        ),
        (
            file("answers", "/srv/ftp/b/c"),
            folder("two", "/home/worker"),
            workdir("/srv/odd/w"),
            folder("two", "/srv"),
            workdir("/app"),
            apt("find"),
        ),
    ),
    "where an installation runs": (
        (
            folder("one", "{cwd}"),
            folder("one", "{cwd}/deep"),
            workdir("{cwd}"),
            apt("ftp", "odd"),
            file("passwd-1", "/etc/passwd"),
            folder("one", "/root/.flyte"),
            folder("one", "/root"),
            folder("one", "/dist"),
            file("answers", "/dist"),
            file("answers", "/root/.cache/a"),
            *(folder("one", f"{place}/{name}") for place in ("{cwd}", "") for name in ("requirements.txt", "uv.lock")),
            file("answers", "{cwd}/requirements.txt"),
            file("answers", "{cwd}/pyproject.toml"),
            folder("one", "/tmp"),
        ),
        (workdir("{cwd}"), workdir("{cwd}/deep"), workdir("{cwd}"), lines("RUN true"), file("answers", "/dist/a")),
        (
            pip("wc"),
            requirements("r.txt"),
            pip("wn"),
            ".clone(addl_layer=PythonWheels(wheel_dir=files / 'dist', package_name='wd'))",
            ".with_uv_project(files / 'locked' / 'pyproject.toml', files / 'locked' / 'uv.lock')",
            ".with_uv_project(files / 'app' / 'pyproject.toml')",
            _WHOLE,
        ),
        (
            folder("two", "."),
            file("answers", "/dist/b"),
            file("answers", "/root/.cache/b"),
            folder("two", "/root/.flyte"),
            folder("two", "/tmp"),
            commands("cd / && rm -rf {cwd}"),
            lines("RUN cd / && rm -rf {cwd}"),
            commands("ls -laR /app /srv /root | grep -v total | awk '{print $1, $3, $4, $9}' > /listed"),
            file("answers", "{cwd}/uv.lock"),
            apt("find"),
        ),
        (pip("wa"), requirements("r.txt"), workdir("{cwd}")),
    ),
    "the environment": (
        (pip("wa"), pip("wb"), requirements("r.txt"), pip("wn", "wa"), apt("venv"), apt("flyte")),
        (
            *(file("patch.py", "{site}/wa/__init__.py"), file("patch.py", "{site}/wa/__init__.py")),
            folder("one", "{site}/wa"),
            folder("two", "{site}"),
            folder("one", "{above}"),
            file("answers", "{above}/z"),
            workdir("{site}/wa"),
            workdir("{above}/w"),
            apt("venv"),
            file("sitecustomize.py", "{site}/sitecustomize.py"),
            file("sitecustomize.py", "/usr/lib/python3.11/sitecustomize.py"),
            file("sitecustomize.py", "/etc/python3.11/sitecustomize.py"),
            file("pth", "{site}/z.pth"),
            apt("special"),
        ),
        (
            pip("wc"),
            pip("wa", extra_args="--upgrade"),
            pip("wa", extra_args="--reinstall"),
            pip("wb", extra_args="--no-deps"),
            pip("wa==1.0"),
            pip("wa", extra_args="--no-compile"),
            apt("cc"),
            lines("RUN true"),
        ),
        (pip("wc"), file("patch.py", "{site}/wa/__init__.py"), folder("two", "{above}"), pip("wb"), apt("find")),
    ),
    "settings above": (
        _SIMPLE,
        tuple(
            file(name, f"{{parent}}/{into}")
            for name, into in (("index.toml", "uv.toml"), ("pyproject.toml", "pyproject.toml"))
        ),
        (workdir("{cwd}"), workdir("{cwd}/deep"), apt("ftp", "links")),
        _PIPS,
    ),
    **{
        f"the script of bkb-{name}": (copies, *([_FOR_SCRIPT[name]] if name in _FOR_SCRIPT else []), (apt(name),))
        for name, copies in _BY_SCRIPT.items()
    },
}
# Installations that run beside the rest where nothing steers them.
AHEAD = (
    *_PIPS,
    pip("wc"),
    pip("wn", "wa"),
    pip("wa", "wc", extra_args="--no-compile"),
    requirements("r-links.txt"),
    ".clone(addl_layer=PythonWheels(wheel_dir=files / 'dist', package_name='wd'))",
    ".with_uv_project(files / 'locked' / 'pyproject.toml', files / 'locked' / 'uv.lock')",
    _WHOLE,
)
# What has nothing to do with the rest, but makes one chain of layers longer than another.
ASIDE = (
    apt("special"),
    file("answers", "/bin/z"),
    file("answers", "/opt/vendor/z"),
    file("answers", "/usr/share/z/z"),
    folder("one", "/z"),
    workdir("/app"),
    env("MODE", "fast"),
    pip("wc"),
    apt("cc"),
    lines("LABEL z=1"),
)
# What to put on a base, so that it matters.
FITTING: Mapping[str, tuple[str, ...]] = {
    "user": ("owners", "the environment", "where an installation runs", "the environment"),
    "links": (
        "links",
        "the environment",
        "settings above",
        "where an installation runs",
        "over a package's",
        "index by settings",
        "index by a variable",
        "a key",
        "a repository",
        "the script of bkb-answers",
        "a target",
    ),
    "settings": ("wheels", "index by arguments"),
    "constrained": ("constraints", "programs"),
    "home": ("the script of bkb-rc", "settings of apt", "settings by a variable", "index by settings"),
    "venv": ("a project", "a target", "where an installation runs"),
    "spread": ("the environment", "where an installation runs"),
    "own": ("the environment", "where an installation runs", "a target"),
}

# What stands in braces in a layer, by base; the last is for all others.
_USUAL: Mapping[str, tuple[str, ...]] = {
    "{site}": (SITE,),
    "{above}": ("/opt", "/opt/venv", "/opt/venv/lib"),
    "{cwd}": ("/app", "/srv/w", "/srv/ftp", "/srv/odd", "/home/worker", "/closed/w"),
    "{parent}": ("/app", "/srv", ""),
}
_OF_BASES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "links": {
        "{site}": (SITE, SITE.replace("/opt", "/vendor")),
        "{above}": ("/opt", "/vendor", "/vendor/venv"),
        "{cwd}": ("/app", "/data/apps", "/srv/w", "/vendor/w", "/home/w"),
        "{parent}": ("/app", "/data", "/data/apps", "/data/srv", "/opt", "/vendor"),
    },
    "own": {
        "{site}": tuple(SITE.replace("/opt/venv", home) for home in ("/env/own", "/env/link")),
        "{above}": ("/env", "/env/own", "/env/link"),
    },
    "spread": {
        "{site}": tuple(SITE.replace("/opt/venv/lib", lib) for lib in ("/env/lib", "/data/lib")),
        "{above}": ("/env", "/data", "/data/lib"),
    },
}


def fillings(base: str) -> Mapping[str, tuple[str, ...]]:
    """What may stand for what is in braces, on a base."""
    return {**_USUAL, **_OF_BASES.get(base, {})}
