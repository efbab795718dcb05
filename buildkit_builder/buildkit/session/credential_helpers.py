"""Programs that keep registry credentials: asked one at a time, and not again for what they have just said.

Protocol: docker/docker-credential-helpers. BuildKit's own client keeps answers for as long, and asks for one at a time
since the keychain of macOS hangs otherwise (docker/cli#1862).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from buildkit_builder.buildkit.environment import environment
from buildkit_builder.buildkit.find.docker_json import read_object, text_of
from buildkit_builder.buildkit.session.credentials import ANONYMOUS, Credentials
from buildkit_builder.errors import CredentialsError

KEPT_SECONDS = 290.0  # some clouds' passwords are good for five minutes
_KEPT_ANSWERS = 64
_OUTPUT_LIMIT = 16 << 20  # bytes
_SAID_LIMIT = 300  # characters of a helper's complaint that are repeated
_TOKEN_USER = "<token>"  # a helper's way to say that the secret is an identity token
_NOT_FOUND = "credentials not found in native keychain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a helper is asked.

    Attributes:
        helper: Its name without the `docker-credential-` prefix.
        key: The registry, by the name under which Docker keeps it.
        seconds: How long it may take.
    """

    helper: str
    key: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    said: Credentials | CredentialsError
    at: float
    confirmed: bool = False


class Helpers:
    """All helpers of this process.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self.forget_all()

    def forget_all(self) -> None:
        """Begins anew."""
        self._turn = threading.Lock()
        # By the question and the environment: a helper's answer may depend on both.
        self._answers: dict[tuple[Question, int], _Answer] = {}

    def ask(self, question: Question, *, since: float | None = None, refused: Credentials | None = None) -> Credentials:
        """Asks a helper, or takes what it said some minutes ago; blocks.

        Args:
            question: What to ask.
            since: Failures, and that there are no credentials, count if they are younger than this moment: who hears of
                them may well log in, and try again. Without one they never do.
            refused: What a registry has refused: it is asked for once more.

        Raises:
            CredentialsError: The helper is missing, failed, took too long or talks nonsense.
        """
        since = self.now() if since is None else since
        environ = environment()
        place = question, hash(frozenset(environ.items()))
        with self._turn:
            kept = self._answers.get(place)
            if kept is None or not self._counts(kept, since, refused):
                kept = self._keep(place, _run(question, environ), refused)
        if isinstance(kept.said, CredentialsError):
            raise CredentialsError(str(kept.said))
        return kept.said

    def forget(self, helper: str, key: str) -> None:
        """Drops what a helper said of a registry."""
        for place in list(self._answers):
            if (place[0].helper, place[0].key) == (helper, key):
                self._answers.pop(place, None)

    def _counts(self, kept: _Answer, since: float, refused: Credentials | None) -> bool:
        if kept.said == refused and not kept.confirmed:
            return False
        if isinstance(kept.said, CredentialsError) or kept.said == ANONYMOUS:
            return kept.at >= since
        return self.now() - kept.at < KEPT_SECONDS

    def _keep(
        self, place: tuple[Question, int], said: Credentials | CredentialsError, refused: Credentials | None
    ) -> _Answer:
        self._answers.pop(place, None)
        while len(self._answers) >= _KEPT_ANSWERS:
            del self._answers[next(iter(self._answers))]
        self._answers[place] = _Answer(said=said, at=self.now(), confirmed=said == refused)
        return self._answers[place]


HELPERS = Helpers()
# A forked process has none of the threads that may hold the lock.
os.register_at_fork(after_in_child=HELPERS.forget_all)


def _run(question: Question, environ: Mapping[str, str]) -> Credentials | CredentialsError:
    program, key = f"docker-credential-{question.helper}", question.key
    try:
        code, output, complaint = _outputs([program, "get"], key.encode(), question.seconds, environ)
    except FileNotFoundError:
        return CredentialsError(
            f"The Docker config keeps the credentials for {key} with {program}, which is not on the PATH. "
            "Install it, or run `docker login` again without it."
        )
    except subprocess.TimeoutExpired:
        return CredentialsError(
            f"{program} did not give the credentials for {key} within {question.seconds:g} seconds. See whether it "
            f"asks for something: `echo {key} | {program} get`."
        )
    except _TooLongError:
        return CredentialsError(f"{program} did not answer as a credential helper does for {key}: it never ends.")
    except (OSError, ValueError) as error:
        return CredentialsError(f"{program} cannot be run for {key}: {getattr(error, 'strerror', None) or error}.")
    said = output.decode("utf-8", "replace").strip()
    if code != 0:
        if _NOT_FOUND in said:
            return ANONYMOUS
        # What begins as an answer does may hold the secret.
        said = "" if said.startswith("{") else said
        said = (said or complaint.decode("utf-8", "replace").strip() or "nothing").splitlines()[0]
        return CredentialsError(f"{program} failed for {key} (exit code {code}) and said: {said[:_SAID_LIMIT]}")
    return _parsed(output, program, key)


def _parsed(output: bytes, program: str, key: str) -> Credentials | CredentialsError:
    # Errors must not repeat the output: it may hold the secret.
    try:
        if not output.strip():
            raise ValueError("is empty")
        answer = read_object(output)
        username, secret = text_of(answer, "Username"), text_of(answer, "Secret")
    except ValueError as error:
        return CredentialsError(f"{program} did not answer as a credential helper does for {key}: its answer {error}.")
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username=username, password=secret)


class _TooLongError(Exception):
    """A program prints without end."""


def _outputs(argv: list[str], question: bytes, seconds: float, environ: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """Runs a program: its exit code, and what it printed to its output and to its error output.

    Raises:
        OSError: It cannot be run.
        subprocess.TimeoutExpired: It took too long, and was ended.
        _TooLongError: It printed too much, and was ended.
    """
    until = time.monotonic() + seconds
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environ, bufsize=0) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(question)
            output = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
            with selectors.DefaultSelector() as selector:
                for stream in output:
                    selector.register(stream, selectors.EVENT_READ)
                # Not to the end of the error output: what the program leaves running may hold it open.
                while process.stdout.fileno() in selector.get_map():
                    _read_some(selector, output, until, argv)
                code = process.wait(max(until - time.monotonic(), 0.1))
                while selector.get_map() and selector.select(0):
                    _read_some(selector, output, until, argv)
        except BaseException:
            process.kill()
            raise
        return code, bytes(output[process.stdout.fileno()]), bytes(output[process.stderr.fileno()])


def _read_some(
    selector: selectors.BaseSelector, output: Mapping[int, bytearray], until: float, argv: list[str]
) -> None:
    ready = selector.select(max(until - time.monotonic(), 0))
    if not ready:
        raise subprocess.TimeoutExpired(argv, until)
    for key, _ in ready:
        data = os.read(key.fd, 1 << 16)
        output[key.fd].extend(data)
        if not data:
            selector.unregister(key.fd)
        elif len(output[key.fd]) > _OUTPUT_LIMIT:
            raise _TooLongError
