"""Knocking at sockets, whatever they are called."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from buildkit_builder.buildkit.find.sockets import ABSENT, plain, probe

NAMES = ("d.sock", "a b%41,#?.sock", "/".join(["x" * 60] * 4) + "/d.sock")


@pytest.mark.parametrize("name", NAMES)
def test_probe(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket is there or not, and somebody listens or not, however long its path is."""
    path = tmp_path / name
    assert ABSENT == probe(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)
        assert "nobody listens there" == probe(str(path))
        listener.listen()
        assert "" == probe(str(path))


def test_plain_paths_stay_as_they_are() -> None:
    """A link is made only where one is needed, and goes when it is not needed any more."""
    with plain("/run/user/1000/docker.sock") as path:
        assert "/run/user/1000/docker.sock" == path
    with plain("@name") as path:
        assert "\0name" == path
    with plain("/run/a b") as path:
        assert Path("/run/a b") == Path(path).readlink()
    assert not Path(path).parent.exists()
