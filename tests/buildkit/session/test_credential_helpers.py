"""Credential helpers: one at a time, and not asked again for what they have just said."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from buildkit_builder.buildkit.session.credential_helpers import KEPT_SECONDS, Helpers, Question
from buildkit_builder.buildkit.session.credentials import Credentials
from buildkit_builder.errors import CredentialsError


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def helpers(clock: Clock) -> Helpers:
    """Helpers that have not been asked anything yet."""
    return Helpers(clock)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH for the helper `test`."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def script(folder: Path, text: str) -> None:
    """Writes the helper, which also counts how often it runs, and whether two of it run at once."""
    path = folder / "docker-credential-test"
    body = f"""#!/bin/sh
mkdir {folder}/runs || touch {folder}/together
read -r key
echo "$key" >> {folder}/asked
{text}
code=$?
rmdir {folder}/runs
exit $code
"""
    path.write_text(body)
    path.chmod(0o755)


def says(folder: Path, secret: str) -> None:
    script(folder, f"""echo '{{"Username": "me", "Secret": "{secret}"}}'""")


def asked(folder: Path) -> list[str]:
    """What the helper was asked, each time."""
    path = folder / "asked"
    return path.read_text().split() if path.exists() else []


def question(key: str = "r") -> Question:
    return Question(helper="test", key=key, seconds=60)


def test_an_answer_is_kept_for_some_minutes(folder: Path, helpers: Helpers, clock: Clock) -> None:
    """The helper is asked again when the answer is old, and for another registry."""
    says(folder, "first")
    assert "first" == helpers.ask(question()).password
    says(folder, "second")
    clock.time += KEPT_SECONDS - 1

    assert "first" == helpers.ask(question()).password
    assert "second" == helpers.ask(question("s")).password
    clock.time += 2
    assert "second" == helpers.ask(question()).password
    assert ["r", "s", "r"] == asked(folder)


def test_many_questions_at_once_run_one_helper(folder: Path, helpers: Helpers) -> None:
    """Sixteen threads with the same question, as of two builds at once, wait for one process."""
    script(folder, """sleep 0.3; echo '{"Username": "me", "Secret": "word"}'""")
    start = threading.Barrier(16)

    def ask(_: int) -> str:
        start.wait()
        return helpers.ask(question()).password

    with ThreadPoolExecutor(16) as threads:
        assert ["word"] * 16 == list(threads.map(ask, range(16)))
    assert ["r"] == asked(folder)


def test_helpers_run_one_at_a_time(folder: Path, helpers: Helpers) -> None:
    """Different questions wait for each other, since the keychain of macOS hangs otherwise."""
    script(folder, """sleep 0.1; echo '{"Username": "me", "Secret": "word"}'""")
    start = threading.Barrier(8)

    def ask(number: int) -> None:
        start.wait()
        helpers.ask(question(f"r{number}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    assert 8 == len(asked(folder))
    assert not (folder / "together").exists()


def test_a_refused_answer_is_asked_for_once_more(folder: Path, helpers: Helpers) -> None:
    """What a registry has refused is asked for again; where it is still the same, no third time."""
    says(folder, "first")
    first = helpers.ask(question())
    says(folder, "second")

    second = helpers.ask(question(), refused=first)
    assert "second" == second.password
    # Others that were shown the first one are told of the second.
    assert second == helpers.ask(question(), refused=first)
    assert [second] * 3 == [helpers.ask(question(), refused=second) for _ in range(3)]
    assert ["r", "r", "r"] == asked(folder)


@pytest.mark.parametrize("text", ["echo 'credentials not found in native keychain'; exit 1", "echo '{}'"])
def test_that_there_is_nothing_is_kept_for_one_session(folder: Path, helpers: Helpers, clock: Clock, text: str) -> None:
    """A session hears it once; a later one asks again, since the user may have logged in."""
    script(folder, f"({text})")
    session = clock.time
    for _ in range(16):
        assert Credentials() == helpers.ask(question(), since=session)
    assert ["r"] == asked(folder)
    says(folder, "word")
    clock.time += 1

    assert "word" == helpers.ask(question(), since=clock.time).password


def test_a_failure_is_kept_for_one_session(folder: Path, helpers: Helpers, clock: Clock) -> None:
    """A session does not wait sixteen times for a helper that fails; a later one asks again."""
    script(folder, "(echo locked; exit 1)")
    session = clock.time
    for _ in range(16):
        with pytest.raises(CredentialsError, match="locked"):
            helpers.ask(question(), since=session)
    assert ["r"] == asked(folder)
    says(folder, "word")
    clock.time += 1

    assert "word" == helpers.ask(question(), since=clock.time).password


def test_an_answer_belongs_to_its_environment(folder: Path, helpers: Helpers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper may answer for the account that a variable names."""
    script(folder, """echo '{"Username": "me", "Secret": "'$ACCOUNT'"}'""")

    for account in ("one", "two", "one"):
        monkeypatch.setenv("ACCOUNT", account)
        assert account == helpers.ask(question()).password
    assert 2 == len(asked(folder))


