"""Log chunks back into lines."""

from __future__ import annotations

from dataclasses import dataclass

LINE_LIMIT = 64 * 1024
"""Bytes of one line that are kept; a longer one is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One whole line that a step printed.

    Attributes:
        vertex: Key of the vertex it is shown under.
        stream: 1 is standard output, 2 standard error.
        data: The line without its end, as the bytes that came.
        timestamp: When its end arrived, by the daemon's clock.
    """

    vertex: str
    stream: int
    data: bytes
    timestamp: float | None = None

    @property
    def text(self) -> str:
        """The line as text; bytes that are not UTF-8 become replacement characters."""
        return self.data.decode("utf-8", "replace")


class LineAssembler:
    """Joins the chunks of one stream of one vertex into lines.

    A carriage return begins the line again, as on a terminal, so of a progress bar only the last state is left.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._current = b""
        self._overlong = False

    @property
    def current(self) -> bytes:
        """The last state of a line that is rewritten by carriage returns and has not ended yet.

        What follows the last carriage return is left out: it may be half of something, for instance of a secret
        that can be recognised only as a whole.
        """
        return self._current

    def feed(self, data: bytes) -> list[bytes]:
        """Take a chunk and return the lines it ends."""
        lines: list[bytes] = []
        for piece in _pieces(data):
            if piece == b"\n":
                lines.append(self._pending or self._current)
                self._clear()
            elif piece == b"\r":
                self._current = self._pending or self._current
                self._pending = b""
                self._overlong = False
            else:
                self._append(piece)
        return lines

    def flush(self) -> list[bytes]:
        """Return what is left, as a line of its own, when the stream has ended."""
        rest = self._pending or self._current
        self._clear()
        return [rest] if rest else []

    def _append(self, piece: bytes) -> None:
        if self._overlong:
            return
        self._pending += piece
        if len(self._pending) > LINE_LIMIT:
            self._pending = self._pending[:LINE_LIMIT] + b" [...]"
            self._overlong = True

    def _clear(self) -> None:
        self._pending = self._current = b""
        self._overlong = False


def _pieces(data: bytes) -> list[bytes]:
    """Split a chunk into line ends, carriage returns and what is between them."""
    pieces: list[bytes] = []
    for number, part in enumerate(data.split(b"\n")):
        if number:
            pieces.append(b"\n")
        for index, segment in enumerate(part.split(b"\r")):
            if index:
                pieces.append(b"\r")
            if segment:
                pieces.append(segment)
    return pieces
