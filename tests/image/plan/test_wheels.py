"""Installing from wheels alone: what is worth a try, and the text that tries."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit_builder.image.plan.wheels import PythonLayer, Wheels, dependencies, objection, wheels
from buildkit_builder.image.spec import LocalFiles, PipLayer, PipOptions, RequirementsLayer, UvProjectLayer, WheelLayer

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "plan"
INSTALL = "uv pip install --python $UV_PYTHON"
PROJECT = UvProjectLayer(pyproject=Path("p/pyproject.toml"), lock=Path("p/uv.lock"))
WHOLE_PROJECT = UvProjectLayer(
    pyproject=Path("p/pyproject.toml"),
    lock=Path("p/uv.lock"),
    project=LocalFiles(kind="folder", root=Path("p")),
    place="p",
)


def pip(*packages: str, args: str | None = None, index: str | None = None) -> PipLayer:
    """A layer of packages."""
    return PipLayer(packages=packages, options=PipOptions(index_url=index, extra_args=args))


def requirements(text: str, args: str | None = None) -> RequirementsLayer:
    """A layer of a requirements file."""
    return RequirementsLayer(
        file=Path("requirements.txt"), content=text.encode(), options=PipOptions(extra_args=args)
    )  # fmt: skip


def sync(args: str) -> UvProjectLayer:
    """A layer of a project's dependencies."""
    return UvProjectLayer(pyproject=PROJECT.pyproject, lock=PROJECT.lock, options=PipOptions(extra_args=args))


