"""A graph as text: JSON that people read and diff, and that gives the same bytes back.

One entry per vertex, in order:

```json
{"digest": "sha256:…", "name": "install ruff", "inputs": ["sha256:…"], "op": {"exec": {…}}, "metadata": {…}}
```

`op` and `metadata` hold the fields of the protocol under their own names. An input is the digest of a vertex, with
`#` and the number of its output unless that is the first. Bytes are text where they are UTF-8, else
`{"base64": "…"}`; modes are octal. A vertex whose bytes could not be had back from its fields, such as one with
fields that are not known here, also has `raw`, all of its bytes.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from buildkit_builder.buildkit.llb.arguments import checked
from buildkit_builder.buildkit.llb.definition import Definition, digest_of, serialize
from buildkit_builder.buildkit.wire import ops_pb2

# 0 means "the first" in these fields, so they are written even where the wire leaves them out.
_INDEXES = frozenset({"input", "output", "secondaryInput"})
_ENTRY_KEYS = frozenset({"digest", "name", "inputs", "op", "metadata", "raw", "raw_metadata", "source_map"})


@checked
def dump(definition: Definition) -> str:
    """Write a graph as JSON. The same graph gives the same text.

    Secrets are not in it: a graph holds only their ids.
    """
    metadata = dict(definition.metadata)
    entries: list[dict[str, Any]] = []
    names = definition.names
    for digest, data in zip(definition.digests, definition.ops, strict=True):
        entry: dict[str, Any] = {"digest": digest}
        if digest in names:
            entry["name"] = names[digest]
        entry |= _op_entry(data)
        if digest in metadata:
            entry |= _metadata_entry(metadata.pop(digest))
        entries.append(entry)
    for digest, stray in metadata.items():
        entries.append({"digest": digest, **_metadata_entry(stray)})
    if definition.source_map:
        entries.append({"source_map": b64encode(definition.source_map).decode()})
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


@checked
def parse(text: str) -> Definition:
    """Read what `dump` wrote.

    Raises:
        ValueError: If the text is not such JSON, or a vertex does not have the digest that it is said to have.
    """
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"This is not a dumped graph: {error}.") from error
    if not isinstance(entries, list):
        raise ValueError("This is not a dumped graph: a list of vertices is expected.")
    ops: list[bytes] = []
    metadata: dict[str, bytes] = {}
    source_map = b""
    for position, entry in enumerate(entries):
        try:
            digest, op, extra, sources = _read_entry(entry)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"Entry {position} of the dumped graph makes no sense: {error}.") from error
        if op is not None:
            ops.append(op)
        if extra is not None:
            metadata[digest] = extra
        source_map = sources or source_map
    return Definition(ops=tuple(ops), metadata=tuple(sorted(metadata.items())), source_map=source_map)


def _op_entry(data: bytes) -> dict[str, Any]:
    op = ops_pb2.Op.FromString(data)
    entry: dict[str, Any] = {"inputs": [_input_text(known) for known in op.inputs]}
    op.ClearField("inputs")
    entry["op"] = _to_json(op)
    if _read_op(entry) != data:
        entry["raw"] = b64encode(data).decode()
    return entry


def _metadata_entry(data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"metadata": _to_json(ops_pb2.OpMetadata.FromString(data))}
    if _encode_metadata(entry["metadata"]) != data:
        entry["raw_metadata"] = b64encode(data).decode()
    return entry


def _read_entry(entry: object) -> tuple[str, bytes | None, bytes | None, bytes]:
    if not isinstance(entry, dict):
        raise ValueError("it is not an object")
    unknown = sorted(set(entry) - _ENTRY_KEYS)
    if unknown:
        raise ValueError(f"`{unknown[0]}` is unknown")
    if "source_map" in entry:
        return "", None, None, b64decode(entry["source_map"], validate=True)
    digest = entry.get("digest")
    if not isinstance(digest, str):
        raise ValueError("it has no digest")
    op = None
    if "op" in entry or "raw" in entry:
        op = b64decode(entry["raw"], validate=True) if "raw" in entry else _read_op(entry)
        if digest_of(op) != digest:
            raise ValueError(f"its digest is {digest_of(op)}, not {digest}")
    extra = None
    if "raw_metadata" in entry:
        extra = b64decode(entry["raw_metadata"], validate=True)
    elif "metadata" in entry:
        extra = _encode_metadata(entry["metadata"])
    return digest, op, extra, b""


def _read_op(entry: Mapping[str, Any]) -> bytes:
    op = ops_pb2.Op()
    for known in entry["inputs"]:
        digest, mark, index = known.partition("#")
        op.inputs.add(digest=digest, index=int(index) if mark else 0)
    _from_json(op, entry["op"])
    return serialize(op)


def _input_text(known: ops_pb2.Input) -> str:
    return f"{known.digest}#{known.index}" if known.index else known.digest


def _encode_metadata(fields: object) -> bytes:
    metadata = ops_pb2.OpMetadata()
    _from_json(metadata, fields)
    return metadata.SerializeToString(deterministic=True)


def _to_json(message: Message) -> dict[str, Any]:
    """Fields that are set, under their protocol names, in the order of their numbers."""
    present = {field.number: value for field, value in message.ListFields()}
    found: dict[str, Any] = {}
    for field in _fields(message):
        if field.number in present:
            found[field.name] = _value_to_json(field, present[field.number])
        elif field.name in _INDEXES:
            found[field.name] = 0
    return found


def _value_to_json(field: FieldDescriptor, value: Any) -> Any:
    if _is_map(field):
        item = _map_value(field)
        return {key: _scalar_to_json(item, value[key]) for key in sorted(value)}
    if _is_repeated(field):
        return [_scalar_to_json(field, item) for item in value]
    return _scalar_to_json(field, value)


def _scalar_to_json(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _to_json(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    if field.name == "mode" and value >= 0:
        return f"{value:04o}"
    if field.type == FieldDescriptor.TYPE_BYTES:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": b64encode(value).decode()}
    return value


def _from_json(message: Message, fields: object) -> None:
    if not isinstance(fields, dict):
        raise ValueError(f"`{message.DESCRIPTOR.name}` is not an object")
    message.SetInParent()
    for name, value in fields.items():
        field = _field(message, name)
        if _is_map(field):
            _map_from_json(message, field, value)
        elif _is_repeated(field):
            _list_from_json(message, field, value)
        elif field.message_type is not None:
            _from_json(getattr(message, name), value)
        else:
            setattr(message, name, _scalar_from_json(field, value))


def _map_from_json(message: Message, field: FieldDescriptor, value: Any) -> None:
    item = _map_value(field)
    target = getattr(message, field.name)
    for key, entry in value.items():
        if item.message_type is not None:
            _from_json(target[key], entry)
        else:
            target[key] = _scalar_from_json(item, entry)


def _list_from_json(message: Message, field: FieldDescriptor, value: Any) -> None:
    if not isinstance(value, list):
        raise ValueError(f"`{field.name}` is not a list")
    target = getattr(message, field.name)
    for entry in value:
        if field.message_type is not None:
            _from_json(target.add(), entry)
        else:
            target.append(_scalar_from_json(field, entry))


def _scalar_from_json(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None and isinstance(value, str):
        known = field.enum_type.values_by_name.get(value)
        if known is None:
            raise ValueError(f"`{field.name}` cannot be `{value}`")
        return known.number
    if field.name == "mode" and isinstance(value, str):
        return int(value, 8)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b64decode(value["base64"], validate=True) if isinstance(value, dict) else value.encode()
    return value


def _fields(message: Message) -> list[FieldDescriptor]:
    # The stubs give every descriptor as one of two unrelated classes.
    descriptor: Any = message.DESCRIPTOR
    return sorted(descriptor.fields, key=lambda field: int(field.number))


def _field(message: Message, name: str) -> FieldDescriptor:
    descriptor: Any = message.DESCRIPTOR
    field: FieldDescriptor | None = descriptor.fields_by_name.get(name)
    if field is None:
        raise ValueError(f"`{descriptor.name}` has no field `{name}`")
    return field


def _is_repeated(field: FieldDescriptor) -> bool:
    # `is_repeated` came after protobuf 6.30, and `label`, which it replaces, warns since then.
    return isinstance(field.default_value, list)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _map_value(field: FieldDescriptor) -> FieldDescriptor:
    assert field.message_type is not None  # the entries of a map are messages
    value: FieldDescriptor = field.message_type.fields_by_name["value"]
    return value