def test_only_so_many_answers_are_kept(folder: Path, helpers: Helpers) -> None:
    """A daemon that asks for ever more registries does not fill the memory; the latest are kept."""
    says(folder, "word")
    for number in range(70):
        helpers.ask(question(f"r{number}"))
    helpers.ask(question("r69"))
    helpers.ask(question("r0"))

    assert 71 == len(asked(folder))
    assert "r0" == asked(folder)[-1]


def test_an_answer_can_be_forgotten(folder: Path, helpers: Helpers) -> None:
    """After a build that failed the helper is asked anew."""
    says(folder, "first")
    helpers.ask(question())
    says(folder, "second")

    helpers.forget("test", "r")
    assert "second" == helpers.ask(question()).password


def test_what_a_helper_leaves_running_is_not_waited_for(folder: Path, helpers: Helpers) -> None:
    """An agent that it starts may hold its error output open for ever."""
    script(folder, """sleep 60 >/dev/null & echo '{"Username": "me", "Secret": "word"}'""")
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(helpers.ask(question()).password), daemon=True)
    thread.start()
    thread.join(30)

    assert ["word"] == said


def test_much_more_than_an_answer_is_read_past(folder: Path, helpers: Helpers) -> None:
    """As in docker, only the first value counts, whatever comes after it, on the error output too."""
    flood = "head -c 10000000 /dev/zero | tr '\\0' x"
    script(folder, f"""{flood} >&2; echo '{{"Username": "me", "Secret": "word"}}'; {flood}""")

    assert "word" == helpers.ask(question()).password


def test_a_helper_that_does_not_read_its_question(folder: Path, helpers: Helpers) -> None:
    """One that answers without having read is answered for all the same."""
    path = folder / "docker-credential-test"
    path.write_text("""#!/bin/sh\nexec <&-\necho '{"Username": "me", "Secret": "word"}'\n""")
    path.chmod(0o755)

    assert "word" == helpers.ask(question()).password


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("te\0st", "cannot be run"), ("", "not on the PATH"), ("../../bin/true", "not on the PATH")],
)
def test_names_that_are_none(folder: Path, helpers: Helpers, name: str, complaint: str) -> None:
    """A name that no program can have is an error like any other."""
    with pytest.raises(CredentialsError, match=complaint):
        helpers.ask(Question(helper=name, key="r", seconds=60))


def test_programs_that_cannot_be_run(folder: Path, helpers: Helpers) -> None:
    """One that the user may not run, or that is no program, is named with the system's words."""
    path = folder / "docker-credential-test"
    path.mkdir()

    with pytest.raises(CredentialsError, match="docker-credential-test cannot be run for r: Permission denied"):
        helpers.ask(question())
