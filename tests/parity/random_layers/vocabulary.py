"""The layers that random images are made of, as code; by what they have to do with, so that they often meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyte import Image
from flyte._image import PythonWheels, _DockerLines

from tests.parity.random_layers.world import SHADOWED, World


def _apt(*names: str) -> str:
    return ".with_apt_packages({})".format(", ".join(f'"bkb-{name}"' for name in names))


def _file(name: str, destination: str) -> str:
    return f'.with_source_file(files / "{name}", "{destination}")'


def _folder(name: str, destination: str) -> str:
    return f'.with_source_folder(files / "{name}", "{destination}", copy_contents_only=True)'


def _env(name: str, value: str) -> str:
    return f'.with_env_vars({{"{name}": "{value}"}})'


def _pip(*names: str, **options: str) -> str:
    words = [*(f'"{name}"' for name in names), *(f"{key}={value!r}" for key, value in options.items())]
    return f".with_pip_packages({', '.join(words)})"


def _requirements(name: str, **options: str) -> str:
    words = [f'files / "{name}"', *(f"{key}={value!r}" for key, value in options.items())]
    return f".with_requirements({', '.join(words)})"


def _workdir(path: str) -> str:
    return f'.with_workdir("{path}")'


def _lines(*lines: str) -> str:
    return f".clone(addl_layer=_DockerLines(lines={lines!r}))"


def _commands(*commands: str) -> str:
    return f".with_commands({list(commands)!r})"


_SITE = "/opt/venv/lib/python3.11/site-packages"
_TRIPLET = "/lib/x86_64-linux-gnu"

THEMES: Mapping[str, tuple[str, ...]] = {
    "vendor": (
        *(_apt(name) for name in ("vendor", "divert", "override", "conf", "watch", "plugin", "links", "find")),
        _apt("vendor", "links"),
        _file("config-1.ini", "/opt/vendor/config.ini"),
        _file("config-2.ini", "/opt/vendor/config.ini"),
        _file("config-1.ini", "/opt/vendor/config.ini.real"),
        *(_file("config-2.ini", f"/opt/vendor/plugins/{number}") for number in (0, 1, 2)),
        _file("config-2.ini", "/opt/vendor/vendor.conf"),
        _file("config-1.ini", "/etc/bkb/main.conf"),
        _file("config-1.ini", "/opt/current/config.ini"),
        _file("config-2.ini", "/vendor/vendor/config.ini"),
        _file("config-1.ini", "/opt/plugins/p1"),
        _file("config-1.ini", "/opt/plugins/p2"),
        _folder("one", "/opt/vendor/plugins"),
        _folder("two", "/opt/vendor"),
        _folder("two", "/opt/www"),
        _folder("one", "/srv/www"),
        _workdir("/opt/vendor"),
        _file("config-1.ini", "."),
    ),
    "bin": (
        *(_apt(name) for name in ("alt1", "alt2", "cc", "links", "answers")),
        _file("tool-1", "/usr/bin/tool"),
        _file("tool-2", "/bin/tool"),
        _file("tool-1", "/etc/alternatives/tool"),
        _file("tool-2", "/bin/bkb-cc"),
        _file("tool-1", "/usr/bin/bkb-cc"),
        *(_file("tool-1", f"{place}/a") for place in ("/bin", "/sbin", "/usr/sbin", "/usr/bin", "/usr/local/bin")),
        *(_file("tool-2", f"{place}/a") for place in ("/bin", "/sbin", "/lib/bkb", "/usr/lib/bkb", "/lib64/bkb")),
        _file("config-1.ini", "/var/run/bkb/a"),
        _file("config-2.ini", "/run/bkb/a"),
        _file("config-1.ini", "/var/lock/bkb"),
        _file("config-2.ini", "/run/lock/bkb"),
        _file("answers", "/usr/lib/bkb/lab/answers"),
        _file("answers", "/opt/lab/answers"),
        _folder("one", "/usr/lib/bkb/lab"),
        _folder("two", "/opt/lab"),
        _workdir("/bin"),
        _workdir("/usr/lib/bkb"),
    ),
    "owners": (
        *(_apt(name) for name in ("ftp", "home", "flyte", "odd", "users", "find")),
        *(_file(f"{name}-{number}", f"/etc/{name}") for name in ("passwd", "group") for number in (1, 2)),
        _file("config-1.ini", "/srv/ftp/pub/a"),
        _folder("one", "/srv/ftp"),
        _folder("one", "/srv/ftp/pub"),
        _folder("two", "/srv/odd/in/deep"),
        _folder("two", "/srv/odd"),
        _file("config-1.ini", "/srv/odd/in"),
        _file("config-1.ini", "/home/worker/.profile"),
        _folder("one", "/home/worker/src"),
        _folder("two", "/home/flyte/src"),
        _file("config-2.ini", "/home/odd/a"),
        _file("config-2.ini", "/srv/a"),
        _folder("one", "/srv/w"),
        _folder("one", "/app"),
        *(_workdir(path) for path in ("/srv/w", "/srv/ftp/in", "/home/worker/w", "/home/flyte", "/app", "/srv")),
        _lines("USER worker"),
        _lines("USER ftp", "RUN id > /tmp/id || true", "USER root"),
        _lines("USER root"),
        _commands("useradd --create-home flyte || true"),
    ),
    "uv": (
        *(_pip(name) for name in ("wa", "wb", "wc", "wa<2", "wn")),
        _pip("wa", extra_args="--upgrade"),
        _pip("wa", extra_args="--target /app/lib"),
        _pip("wb", extra_args="--prefix /opt/prefix"),
        _pip("wc", extra_args="--system --break-system-packages"),
        _pip("wa", extra_args="--find-links /usr/share/wheels"),
        _pip("wa", extra_args="--constraint /etc/constraints.txt"),
        _pip("wa", extra_args="--index file:///opt/simple"),
        _pip("wa", extra_index_urls="$MINE"),
        _pip("wb", index_url="$MINE"),
        *(_requirements(f"{name}.txt") for name in ("r", "r-index", "r-links", "r-more", "r-constraint")),
        _folder("simple-1", "/opt/simple"),
        _folder("simple-2", "/opt/simple"),
        _folder("simple-1", "/usr/share/simple"),
        _folder("wheels-1", "/usr/share/wheels"),
        _folder("wheels-2", "/usr/share/wheels"),
        _folder("wheels-1", "/app/wheels"),
        *(_file(f"constraints-{number}.txt", "/etc/constraints.txt") for number in (1, 2)),
        _file("r.txt", "/opt/more.txt"),
        _file("patch.py", "/app/lib/wa/__init__.py"),
        _file("patch.py", f"{_SITE}/wa/__init__.py"),
        _file("patch.py", "/opt/prefix/lib/python3.11/site-packages/wa/__init__.py"),
        _folder("one", "/app/lib"),
        _workdir("/app"),
        ".clone(addl_layer=PythonWheels(wheel_dir=files / 'dist', package_name='wd'))",
        ".with_uv_project(files / 'app' / 'pyproject.toml')",
        ".with_uv_project(files / 'indexed' / 'pyproject.toml')",
        ".with_uv_project(files / 'locked' / 'pyproject.toml', files / 'locked' / 'uv.lock')",
        ".with_uv_project(files / 'locked' / 'pyproject.toml', project_install_mode='install_project')",
        _commands("uv pip list --python $UV_PYTHON > /srv/pip 2>/dev/null || true"),
    ),
    "uv settings": (
        *(_pip(name) for name in ("wa", "wb", "wc")),
        _requirements("r.txt"),
        _folder("simple-1", "/opt/simple"),
        _folder("wheels-1", "/usr/share/wheels"),
        *(
            _file(f"{name}.toml", place)
            for name in ("index", "links", "pre")
            for place in ("/etc/uv/uv.toml", "/root/.config/uv/uv.toml", "/app/uv.toml", "/opt/uv.toml")
        ),
        _file("index.toml", "/opt/app/.config/uv/uv.toml"),
        _file("index.toml", "/opt/settings/uv.toml"),
        _file("index.toml", "/etc/xdg/uv/uv.toml"),
        _file("relative.toml", "/app/uv.toml"),
        _file("pyproject.toml", "/app/pyproject.toml"),
        _file("netrc", "/root/.netrc"),
        _folder("wheels-2", "/app/wheels"),
        _file("constraints-1.txt", "/etc/constraints.txt"),
        _workdir("/app"),
        _workdir("/app/deep"),
        *(
            _env(name, value)
            for name, value in {
                "UV_INDEX": "file:///opt/simple",
                "UV_EXTRA_INDEX_URL": "$MINE",
                "UV_FIND_LINKS": "/usr/share/wheels",
                "UV_CONSTRAINT": "/etc/constraints.txt",
                "UV_OVERRIDE": "/etc/constraints.txt",
                "UV_CONFIG_FILE": "/opt/uv.toml",
                "UV_NO_CONFIG": "1",
                "UV_PRERELEASE": "allow",
                "UV_COMPILE_BYTECODE": "0",
                "UV_NO_CACHE": "1",
                "UV_SYSTEM_PYTHON": "1",
                "UV_PYTHON": "/usr/local/bin/python3",
                "UV_DEFAULT_INDEX": "file:///opt/simple",
                "UV_ENV_FILE": "/opt/env.sh",
                "VIRTUAL_ENV": "/app/.venv",
                "MINE": "file:///opt/simple",
                "XDG_CONFIG_HOME": "/opt/xdg",
                "XDG_CONFIG_DIRS": "/opt/xdg",
                "NETRC": "/opt/netrc",
                "HOME": "/opt/app",
                "PIP_INDEX_URL": "file:///opt/simple",
                "SSL_CERT_FILE": "/opt/ca.pem",
            }.items()
        ),
        _file("index.toml", "/opt/xdg/uv/uv.toml"),
        _env("UV_INDEX", "$WHERE/simple"),
        _env("WHERE", "file:///opt"),
    ),
    "apt settings": (
        *(_apt(name) for name in ("vendor", "conf", "extra", "tmp", "cc")),
        _file("mine.list", "/etc/apt/sources.list.d/mine.list"),
        _file("mine.list", "/etc/apt/sources.list"),
        _file("mine.list", "/opt/sources/mine.list"),
        _folder("repo", "/srv/repo"),
        _folder("signed", "/srv/signed"),
        _file("signed.list", "/etc/apt/sources.list.d/signed.list"),
        _file("k.gpg", "/opt/keys/k.gpg"),
        _file("unusable.conf", "/etc/apt/apt.conf.d/97bkb"),
        _file("apt.conf", "/etc/apt/apt.conf.d/99bkb"),
        _file("apt-sources.conf", "/etc/apt/apt.conf.d/98bkb"),
        _file("apt.conf", "/app/apt.conf"),
        _file("apt-sources.conf", "/app/apt.conf"),
        _env("APT_CONFIG", "/app/apt.conf"),
        *(_file("dpkg.cfg", place) for place in ("/root/.dpkg.cfg", "/opt/app/.dpkg.cfg", "/etc/dpkg/dpkg.cfg.d/bkb")),
        _file("dpkg-conf.cfg", "/root/.dpkg.cfg"),
        _file("config-1.ini", "/etc/bkb/main.conf"),
        _file("config-2.ini", "/opt/vendor/config.ini"),
        _env("DPKG_FORCE", "confold,overwrite"),
        _env("DPKG_FORCE", "confnew"),
        _env("HOME", "/opt/app"),
        _env("TMPDIR", "/opt/tmp"),
        _workdir("/opt/tmp"),
        _folder("one", "/opt/tmp"),
        _workdir("/srv/repo"),
        _commands("apt-get update >/dev/null 2>&1; apt-cache search bkb > /srv/found 2>/dev/null; rm -rf /var/cache/apt"),
    ),
    "scripts": (
        *(_apt(name) for name in ("answers", "tmp", "env", "py", "rc", "bash", "need", "hook", "find", "links")),
        *(_file("answers", place) for place in ("/opt/lab/answers", "/vendor/lab/answers")),
        _file("license", "/opt/lab/license"),
        *(_file("bkbmod-1.py", f"{place}/bkbmod.py") for place in ("/opt/py", "/usr/lib/python3/dist-packages")),
        _file("bkbmod-2.py", "/opt/py/bkbmod.py"),
        _file("bkbmod-2.py", "/usr/local/lib/python3.11/dist-packages/bkbmod.py"),
        _file("sitecustomize.py", "/opt/py/sitecustomize.py"),
        _file("sitecustomize.py", f"{_SITE}/sitecustomize.py"),
        *(_file("bkbrc", f"{home}/.bkbrc") for home in ("/root", "/opt/app", "/home/app")),
        _file("env.sh", "/opt/env.sh"),
        _file("hook", "/usr/local/bin/bkb-hook"),
        _file("hook", "/opt/hooks.d/hook"),
        *(
            _env(name, value)
            for name, value in {
                "TMPDIR": "/opt/tmp",
                "PYTHONPATH": "/opt/py",
                "PYTHONSTARTUP": "/opt/py/bkbmod.py",
                "PYTHONHOME": "/opt/python",
                "HOME": "/opt/app",
                "BASH_ENV": "/opt/env.sh",
                "ENV": "/opt/env.sh",
                "MODE": "fast",
                "BKB_MODE": "$MODE-er",
            }.items()
        ),
        _workdir("/opt/tmp"),
        _workdir("/opt/app"),
        _pip("wa"),
        _pip("wn"),
        _commands("cat /var/lib/bkb/* > /srv/notes 2>/dev/null || true"),
    ),
    "linker": (
        *(_apt(name) for name in ("ld", "lib", "cc", "py")),
        *(_file(f"lib-{number}.so", "/opt/vendor/lib/libbkb.so.1") for number in (1, 2)),
        _file("lib-1.so", "/srv/lib/libbkb.so.1"),
        _file("lib-1.so", "/usr/local/lib/libbkb.so.1"),
        _file("lib-2.so", "/usr/lib/libbkb.so.1"),
        _file("lib-2.so", f"{_TRIPLET}/libbkb.so.1"),
        _file("ld.conf", "/etc/ld.so.conf.d/mine.conf"),
        _file("ld.conf", "/etc/ld.so.conf"),
        _file("ld.so.preload", "/etc/ld.so.preload"),
        _env("LD_LIBRARY_PATH", "/opt/vendor/lib"),
        _env("LD_PRELOAD", "/opt/vendor/lib/libbkb.so.1"),
        _pip("wa"),
        _commands("ldconfig -p | grep bkb > /srv/libraries || true"),
    ),
    "shadow": (
        *(_file(f"shadow/{name}", f"/usr/local/bin/{name}") for name in SHADOWED),
        *(_file(f"shadow/{name}", f"/shadow/{name}") for name in SHADOWED),
        *(_file(f"shadow/{name}", f"/opt/venv/bin/{name}") for name in ("uv", "python3", "sh")),
        _folder("shadow", "/shadow"),
        *(_env("PATH", path) for path in ("/shadow:$PATH", "$PATH:/shadow") * 2),
        *(_apt(name) for name in ("alt1", "ld", "py", "cc", "hook", "bash")),
        *(_pip(name) for name in ("wa", "wb", "wn")),
        _file("tool-1", "/shadow/bkb-hook"),
        _workdir("/shadow"),
    ),
}
LAYERS = tuple(dict.fromkeys(code for theme in THEMES.values() for code in theme))

_SIMPLE = (_folder("simple-1", "/opt/simple"), _folder("simple-2", "/opt/simple"), _folder("simple-1", "/usr/share/simple"))
_PIPS = (_pip("wa"), _pip("wa"), _pip("wb"), _requirements("r.txt"))
_SETTINGS = ("/etc/uv/uv.toml", "/etc/xdg/uv/uv.toml", "/root/.config/uv/uv.toml", "/opt/app/.config/uv/uv.toml",
             "/opt/settings/uv.toml", "/opt/xdg/uv/uv.toml", "/app/uv.toml", "/uv.toml", "uv.toml")  # fmt: skip
_COPIES = tuple(_file("config-1.ini", f"/opt/vendor/plugins/{number}") for number in range(3))
_BY_SCRIPT = {
    "answers": (_file("answers", "/opt/lab/answers"), _file("answers", "/vendor/lab/answers"),
                _file("answers", "/usr/lib/bkb/lab/answers")),
    "need": (_file("license", "/opt/lab/license"),),
    "hook": (_file("hook", "/usr/local/bin/bkb-hook"), _file("hook", "/opt/hooks.d/hook")),
    "rc": (_file("bkbrc", "/root/.bkbrc"), _file("bkbrc", "/opt/app/.bkbrc")),
    "py": (_file("bkbmod-1.py", "/opt/py/bkbmod.py"), _file("bkbmod-2.py", "/usr/lib/python3/dist-packages/bkbmod.py")),
    "bash": (_file("env.sh", "/opt/env.sh"),),
    "find": (_file("answers", "/srv/a"), _workdir("/home/w"), _folder("one", "/opt/one")),
    "users": (_file("passwd-1", "/etc/passwd"), _apt("home")),
    "plugin": (_file("answers", "/opt/plugins/p0"),),
    "watch": (_file("answers", "/opt/plugins/p0"), _folder("one", "/opt/plugins")),
}  # fmt: skip
_FOR_SCRIPT = {
    "py": (_env("PYTHONPATH", "/opt/py"), _env("PYTHONPATH", "$LIB/py")),
    "rc": (_env("HOME", "/opt/app"), _env("MODE", "1")),
    "bash": (_env("BASH_ENV", "/opt/env.sh"),),
    "plugin": (_apt("watch"),),
}

# What meets only where several layers come together: each has a place for each of them, with what may stand there.
RECIPES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "index by a variable": (
        _SIMPLE,
        (_env("UV_INDEX", "file:///opt/simple"), _env("UV_EXTRA_INDEX_URL", "file:///opt/simple"),
         _env("UV_DEFAULT_INDEX", "file:///opt/simple"), _env("UV_INDEX", "$MINE")),
        _PIPS,
    ),
    "index by settings": (_SIMPLE, tuple(_file("index.toml", place) for place in _SETTINGS), _PIPS),
    "settings by a variable": (
        _SIMPLE,
        (_file("index.toml", "/opt/uv.toml"), _file("index.toml", "/opt/xdg/uv/uv.toml"),
         _file("index.toml", "/opt/app/.config/uv/uv.toml"), _file("pyproject.toml", "/app/pyproject.toml")),
        (_env("UV_CONFIG_FILE", "/opt/uv.toml"), _env("XDG_CONFIG_HOME", "/opt/xdg"), _env("XDG_CONFIG_DIRS", "/opt/xdg"),
         _env("HOME", "/opt/app"), _workdir("/app/deep")),
        _PIPS,
    ),
    "index by arguments": (
        _SIMPLE,
        (_env("MINE", "file:///opt/simple"), _env("MINE", "file://$PLACE/simple"), _env("PLACE", "/opt")),
        (_pip("wa", extra_index_urls="$MINE"), _pip("wb", index_url="$MINE"), _requirements("r-index.txt"),
         _pip("wa", extra_args="--index file:///opt/simple")),
    ),
    "wheels": (
        (_folder("wheels-1", "/usr/share/wheels"), _folder("wheels-2", "/usr/share/wheels")),
        (_env("UV_FIND_LINKS", "/usr/share/wheels"), _file("links.toml", "/etc/uv/uv.toml"), _workdir("/app")),
        (_pip("wa"), _pip("wa", extra_args="--find-links /usr/share/wheels"), _requirements("r-links.txt")),
    ),
    "constraints": (
        (_file("constraints-1.txt", "/etc/constraints.txt"), _file("constraints-2.txt", "/etc/constraints.txt")),
        (_env("UV_CONSTRAINT", "/etc/constraints.txt"), _env("UV_OVERRIDE", "/etc/constraints.txt"), _workdir("/app")),
        (*_PIPS, _pip("wb", extra_args="--constraint /etc/constraints.txt"), _requirements("r-constraint.txt")),
    ),
    "a project": (
        _SIMPLE,
        (_workdir("/app"), _file("index.toml", "/app/uv.toml"), _env("UV_INDEX", "file:///opt/simple")),
        (".with_uv_project(files / 'indexed' / 'pyproject.toml')", ".with_uv_project(files / 'app' / 'pyproject.toml')"),
    ),
    "a target": (
        (_pip("wa", extra_args="--target /app/lib"), _pip("wb", extra_args="--prefix /opt/prefix"), _pip("wa"),
         _pip("wa", extra_args="--system --break-system-packages")),
        (_folder("one", "/app/lib"), _file("answers", "/app/lib/a"), _file("answers", f"{_SITE}/a")),
        (_file("patch.py", "/app/lib/wa/__init__.py"), _file("patch.py", f"{_SITE}/wa/__init__.py"),
         _file("patch.py", "/opt/prefix/lib/python3.11/site-packages/wa/__init__.py"),
         _file("patch.py", "/usr/local/lib/python3.11/dist-packages/wa/__init__.py")),
    ),
    "a repository": (
        (_folder("repo", "/srv/repo"), _folder("repo", "/data/srv/repo")),
        (_file("mine.list", "/etc/apt/sources.list.d/mine.list"), _file("mine.list", "/etc/apt/sources.list")),
        (_apt("extra"), _apt("vendor")),
    ),
    "a key": (
        (_folder("signed", "/srv/signed"),),
        (_file("k.gpg", "/opt/keys/k.gpg"), _file("k.gpg", "/vendor/keys/k.gpg")),
        (_file("signed.list", "/etc/apt/sources.list.d/signed.list"),),
        (_apt("extra"),),
    ),
    "settings of apt": (
        (_file("apt.conf", "/etc/apt/apt.conf.d/99bkb"), _file("apt.conf", "/app/apt.conf"),
         _file("dpkg.cfg", "/root/.dpkg.cfg"), _file("dpkg.cfg", "/opt/app/.dpkg.cfg"),
         _file("dpkg.cfg", "/etc/dpkg/dpkg.cfg.d/bkb")),
        (_env("APT_CONFIG", "/app/apt.conf"), _env("HOME", "/opt/app"), _workdir("/app")),
        (_apt("vendor"), _apt("vendor", "cc")),
    ),
    "lists for a command": (
        (_apt("cc"), _apt("vendor")),
        (_file("mine.list", "/etc/apt/sources.list.d/mine.list"), _file("unusable.conf", "/etc/apt/apt.conf.d/97bkb"),
         _file("apt-sources.conf", "/etc/apt/apt.conf.d/98bkb"), _env("APT_CONFIG", "/app/apt.conf"),
         _file("signed.list", "/etc/apt/sources.list.d/signed.list")),
        (_commands("rm -f /etc/apt/apt.conf.d/97bkb; apt-cache policy bkb-vendor bkb-extra > /srv/found 2>&1 || true; "
                   "rm -rf /var/cache/apt"), _lines("RUN ls /var/lib/apt/lists > /srv/lists")),
    ),
    "TMPDIR": (
        (_workdir("/opt/tmp"), _folder("one", "/opt/tmp"), _file("answers", "/opt/tmp/a")),
        (_env("TMPDIR", "/opt/tmp"),),
        (_apt("tmp"), _pip("wa"), _pip("wn"), _apt("cc")),
    ),
    "libraries": (
        tuple(_file("lib-1.so", f"{place}/libbkb.so.1")
              for place in ("/opt/vendor/lib", "/srv/lib", "/usr/local/lib", "/lib", _TRIPLET)),
        (_file("ld.conf", "/etc/ld.so.conf.d/mine.conf"), _file("ld.conf", "/etc/ld.so.conf"), _apt("cc")),
        (_apt("ld"), _apt("lib")),
    ),
    "programs": (
        tuple(_file(f"shadow/{name}", f"{place}/{name}") for name in SHADOWED
              for place in ("/usr/local/bin", "/shadow", "/opt/venv/bin") if place != "/opt/venv/bin" or name != "python"),
        (_env("PATH", "/shadow:$PATH"), _env("PATH", "$PATH:/shadow"), _workdir("/shadow")),
        (_pip("wa"), _pip("wb"), _apt("py", "hook"), _apt("alt1"), _apt("ld"), _pip("wn")),
    ),
    "over a package's": (
        (_apt("vendor"), _apt("odd"), _apt("conf"), _apt("divert"), _apt("vendor", "divert")),
        _COPIES,
        _COPIES,
        (_file("config-2.ini", "/opt/vendor/config.ini"), _file("config-2.ini", "/srv/odd/in"),
         _file("config-2.ini", "/etc/bkb/main.conf"), _file("config-2.ini", "/opt/vendor/vendor.conf"),
         _file("config-2.ini", "/vendor/vendor/config.ini"), _file("config-2.ini", "/opt/vendor/config.ini.real")),
    ),
    "links": (
        (_file("config-1.ini", "/usr/bin/a"), _file("config-1.ini", "/usr/sbin/a"), _file("config-1.ini", "/usr/lib/bkb/a"),
         _file("config-1.ini", "/run/bkb/a"), _file("config-1.ini", "/run/lock/bkb"), _apt("alt1"), _apt("cc"), _apt("links")),
        (_file("answers", "/bin/b"), _file("answers", "/sbin/b"), _file("answers", "/lib/bkb/b"),
         _file("answers", "/var/run/bkb/b"), _file("answers", "/opt/current/b"), _file("answers", "/srv/www/b")),
        (_file("config-2.ini", "/bin/a"), _file("config-2.ini", "/sbin/a"), _file("config-2.ini", "/lib/bkb/a"),
         _file("config-2.ini", "/var/run/bkb/a"), _file("config-2.ini", "/var/lock/bkb"), _file("config-2.ini", "/bin/tool"),
         _file("config-2.ini", "/bin/bkb-cc"), _file("config-2.ini", "/opt/vendor/b"), _file("config-2.ini", "/opt/www/b")),
    ),
    "owners": (
        (_apt("ftp"), _apt("home"), _apt("odd"), _apt("flyte"), _file("passwd-1", "/etc/passwd"),
         _file("group-1", "/etc/group"), _workdir("/srv/w"), _folder("one", "/srv/w")),
        (_file("answers", "/srv/ftp/a"), _folder("one", "/srv/ftp/pub"), _file("answers", "/home/worker/a"),
         _file("answers", "/srv/odd/a"), _workdir("/home/odd/w"), _workdir("/srv/ftp/in"), _folder("one", "/app"),
         _file("answers", "/srv/a"), _workdir("/home/flyte/w")),
        (_file("answers", "/srv/ftp/b/c"), _folder("two", "/home/worker"), _workdir("/srv/odd/w"), _folder("two", "/srv"),
         _workdir("/app"), _apt("find")),
    ),
    "where an installation runs": (
        (_folder("one", "/app"), _folder("one", "/srv/w/deep"), _workdir("/srv/odd/w"), _apt("ftp"), _apt("odd"),
         _file("passwd-1", "/etc/passwd"), _folder("one", "/root/.flyte"), _file("answers", "/dist"),
         _file("answers", "/root/.cache/a"), _file("answers", "/app/requirements.txt"), _folder("one", "/app/.venv")),
        (_workdir("/app"), _workdir("/srv/w"), _workdir("/srv/ftp"), _workdir("/srv/odd"), _workdir("/app/deep/er"),
         _workdir("/vendor/w"), _workdir("/opt/venv/w"), _file("answers", "/root/.cache/uv/a"), _file("answers", "/dist/a"),
         _file("python-version", "/app/.python-version"), _folder("one", "/tmp")),
        (_pip("wc"), _requirements("r.txt"), _pip("wn"),
         ".clone(addl_layer=PythonWheels(wheel_dir=files / 'dist', package_name='wd'))",
         ".with_uv_project(files / 'locked' / 'pyproject.toml', files / 'locked' / 'uv.lock')",
         ".with_uv_project(files / 'app' / 'pyproject.toml')",
         ".with_uv_project(files / 'locked' / 'pyproject.toml', project_install_mode='install_project')"),
        (_file("answers", "/dist/b"), _file("answers", "/root/.cache/b"), _folder("two", "/root/.flyte"), _folder("two", "."),
         _workdir("/app"), _commands("ls -laR /app /srv /root | grep -v total | awk '{print $1, $3, $4, $9}' > /listed"),
         _file("answers", "/app/pyproject.toml"), _file("answers", "/app/uv.lock")),
    ),
    "the environment": (
        (_pip("wa"), _pip("wb"), _requirements("r.txt"), _pip("wn")),
        (_file("patch.py", f"{_SITE}/wa/__init__.py"), _file("patch.py", "/env/lib/python3.11/site-packages/wa/__init__.py"),
         _file("patch.py", "/env/link/lib/python3.11/site-packages/wa/__init__.py"),
         _file("patch.py", "/vendor/venv/lib/python3.11/site-packages/wa/__init__.py"), _folder("one", "/vendor/venv/share"),
         _folder("one", "/opt"), _workdir(f"{_SITE}/wa"), _apt("venv"), _file("sitecustomize.py", f"{_SITE}/sitecustomize.py"),
         _file("sitecustomize.py", "/usr/lib/python3.11/sitecustomize.py"), _file("pth", f"{_SITE}/z.pth"),
         _file("sitecustomize.py", "/etc/python3.11/sitecustomize.py"), _folder("wheels-1", f"{_SITE}/wheels")),
        (_pip("wc"), _pip("wa", extra_args="--upgrade"), _pip("wa", extra_args="--reinstall"), _apt("cc"),
         _pip("wb", extra_args="--no-deps"), _pip("wa==1.0"), _pip("wa", extra_args="--no-compile"), _lines("RUN true")),
    ),
    **{
        f"the script of bkb-{name}": (copies, *([_FOR_SCRIPT[name]] if name in _FOR_SCRIPT else []), (_apt(name),))
        for name, copies in _BY_SCRIPT.items()
    },
}  # fmt: skip
# What has nothing to do with the rest, but makes one chain of layers longer than another.
ASIDE = (
    _file("answers", "/bin/z"),
    _file("answers", "/opt/vendor/z"),
    _file("answers", "/usr/share/z/z"),
    _folder("one", "/z"),
    _workdir("/app"),
    _env("MODE", "fast"),
    _pip("wc"),
    _apt("cc"),
    _lines("LABEL z=1"),
)


def built(world: World, base: str, layers: tuple[str, ...], platform: str) -> Image:
    """The image that code stands for."""
    return evaluated(f"base{''.join(layers)}", world, world.base(base, platform))


def evaluated(code: str, world: World, base: Image) -> Image:
    """The image that an expression makes of a base; it may name `base`, `files` and what Flyte's layers are made by."""
    names: dict[str, Any] = {
        "base": base, "files": world.files, "_DockerLines": _DockerLines, "PythonWheels": PythonWheels,
    }  # fmt: skip
    image = eval(code, names)
    assert isinstance(image, Image)
    return image


# What to put on a base, so that it matters.
FITTING: Mapping[str, tuple[str, ...]] = {
    "user": ("owners", "where an installation runs", "the environment"),
    "links": ("links", "the environment", "over a package's", "index by settings", "index by a variable", "a key", "a repository",
              "the script of bkb-answers", "a target"),
    "settings": ("wheels", "index by arguments"),
    "constrained": ("constraints", "programs"),
    "home": ("the script of bkb-rc", "settings of apt", "settings by a variable", "index by settings"),
    "venv": ("a project", "a target", "where an installation runs"),
    "own": ("the environment", "where an installation runs", "a target"),
}  # fmt: skip
