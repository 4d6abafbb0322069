"""How the blobs of a private project are encrypted, and how its keys travel. No I/O.

A sealed blob is content-addressed like any other: its digest, size and tree are those of the sealed
bytes, so whoever keeps, passes on or checks it needs no key.

    header   64 bytes: "PLEBSEAL", the key's number (8, big-endian), its id (16), the salt (32)
    parts    of 1 MiB (the last may be shorter), each AES-256-GCM with a tag of 16 bytes

The salt is HMAC-SHA256(key, "pleb salt" || 0x00 || SHA-256(bytes)), and the blob's own key is
HKDF-SHA256(key, salt, "pleb blob"). So the same bytes under one key make the same blob, as
publishing again needs, and no nonce ever meets two texts. The nonce of part n is n (8 bytes) and
1 for the last part, else 0 (4 bytes); the header is authenticated with each part. So parts cannot
be swapped, left out, or taken from another blob (the STREAM construction of Hoang et al. 2015).

Keys travel in a box: to an X25519 key that is made for one question and signed with it.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pleb_shared.errors import InputError, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Count, Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = [
    "HEADER_BYTES",
    "Box",
    "Keyring",
    "KnownKey",
    "MissingKeyError",
    "ProjectKey",
    "Reading",
    "SealedBlob",
    "project_key",
    "put_in_box",
    "read_reading",
    "seal",
    "seal_mark",
    "seal_parts",
    "sealed_bytes",
    "unseal",
    "write_reading",
]

_MAGIC: Final = b"PLEBSEAL"
_HEADER: Final = struct.Struct(">8sQ16s32s")
HEADER_BYTES: Final = _HEADER.size
_PART_BYTES: Final = 2**20
_TAG_BYTES: Final = 16
_NONCE: Final = struct.Struct(">QI")
_KEY_BYTES: Final = 32


class MissingKeyError(TrustError):
    """A blob is sealed with a key that is not here; who is still a member can get it."""


@dataclass(frozen=True)
class ProjectKey:
    """One key of a private project; a higher number is a later one."""

    number: int
    key: bytes

    @cached_property
    def id(self) -> bytes:
        """What a sealed blob names it by: 16 bytes."""
        return hmac.digest(self.key, b"pleb key id", "sha256")[:16]


Keyring = dict[bytes, ProjectKey]
"""Keys by their ids."""


def project_key(secret: bytes, project: str, number: int) -> ProjectKey:
    """Return a key of a project; `secret` is the coordinator's own, and nothing else is kept."""
    text = f"pleb project key\n{project}\n{number}".encode()
    return ProjectKey(number, hmac.digest(secret, text, "sha256"))


# -- blobs -------------------------------------------------------------------------------------


def sealed_bytes(size: int) -> int:
    """Return how many bytes `size` bytes have when they are sealed."""
    return HEADER_BYTES + size + _TAG_BYTES * _parts(size)


def seal(data: bytes, key: ProjectKey) -> bytes:
    """Return the sealed blob of these bytes; the same ones each time."""
    view = memoryview(data)

    def read(start: int, end: int) -> memoryview:
        return view[start:end]

    return b"".join(seal_parts(read, len(data), hashlib.sha256(data).digest(), key))


def seal_parts(
    read: Callable[[int, int], bytes | memoryview], size: int, digest: bytes, key: ProjectKey
) -> Iterator[bytes]:
    """Yield the sealed blob of the `size` bytes that `read(start, end)` returns, part by part.

    `digest`: the SHA-256 of the bytes.
    """
    salt = hmac.digest(key.key, b"pleb salt\x00" + digest, "sha256")
    header = _HEADER.pack(_MAGIC, key.number, key.id, salt)
    cipher, count = _cipher(key, salt), _parts(size)
    yield header
    for number in range(count):
        part = read(number * _PART_BYTES, min(size, (number + 1) * _PART_BYTES))
        yield cipher.encrypt(_nonce(number, count), part, header)


def seal_mark(head: bytes) -> tuple[int, bytes] | None:
    """Return the number and the id of the key of a blob that begins so; None: it is not sealed."""
    if len(head) < HEADER_BYTES or not head.startswith(_MAGIC):
        return None
    _, number, key_id, _ = _HEADER.unpack(head[:HEADER_BYTES])
    return number, key_id


