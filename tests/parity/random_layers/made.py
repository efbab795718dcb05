"""Archives, packages, indexes and libraries of a few bytes, made here and the same every time."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import struct
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file, a link or, where it has neither content nor link, a directory.

    Attributes:
        path: Without a slash at its start.
    """

    path: str
    content: str | bytes | None = None
    link: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0


def tar(members: Iterable[Member]) -> bytes:
    """An archive; directories come before what is in them where they are given so."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(f"./{member.path}")
            info.uid, info.gid = member.uid, member.gid
            data = b""
            if member.link:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, member.link, 0o777
            elif member.content is None:
                info.type, info.mode = tarfile.DIRTYPE, member.mode or 0o755
            else:
                data = member.content.encode() if isinstance(member.content, str) else member.content
                info.size, info.mode = len(data), member.mode or 0o644
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def with_parents(members: Iterable[Member]) -> list[Member]:
    """Members with the directories above them, in an order in which they can be unpacked."""
    given = {member.path: member for member in members}
    for path in list(given):
        parts = path.split("/")
        for end in range(1, len(parts)):
            given.setdefault("/".join(parts[:end]), Member(path="/".join(parts[:end])))
    return [given[path] for path in sorted(given)]


@dataclass(frozen=True, kw_only=True)
class Deb:
    """A package of the distribution.

    Attributes:
        scripts: By name (`postinst`), the text after `#!/bin/sh` and `set -e`, or all of it where it begins with `#!`.
        control: More files of its control archive.
    """

    name: str
    members: tuple[Member, ...] = ()
    scripts: Mapping[str, str] = field(default_factory=dict)
    control: Mapping[str, str] = field(default_factory=dict)
    depends: str = ""
    version: str = "1"

    def fields(self) -> str:
        """Its control file."""
        depends = f"Depends: {self.depends}\n" if self.depends else ""
        return (
            f"Package: {self.name}\nVersion: {self.version}\nArchitecture: all\n{depends}"
            "Maintainer: nobody <nobody@example.com>\nDescription: of the random comparison\n"
        )

    def build(self) -> bytes:
        """The package as a file."""
        scripts = [
            Member(path=name, content=text if text.startswith("#!") else f"#!/bin/sh\nset -e\n{text}\n", mode=0o755)
            for name, text in self.scripts.items()
        ]
        more = [Member(path=name, content=text) for name, text in self.control.items()]
        control = tar([Member(path="control", content=self.fields()), *scripts, *more])
        parts = {
            "debian-binary": b"2.0\n",
            "control.tar": control,
            "data.tar": tar(with_parents(self.members)),
        }
        archive = b"!<arch>\n"
        for name, data in parts.items():
            archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
            archive += data + b"\n" * (len(data) % 2)
        return archive


def repository(debs: Iterable[Deb]) -> dict[str, bytes]:
    """A flat repository for apt: files by name."""
    files: dict[str, bytes] = {}
    entries = []
    for deb in debs:
        data = deb.build()
        name = f"{deb.name}_{deb.version}_all.deb"
        files[name] = data
        digest = hashlib.sha256(data).hexdigest()
        entries.append(f"{deb.fields()}Filename: ./{name}\nSize: {len(data)}\nSHA256: {digest}\n")
    files["Packages"] = "\n".join(entries).encode()
    return files


def simple_index(wheels: Mapping[str, bytes]) -> dict[str, bytes]:
    """A simple index as files, for an address that begins with `file:`."""
    files: dict[str, bytes] = {}
    pages: dict[str, str] = {}
    for name, data in wheels.items():
        project = name.split("-")[0].replace("_", "-")
        files[f"{project}/{name}"] = data
        digest = hashlib.sha256(data).hexdigest()
        pages[project] = pages.get(project, "") + f'<a href="{name}#sha256={digest}">{name}</a>\n'
    for project, links in pages.items():
        files[f"{project}/index.html"] = f"<!DOCTYPE html><html><body>\n{links}</body></html>\n".encode()
    return files


def shared_library(name: str, note: str = "") -> bytes:
    """A library with nothing in it, for x86-64, which the linker finds, and loads.

    Args:
        name: Its `SONAME`.
        note: Makes it another file.
    """
    strings = b"\0" + name.encode() + b"\0" + note.encode() + b"\0"
    dynamic_at = 64 + 56 * 3
    table_at = dynamic_at + 16 * 7
    hash_at = table_at + 24
    strings_at = hash_at + 16
    size = strings_at + len(strings)
    # Where the symbols, their names and their (empty) hash table are; and what the library is called.
    dynamic = b"".join(
        struct.pack("<QQ", tag, value)
        for tag, value in [(14, 1), (4, hash_at), (5, strings_at), (6, table_at), (10, len(strings)), (11, 24), (0, 0)]
    )
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)
    # One page that is read and written, since the linker notes addresses in it; no stack that could be run.
    programs = struct.pack("<IIQQQQQQ", 1, 6, 0, 0, 0, size, size, 4096)
    programs += struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8)
    programs += struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
    hashes = struct.pack("<IIII", 1, 1, 0, 0)
    return header + programs + dynamic + bytes(24) + hashes + strings


def unpacked(members: Iterable[Member]) -> str:
    """An instruction of a Dockerfile that unpacks members at the root."""
    packed = gzip.compress(tar(members), mtime=0)
    text = base64.encodebytes(packed).decode()
    return f"RUN <<'END'\nset -e\nbase64 -d <<'TAR' | tar -xzpf - --numeric-owner -C /\n{text}TAR\nEND"
