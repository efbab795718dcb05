"""How much of what a daemon says is kept: far more than any build has, so that none can fill the memory."""

from __future__ import annotations

from dataclasses import replace

from buildkit_builder.buildkit.api.events import STDERR, STDOUT, LogEvent, StatusEvent, VertexEvent, WarningEvent

VERTICES = 5_000
PARTS = 50_000  # of all vertices
RUNS = 1_000  # of one vertex
WARNINGS = 1_000
LINES = 100_000  # of one update
TAIL_BYTES = 64 << 20  # of the last log lines of all vertices
DIGEST = 200  # characters
_INPUTS = 200
_NAME = 1_000  # characters
_TEXT = 10_000
_CHUNK = 1 << 20


def cut_vertex(event: VertexEvent) -> VertexEvent:
    """The event with no text longer than a person would read."""
    group = event.group
    if group is not None and len(group.name) + len(group.id) > _NAME:
        event = replace(event, group=replace(group, id=group.id[:_NAME], name=group.name[:_NAME]))
    if len(event.inputs) > _INPUTS or sum(map(len, event.inputs)) > _INPUTS * DIGEST:
        event = replace(event, inputs=tuple(digest[:DIGEST] for digest in event.inputs[:_INPUTS]))
    if len(event.name) > _NAME or len(event.error) > _TEXT:
        return replace(event, name=event.name[:_NAME], error=event.error[:_TEXT])
    return event


def cut_status(event: StatusEvent) -> StatusEvent:
    """The event with no text longer than a person would read."""
    if len(event.id) + len(event.name) > _NAME:
        return replace(event, id=event.id[:_NAME], name=event.name[:_NAME])
    return event


def cut_log(event: LogEvent) -> LogEvent:
    """The event with no more bytes than a step prints at once, in one of the two streams there are."""
    if len(event.data) > _CHUNK or event.stream not in (STDOUT, STDERR):
        return replace(event, data=event.data[:_CHUNK], stream=STDERR if event.stream == STDERR else STDOUT)
    return event


def cut_warning(event: WarningEvent) -> WarningEvent:
    """The event with no text longer than a person would read."""
    if len(event.short) + len(event.url) + sum(map(len, event.detail)) > _NAME or len(event.detail) > _INPUTS:
        return replace(
            event,
            short=event.short[:_NAME],
            url=event.url[:_NAME],
            detail=tuple(line[:_NAME] for line in event.detail[:_INPUTS]),
        )
    return event
