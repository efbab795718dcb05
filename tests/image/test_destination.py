"""Where an image goes: what an engine that pushes by itself is shown."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from buildkit_builder.buildkit.build import BuildResult
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.session.docker_config import DockerConfig
from buildkit_builder.errors import RegistryError
from buildkit_builder.image.destination import push_from_engine

IMAGE = "r.example/x:1"


@dataclass
class Pushing:
    """An engine that pushes for who knows the password.

    Attributes:
        password: What the registry wants.
        shown: The passwords that it was shown.
        address: Where it listens.
    """

    password: str = "first"
    shown: list[str] = field(default_factory=list)
    address: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        (auth,) = (line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("X-Registry-Auth"))
        self.shown.append(json.loads(base64.urlsafe_b64decode(auth)).get("password", ""))
        said = {"error": "unauthorized"} if self.shown[-1] != self.password else {"aux": {"Digest": "sha256:1"}}
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(said).encode() + b"\r\n")
        writer.close()


@pytest.fixture
async def engine_that_pushes(tmp_path: Path) -> AsyncIterator[Pushing]:
    """It listens on a socket."""
    pushing = Pushing(address=f"unix://{tmp_path}/d.sock")
    server = await asyncio.start_unix_server(pushing.serve, tmp_path / "d.sock")
    yield pushing
    server.close()


async def test_a_kept_password_is_renewed_for_an_engine(
    engine_that_pushes: Pushing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper's password that the registry refuses is asked for once more, and the image pushed with the new one."""
    program = tmp_path / "docker-credential-test"
    program.write_text(f"""#!/bin/sh\necho '{{"Username": "me", "Secret": "'$(cat {tmp_path}/now)'"}}'\n""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    config = DockerConfig(store="test")
    endpoint = Endpoint(address=engine_that_pushes.address, kind="docker")
    result = BuildResult(digest=None, response={})
    for word in ("first", "second"):
        engine_that_pushes.password = word
        (tmp_path / "now").write_text(word)
        assert "sha256:1" == (await push_from_engine(endpoint, result, IMAGE, config)).digest
    assert ["first", "first", "second"] == engine_that_pushes.shown

    engine_that_pushes.password = "third"
    with pytest.raises(RegistryError):
        await push_from_engine(endpoint, result, IMAGE, config)
    # The same again is not tried again; but the next build asks anew.
    assert ["second"] == engine_that_pushes.shown[3:]
    (tmp_path / "now").write_text("third")
    assert "sha256:1" == (await push_from_engine(endpoint, result, IMAGE, config)).digest
    assert ["third"] == engine_that_pushes.shown[4:]
