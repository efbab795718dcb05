"""What the comparison has found once: tried again each time, as no seed finds it for certain."""

from __future__ import annotations

from tests.parity.random_layers.layers import SITE, apt, commands, env, file, folder, lines, pip, requirements, workdir
from tests.parity.random_layers.sequences import Layers

_MADE_FROM_WHEELS = ".clone(addl_layer=PythonWheels(wheel_dir=files / 'dist', package_name='wd'))"
_LOCKED = ".with_uv_project(files / 'locked' / 'pyproject.toml', files / 'locked' / 'uv.lock')"
_USER = (file("passwd-1", "/etc/passwd"), file("group-1", "/etc/group"))
_INTO_WA = "site-packages/wa/__init__.py"


def _on(base: str, *layers: str) -> Layers:
    return Layers(base=base, layers=layers)


FOUND = (
    # Directories that a container's start makes: where it works, and what it mounts to.
    _on("user", folder("one", "/app"), workdir("/app"), pip("wc")),
    _on("user", apt("ftp"), workdir("/srv/ftp"), pip("wc")),
    _on("plain", workdir("/app"), commands("cd / && rmdir /app"), pip("wc")),
    _on("plain", file("answers", "/dist"), _MADE_FROM_WHEELS),
    _on("plain", folder("one", "/app/requirements.txt"), workdir("/app"), requirements("r.txt")),
    _on("plain", folder("one", "/requirements.txt"), lines("RUN true"), workdir("/app"), requirements("r.txt")),
    # Other paths to the environment, and out of it.
    _on("own", pip("wa"), file("patch.py", f"/env/own/lib/python3.11/{_INTO_WA}")),
    _on("links", *_USER, pip("wa"), file("patch.py", f"{SITE.replace('/opt', '/vendor')}/wa/__init__.py")),
    _on("spread", pip("wa"), file("patch.py", f"/data/lib/python3.11/{_INTO_WA}")),
    _on("spread", file("patch.py", f"/data/lib/python3.11/{_INTO_WA}"), pip("wa")),
    # What uv reads above the directory in which it is run, however that is reached.
    _on(
        "links", folder("simple-1", "/opt/simple"), file("index.toml", "/data/uv.toml"), workdir("/app/deep"), pip("wa")
    ),
    _on("user", file("answers", "/pyproject.toml"), folder("one", "/app"), workdir("/app"), _LOCKED),
    # A program of the user's that a text of ours might run.
    _on("plain", file("shadow/env", "/usr/local/bin/env"), lines("RUN true"), pip("wc")),
    # An installation ahead that stops halfway, and leaves what the step itself would take for a package.
    _on("plain", folder("one", f"{SITE}/wc/__init__.py"), pip("wc")),
    _on("spread", pip("wc")),
    # Of the state before the written order: what lay in other places than the system's.
    _on("plain", folder("repo", "/srv/repo"), file("mine.list", "/etc/apt/sources.list"), apt("vendor")),
    _on("plain", file("bkbmod-1.py", "/opt/py/bkbmod.py"), env("PYTHONPATH", "/opt/py"), apt("py")),
    _on("settings", folder("wheels-2", "/usr/share/wheels"), pip("wa")),
)
