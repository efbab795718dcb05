"""What a BuildKit of 0.8 to 0.32 ends of, and every build that it runs with it, rather than answer with an error.

A message that leaves out what the daemon's code takes for granted is a nil pointer there; what points at an input that
is not there is an index out of range. Found by reading buildkit's `control`, `frontend/gateway`, `solver/llbsolver` and
`sourcepolicy` at its tags; each entry says where, and when it was mended, if it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from buildkit_builder.buildkit.llb.definition import digest_of
from buildkit_builder.buildkit.wire import control_pb2, gateway_pb2, ops_pb2, services, sourcepolicy_pb2

_EMPTY = -1


def panics_of(method: str, request: Any) -> list[str]:
    """Why a daemon would end of a request; nothing where it would not."""
    checks: Mapping[str, Callable[[Any], Iterator[str]]] = {
        services.CONTROL_SOLVE: _solve,
        services.LLBBRIDGE_SOLVE: _gateway_solve,
        services.LLBBRIDGE_RETURN: _return,
        services.LLBBRIDGE_RESOLVE_SOURCE_META: _resolve,
    }
    return list(checks[method](request)) if method in checks else []


def _solve(request: control_pb2.SolveRequest) -> Iterator[str]:
    if not request.HasField("Cache"):
        yield "Solve without Cache (translateLegacySolveRequest, 0.17 to 0.21)"
    if request.HasField("Definition"):
        yield from definition_panics(request.Definition)
    for graph in request.FrontendInputs.values():
        yield from definition_panics(graph)
    if request.HasField("SourcePolicy"):
        yield from _policy(request.SourcePolicy)


def _gateway_solve(request: gateway_pb2.SolveRequest) -> Iterator[str]:
    if request.HasField("Definition"):
        yield from definition_panics(request.Definition)
    for graph in request.FrontendInputs.values():
        yield from definition_panics(graph)
    for policy in request.SourcePolicies:
        yield from _policy(policy)


def _return(request: gateway_pb2.ReturnRequest) -> Iterator[str]:
    if not request.HasField("error") and not request.HasField("result"):
        yield "Return with neither a result nor an error (llbBridgeForwarder.Return, all)"


def _resolve(request: gateway_pb2.ResolveSourceMetaRequest) -> Iterator[str]:
    if not request.HasField("Source"):
        yield "ResolveSourceMeta without a source"


def _policy(policy: sourcepolicy_pb2.Policy) -> Iterator[str]:
    for rule in policy.rules:
        if not rule.HasField("selector"):
            yield "a rule of a source policy without a selector (Engine.selectorCache, to 0.16)"


def definition_panics(graph: ops_pb2.Definition) -> Iterator[str]:
    """Why a daemon would end of a graph that it loads and runs, or reports a failure of."""
    serialized = getattr(graph, "def")
    if not serialized:
        return
    if not graph.HasField("Source"):
        # No daemon is known to end of it; but all that come from Go's client have it.
        yield "a graph without Source"
    digests = [digest_of(data) for data in serialized]
    *ops, last = map(ops_pb2.Op.FromString, serialized)
    if len(last.inputs) != 1 or last.WhichOneof("op") is not None:
        yield "a graph that does not end with a vertex that points at its result"
    for digest, op in zip(digests, ops, strict=False):
        if digest not in graph.metadata:
            yield f"a vertex without metadata: {digest}"
        yield from _op(op)
    for locations in graph.Source.locations.values():
        if any(not 0 <= place.sourceIndex < len(graph.Source.infos) for place in locations.locations):
            yield "a location in a source that is not there (resultProxy.wrapError, all)"


def _op(op: ops_pb2.Op) -> Iterator[str]:
    kind = op.WhichOneof("op")
    count = len(op.inputs)
    if kind == "exec":
        yield from _exec(op.exec, count)
    elif kind == "file":
        yield from _file(op.file, count)
    elif kind == "merge":
        if any(not 0 <= given.input < count for given in op.merge.inputs):
            yield "a merge of an input that is not there (to 0.31)"
    elif kind == "diff":
        for side in ("lower", "upper"):
            if not op.diff.HasField(side):
                yield f"a difference without {side} (llbOpName, to 0.31)"
            elif not _EMPTY <= getattr(op.diff, side).input < count:
                yield f"a difference whose {side} is not there (to 0.31)"
    elif kind is None:
        yield "a vertex that is nothing"


def _exec(message: ops_pb2.ExecOp, count: int) -> Iterator[str]:
    if not message.HasField("meta") or not message.meta.args:
        yield "a command without arguments (llbOpName)"
    for mount in message.mounts:
        if not _EMPTY <= mount.input < count:
            yield f"the mount {mount.dest} of an input that is not there (getMountDeps, to 0.31)"
        given = {
            ops_pb2.CACHE: mount.HasField("cacheOpt"),
            ops_pb2.SECRET: mount.HasField("secretOpt"),
            ops_pb2.SSH: mount.HasField("SSHOpt"),
        }
        if not given.get(mount.mountType, True):
            yield f"the mount {mount.dest} without its options (MountManager, all)"


def _file(message: ops_pb2.FileOp, count: int) -> Iterator[str]:
    for number, action in enumerate(message.actions):
        if action.WhichOneof("action") is None:
            yield "an action that is none"
        for index in (action.input, action.secondaryInput):
            if not _EMPTY <= index < count + number:
                yield "an action on an input that is not there (FileOp, to 0.31)"
        body = getattr(action, action.WhichOneof("action") or "rm")
        for name in ("user", "group") if body.DESCRIPTOR.fields_by_name.get("owner") and body.HasField("owner") else ():
            owner = getattr(body.owner, name)
            if owner.WhichOneof("user") == "byName" and not 0 <= owner.byName.input < count:
                yield f"a {name} by a name in an input that is not there"
