"""One JSON object a line, for programs."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Any, TextIO

from buildkit_builder.buildkit.api.events import StatusEvent, StatusUpdate, VertexEvent, WarningEvent
from buildkit_builder.buildkit.progress.loglines import LogLine
from buildkit_builder.buildkit.progress.stream import Clock, Redact, Stream, unchanged
from buildkit_builder.buildkit.progress.trace import Changes, Trace

JsonObject = dict[str, Any]


class RawJsonScreen:
    """A stream of JSON lines that several builds may write to.

    Args:
        stream: Where the lines go.
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(self, stream: TextIO | None, *, clock: Clock) -> None:
        self._output = Stream(stream)
        self._clock = clock

    def display(self, title: str = "", redact: Redact = unchanged) -> RawJsonDisplay:
        """Begin to show a build; its title is the `build` of every line."""
        return RawJsonDisplay(self._output, self._clock, title, redact)


class RawJsonDisplay:
    """The lines of one build.

    Each has the keys `build` and `event`. `event` is `status` (with `vertexes`, `statuses`, `logs` and `warnings`,
    all always there), `message` (with `text`), or `done` (with `error`, a text or null). Times are seconds since the
    epoch by the daemon's clock, or null. Logs are whole lines: as `text`, or as `data` in base64 where they are not
    UTF-8; the other of the two is null. A vertex that the build itself named has a `role`: whether it is `quiet`, an
    `attempt`, or runs a `script` of ours.
    """

    def __init__(self, output: Stream, clock: Clock, title: str, redact: Redact) -> None:
        self._output = output
        self._clock = clock
        self._title = title
        self._redact = redact
        # Logs go through the trace because a secret torn apart by two chunks could not be recognised.
        self._trace = Trace()
        self._done = False

    def update(self, update: StatusUpdate) -> None:
        """Write what the daemon said."""
        if self._done:
            return
        known = [event for event in update.statuses if self._is_known(event.vertex, update)]
        self._write_status(update.vertexes, tuple(known), self._trace.apply(update, self._clock()))

    def log(self, text: str) -> None:
        """Write a message of ours that belongs to no step."""
        self._write({"event": "message", "text": self._redact(text)})

    def refresh(self) -> None:
        """Nothing: lines are written as they come."""

    def done(self, error: BaseException | None) -> None:
        """Write the end of the build."""
        if self._done:
            return
        self._done = True
        changes = self._trace.finish(self._clock(), failed=error is not None)
        self._write_status((), (), changes)
        self._write({"event": "done", "error": None if error is None else self._redact(str(error))})

    def _is_known(self, digest: str, update: StatusUpdate) -> bool:
        return self._trace.vertex(digest) is not None or any(digest == vertex.digest for vertex in update.vertexes)

    def _write_status(
        self, vertexes: tuple[VertexEvent, ...], statuses: tuple[StatusEvent, ...], changes: Changes
    ) -> None:
        body: JsonObject = {
            "vertexes": [self._vertex(event) for event in vertexes],
            "statuses": [self._status(event) for event in statuses],
            "logs": [self._log(line) for line in changes.lines],
            "warnings": [self._warning(warning) for warning in changes.warnings],
        }
        if any(body.values()):
            self._write({"event": "status", **body})

    def _write(self, body: JsonObject) -> None:
        self._output.write(json.dumps({"build": self._redact(self._title), **body}, separators=(",", ":")) + "\n")

    def _vertex(self, event: VertexEvent) -> JsonObject:
        group = event.group
        return {
            "digest": event.digest,
            "inputs": list(event.inputs),
            "name": self._redact(event.name),
            "cached": event.cached,
            "started": event.started,
            "completed": event.completed,
            "error": self._redact(event.error),
            "role": asdict(event.role) if event.role else None,
            "group": {"id": group.id, "name": self._redact(group.name), "weak": group.weak} if group else None,
        }

    def _status(self, event: StatusEvent) -> JsonObject:
        return {
            "id": self._redact(event.id),
            "vertex": event.vertex,
            "name": self._redact(event.name),
            "current": event.current,
            "total": event.total,
            "timestamp": event.timestamp,
            "started": event.started,
            "completed": event.completed,
        }

    def _log(self, line: LogLine) -> JsonObject:
        # Bytes that are not UTF-8 survive the way through text, so redaction sees the rest of the line as it is.
        text = self._redact(line.data.decode("utf-8", "surrogateescape"))
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            data: str | None = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")
        else:
            data = None
        return {
            "vertex": line.vertex,
            "stream": line.stream,
            "timestamp": line.timestamp,
            "text": text if data is None else None,
            "data": data,
        }

    def _warning(self, warning: WarningEvent) -> JsonObject:
        return {
            "vertex": warning.vertex,
            "level": warning.level,
            "short": self._redact(warning.short),
            "detail": [self._redact(line) for line in warning.detail],
            "url": self._redact(warning.url),
        }
