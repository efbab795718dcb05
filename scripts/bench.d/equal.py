"""Whether the contestants have made the same image."""

from __future__ import annotations

from collections.abc import Mapping

from engine import docker
from subjects import Subject

# The distribution's packages, Python's, that what was asked for can be imported, the sources, and the variables.
_SCRIPT = """
dpkg-query -W -f '${Package} ${Version} ${Status}\\n'
"$UV_PYTHON" -c '
import importlib, importlib.metadata as metadata, sys
print(*sorted(f"{found.name} {found.version}" for found in metadata.distributions()), sep="\\n")
for name in sys.argv[1:]: importlib.import_module(name)
' %s
if [ -d /app ]; then cd /app && find . -type f ! -name changed.txt -exec sha256sum {} + | sort; fi
env | grep -vE '^(HOSTNAME|PWD|OLDPWD|HOME|SHLVL|_|_F_IMG_ID)=' | sort
"""
_MODULES = {"numpy": "numpy", "pandas": "pandas", "scikit-learn": "sklearn"}


def check_equal(references: Mapping[str, str], subject: Subject) -> None:
    """Compares images that were pushed.

    Args:
        references: Of the images, by contestant.
        subject: What they are of, worlds apart.

    Raises:
        SystemExit: They are not the same.
    """
    modules = [_MODULES[name] for packages in subject.pip for name in packages if name in _MODULES]
    for platform in subject.platforms:
        found = {who: _look(reference, platform, modules) for who, reference in references.items()}
        (first, expected), *others = found.items()
        for who, lines in others:
            if lines != expected:
                only = [f"{first}: {line}" for line in sorted(expected - lines)]
                only += [f"{who}: {line}" for line in sorted(lines - expected)]
                raise SystemExit(
                    "\n".join([f"The images for {platform} differ, so that their times say nothing:", *only])
                )


def _look(reference: str, platform: str, modules: list[str]) -> set[str]:
    script = _SCRIPT % " ".join(modules)
    options = [f"--platform={platform}", "--rm", "--network=none", "--pull=always", "--quiet", "--user=root"]
    return set(docker("run", *options, "--entrypoint=sh", reference, "-c", script).splitlines())
