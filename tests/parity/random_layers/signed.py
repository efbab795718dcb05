"""A repository of packages that is signed, by a key that is made from nothing but a number.

Protocol: RFC 4880 (packets, armor), and its extension for EdDSA, as `gpgv` reads them.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_CREATED = struct.pack(">I", 1_000_000_000)
_CURVE = bytes.fromhex("2b06010401da470f01")
_EDDSA, _SHA256 = 22, 8


def signed(files: Mapping[str, bytes]) -> tuple[dict[str, bytes], bytes]:
    """A flat repository with its signature, and the key ring to check that with."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    body = b"\x04" + _CREATED + bytes([_EDDSA, len(_CURVE)]) + _CURVE + _number(b"\x40" + public)
    fingerprint = hashlib.sha1(b"\x99" + struct.pack(">H", len(body)) + body).digest()
    packages = files["Packages"]
    release = (
        "Origin: bkb\nDate: Thu, 01 Jan 2015 00:00:00 UTC\nSHA256:\n"
        f" {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
    ).encode()
    name = b"nobody <nobody@example.com>"
    about = b"\x99" + struct.pack(">H", len(body)) + body + b"\xb4" + struct.pack(">I", len(name)) + name
    ring = _packet(6, body) + _packet(13, name) + _signature(key, fingerprint, 0x13, about, bytes([2, 27, 0x03]))
    return {
        **files,
        "Release": release,
        "Release.gpg": _armored(_signature(key, fingerprint, 0x00, release, b"")),
    }, ring


def _number(data: bytes) -> bytes:
    stripped = data.lstrip(b"\0")
    return struct.pack(">H", int.from_bytes(stripped, "big").bit_length()) + stripped


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + struct.pack(">I", len(body)) + body


def _signature(key: Ed25519PrivateKey, fingerprint: bytes, kind: int, data: bytes, more: bytes) -> bytes:
    """A signature packet; `more` are further subpackets that are signed."""
    hashed = b"\x05\x02" + _CREATED + b"\x16\x21\x04" + fingerprint + more
    head = bytes([4, kind, _EDDSA, _SHA256]) + struct.pack(">H", len(hashed)) + hashed
    digest = hashlib.sha256(data + head + b"\x04\xff" + struct.pack(">I", len(head))).digest()
    made = key.sign(digest)
    issuer = b"\x09\x10" + fingerprint[-8:]
    tail = struct.pack(">H", len(issuer)) + issuer + digest[:2] + _number(made[:32]) + _number(made[32:])
    return _packet(2, head + tail)


def _armored(data: bytes) -> bytes:
    checksum = 0xB704CE
    for byte in data:
        checksum ^= byte << 16
        for _ in range(8):
            checksum <<= 1
            if checksum & 0x1000000:
                checksum ^= 0x1864CFB
    text = base64.encodebytes(data).decode()
    end = base64.b64encode(checksum.to_bytes(3, "big")).decode()
    return f"-----BEGIN PGP SIGNATURE-----\n\n{text}={end}\n-----END PGP SIGNATURE-----\n".encode()