class SealedBlob:
    """A sealed blob that is read as it is needed.

    `read(start, end)` returns the sealed bytes, of which there are `sealed_size`.

    Raises:
        TrustError: it is not sealed. `MissingKeyError`: its key is none of `keys`.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        sealed_size: int,
        keys: Mapping[bytes, ProjectKey],
    ) -> None:
        self._read = read
        self._header = read(0, min(HEADER_BYTES, sealed_size))
        mark = seal_mark(self._header)
        if mark is None:
            raise TrustError("A file of a private project is not sealed, so it is not used.")
        number, key_id = mark
        key = keys.get(key_id)
        if key is None:
            raise MissingKeyError(
                f"A file is sealed with key {number} of the project, which is not here: only who "
                "is a member now gets it."
            )
        body = sealed_size - HEADER_BYTES
        self._count = max(1, -(-body // (_PART_BYTES + _TAG_BYTES)))
        self.size = body - self._count * _TAG_BYTES
        """Of the bytes inside."""
        if self.size < 0 or sealed_bytes(self.size) != sealed_size:
            raise TrustError("A sealed file is cut off.")
        self._cipher = _cipher(key, self._header[-_KEY_BYTES:])

    def parts(self) -> Iterator[bytes]:
        """Yield the bytes inside, a part at a time. Raises `TrustError`: they were changed."""
        for number in range(self._count):
            yield self._part(number)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes inside from `start` up to `end`. Raises `TrustError`: as `parts`."""
        end = min(end, self.size)
        if start >= end:
            return b""
        first, last = start // _PART_BYTES, (end - 1) // _PART_BYTES
        data = b"".join(self._part(number) for number in range(first, last + 1))
        return data[start - first * _PART_BYTES : end - first * _PART_BYTES]

    def _part(self, number: int) -> bytes:
        start = HEADER_BYTES + number * (_PART_BYTES + _TAG_BYTES)
        length = min(_PART_BYTES, self.size - number * _PART_BYTES) + _TAG_BYTES
        sealed = self._read(start, start + length)
        try:
            return self._cipher.decrypt(_nonce(number, self._count), sealed, self._header)
        except (InvalidTag, ValueError) as error:
            raise TrustError("A sealed file was changed: get it again.") from error


def unseal(data: bytes, keys: Mapping[bytes, ProjectKey]) -> bytes:
    """Return the bytes inside a sealed blob. Raises `TrustError` and its kinds: as `SealedBlob`."""
    return b"".join(SealedBlob(lambda start, end: data[start:end], len(data), keys).parts())


def _parts(size: int) -> int:
    return max(1, -(-size // _PART_BYTES))


def _nonce(number: int, count: int) -> bytes:
    return _NONCE.pack(number, int(number == count - 1))


def _cipher(key: ProjectKey, salt: bytes) -> AESGCM:
    derive = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=b"pleb blob")
    return AESGCM(derive.derive(key.key))


# -- what a reader has -------------------------------------------------------------------------

KeyDigits = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class KnownKey(Struct, frozen=True):
    """A key of the project: 32 bytes in hexadecimal."""

    number: Count
    key: KeyDigits


class Reading(Struct, frozen=True):
    """By what somebody reads a private project: it is a secret."""

    reader: Annotated[str, msgspec.Meta(max_length=LIMITS.reader_characters)]
    """What the coordinator knows the reader by, in the header `Authorization: Pleb READER`."""
    keys: Annotated[list[KnownKey], msgspec.Meta(max_length=LIMITS.project_keys)]

    @classmethod
    def of(cls, reader: str, keys: Iterable[ProjectKey]) -> Reading:
        """Return what a reader with these keys has."""
        return cls(reader=reader, keys=[KnownKey(number=k.number, key=k.key.hex()) for k in keys])

    @property
    def keyring(self) -> Keyring:
        """The keys by their ids."""
        keys = (ProjectKey(known.number, bytes.fromhex(known.key)) for known in self.keys)
        return {key.id: key for key in keys}

    @property
    def newest(self) -> ProjectKey:
        """The key of what is published from now on."""
        return max(self.keyring.values(), key=lambda key: key.number)


def write_reading(reading: Reading) -> bytes:
    """Return the bytes that `read_reading` reads."""
    return strict_json.encode(reading)


def read_reading(data: bytes) -> Reading:
    """Return what `write_reading` wrote. Raises `Refusal` malformed."""
    return strict_json.decode(data, Reading)


# -- boxes -------------------------------------------------------------------------------------


class Box:
    """A key for one answer. Who signs `public` with its question gets what nobody else can open."""

    def __init__(self, seed: bytes | None = None) -> None:
        """Make a key for one answer; `seed`: 32 secret bytes that it follows from."""
        self._private = (
            X25519PrivateKey.generate()
            if seed is None
            else X25519PrivateKey.from_private_bytes(seed)
        )
        self.public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def open(self, box: bytes, about: str) -> bytes:
        """Return what is in a box. `about`: what it was put in for.

        Raises:
            TrustError: it was made for another key or something else, or was changed.
        """
        theirs, sealed = box[:_KEY_BYTES], box[_KEY_BYTES:]
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(theirs))
            return _box_cipher(shared, theirs, self.public, about).decrypt(bytes(12), sealed, None)
        except (InvalidTag, ValueError) as error:
            raise TrustError("The project's keys came in a box that does not open.") from error


def put_in_box(data: bytes, to: str, about: str) -> bytes:
    """Return a box that only the owner of the public key `to` can open.

    Raises:
        InputError: `to` is no key.
    """
    own = X25519PrivateKey.generate()
    public = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(to)))
    except ValueError as error:
        raise InputError("The key that keys are to be sealed to is none.") from error
    return public + _box_cipher(shared, public, to, about).encrypt(bytes(12), data, None)


def _box_cipher(shared: bytes, theirs: bytes, to: str, about: str) -> AESGCM:
    info = b"pleb box\x00" + theirs + bytes.fromhex(to) + about.encode()
    derive = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=info)
    return AESGCM(derive.derive(shared))