def made(layer: PythonLayer, install: str = INSTALL) -> Wheels:
    """How a layer is installed ahead."""
    found = wheels(layer, install)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "layer",
    [
        pip("six"),
        pip("torch>=2,<3", "uvicorn[standard]==0.30.*", "discord.py ~= 2.0", 'tomli ; python_version < "3.11"'),
        pip("local @ https://example.com/a/local-1.0+cpu-py3-none-any.whl#sha256=0a"),
        pip("https://example.com/local-1.0-py3-none-any.whl"),
        pip("six", index="https://reader:$TOKEN@example.com/simple"),
        pip("six", args="--no-deps --upgrade -P idna --find-links https://example.com/wheels 'torch<2'"),
        pip("six", args="--index internal=https://example.com/simple --torch-backend=cpu --reinstall-package six"),
        requirements("# nothing\n\n--index-url https://example.com/simple\nsix  # small\nidna \\\n  >=3\n"),
        requirements("six==1.17.0 --hash=sha256:0a \\\n    --hash=sha256:0b\n"),
        PROJECT,
        sync("--frozen --extra gpu --group=dev --no-install-package six"),
        WheelLayer(folder=Path("dist"), package="mine"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_worth_a_try(layer: PythonLayer) -> None:
    """What names packages of an index, wheels and options that are known."""
    assert objection(layer) is None


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (pip("."), "`.` is neither a package of an index nor a wheel"),
        (pip("./mine"), "`./mine` is neither"),
        (pip("mine-1.0-py3-none-any.whl"), "`mine-1.0-py3-none-any.whl` is a file"),
        (pip("mine @ file:///srv/mine"), "neither"),
        (pip("mine @ git+https://example.com/mine.git"), "neither"),
        (pip("mine @ https://example.com/mine-1.0.tar.gz"), "neither"),
        (pip("-e", "six"), "`-e` is neither"),
        (pip("six", args="--no-binary :all:"), "the option `--no-binary` is not known"),
        (pip("six", args="--no-build-isolation"), "not known"),
        (pip("six", args="--no-cache"), "not known"),
        (pip("six", args="-c constraints.txt"), "the option `-c` is not known"),
        (pip("six", args="--target /srv"), "not known"),
        (pip("six", args="--find-links /srv/wheels"), "`--find-links /srv/wheels` may be a place in the image"),
        (pip("six", args="--index-url file:///srv"), "may be a place in the image"),
        (pip("six", args="--pre=yes"), "not known"),
        (pip("six", args="--index-url"), "not known"),
        (pip("six", args="$MORE"), "neither"),
        (pip("six", args='"${MORE}"'), "`${MORE}` is neither a package of an index nor a wheel"),
        (pip("six", args="&& touch /srv/x"), "is more to a shell than words"),
        (pip("six", args="$(cat list)"), "more to a shell"),
        (pip("six", args='"`cat list`"'), "more to a shell"),
        (pip("six", args="six\ntouch /x"), "more to a shell"),
        (pip("six", args="torch<2"), "more to a shell"),
        (requirements("-r other.txt\n"), "the option `-r other.txt` of the requirements file is not known"),
        (requirements("six\n-e .\n"), "not known"),
        (requirements("--find-links ./wheels\nsix\n"), "may be a place in the image"),
        (requirements("--no-binary :all:\nsix\n"), "not known"),
        (requirements("six --config-settings=a=b\n"), "the options of `six --config-settings=a=b` are not known"),
        (requirements("./mine\n"), "neither"),
        (RequirementsLayer(file=Path("r"), content="six".encode("utf-16")), "not in UTF-8"),
        (UvProjectLayer(pyproject=Path("p"), lock=None), "there is no lock"),
        (WHOLE_PROJECT, "a project is always built"),
        (sync("--exact"), "the option `--exact` is not known"),
        (sync("six"), "the option `six` is not known"),
        (WheelLayer(folder=Path("dist"), package="/dist/mine.whl"), "is a file"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_not_worth_a_try(layer: PythonLayer, why: str) -> None:
    """What may read other steps' files, what is built for certain, and what is not understood; it is said why."""
    assert why in (objection(layer) or "")
    assert wheels(layer, INSTALL) is None


@pytest.mark.parametrize(
    ("layer", "parts"),
    [
        (pip("six"), "pins"),
        (pip("six", args="--upgrade --index-strategy unsafe-best-match"), "pins"),
        (pip("six", args="--no-deps"), "none"),
        (pip("six", args="idna"), "none"),
        (requirements("six\n"), "pins"),
        (requirements("six==1.17.0 --hash=sha256:0a\n"), "none"),
        (requirements("--require-hashes\nsix==1.17.0\n"), "none"),
        (PROJECT, "lock"),
        (WheelLayer(folder=Path("dist"), package="mine"), "none"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_parts(layer: PythonLayer, parts: str) -> None:
    """A part is installed where it is certain that the whole would have the same; never past a hash."""
    assert parts == made(layer).parts


def texts() -> dict[str, str]:
    """A text of each kind, by the name of the file that it is kept in."""
    lines = "--extra-index-url https://example.com/simple\nsix\nidna\n"
    listed = made(requirements(lines, args="--upgrade"), f"{INSTALL} --upgrade --requirement requirements.txt")
    return {
        "wheels-whole.sh": made(pip("six"), f"{INSTALL} six").command(all_of_it=True),
        "wheels-pins.sh": listed.command(all_of_it=False, architecture="arm64"),
        "wheels-lock.sh": made(PROJECT, "uv sync --active --inexact").command(all_of_it=False),
    }


@pytest.mark.parametrize("name", texts())
def test_texts(name: str) -> None:
    """As they were reviewed (`python -m tests.image.plan.test_wheels` writes them anew); a shell understands them."""
    text = texts()[name]

    assert (GOLDEN / name).read_text(encoding="utf-8") == f"{text}\n"
    done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


def test_variables_that_can_be_read() -> None:
    """Those that uv, its HTTP client, the shell and the interpreter know, and those that stand in what it is given."""
    how = made(requirements("six\nmine @ https://${HOST}/mine-1-py3-none-any.whl\n"), f"{INSTALL} --index-url $INDEX")

    read = ["UV_INDEX_MINE_PASSWORD", "PYTHONPATH", "https_proxy", "HTTP_PROXY", "SSL_CERT_FILE", "NETRC", "HOME"]
    assert [*read, "INDEX", "HOST"] == [name for name in [*read, "INDEX", "HOST", "GREETING", "APP"] if how.reads(name)]
    assert made(PROJECT).reads("GREETING")


@pytest.mark.parametrize(
    ("args", "expected"), [(None, "--locked"), ("--no-dev", "--no-dev --locked"), ("--frozen",) * 2]
)
def test_dependencies_of_a_project(args: str | None, expected: str) -> None:
    """They are a layer of their own, whose lock has to fit unless the user does not want it looked at."""
    before = dependencies(replace(WHOLE_PROJECT, options=PipOptions(extra_args=args)))

    assert before is not None
    assert (None, expected) == (before.project, before.options.extra_args)
    assert objection(before) is None


def test_no_dependencies() -> None:
    """They are not installed ahead where there is no lock, nor where they are all that is installed."""
    assert dependencies(replace(WHOLE_PROJECT, lock=None)) is None
    assert dependencies(PROJECT) is None


def test_a_project_leaves_no_trace() -> None:
    """What uv would leave in `/tmp` is named by where the project is, which is another place ahead."""
    how = wheels(PROJECT, "uv sync")

    assert how is not None
    assert "install() { PATH=$user_path TMPDIR=$tmp uv sync --locked" in how.command(all_of_it=False)


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for file, content in texts().items():
        (GOLDEN / file).write_text(f"{content}\n", encoding="utf-8")
