"""Runs commands against a fake daemon of this process."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner, Result

from buildkit_builder.cli.main import main
from tests.fakes.buildkit import FakeBuildKit


async def command(fake: FakeBuildKit, monkeypatch: pytest.MonkeyPatch, *words: str, answer: str = "") -> Result:
    """What a command says and ends with, whose setting is the fake's address and who is answered so."""
    monkeypatch.setenv("FLYTE_BUILDKIT_ENDPOINT", fake.address)
    return await asyncio.to_thread(CliRunner().invoke, main, list(words), input=answer)
