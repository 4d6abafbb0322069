"""Messages in a byte stream: a 4-byte big-endian length, then msgpack."""

from __future__ import annotations

import struct
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    import asyncio

__all__ = ["FRAME_BYTES", "FrameError", "encode_frame", "read_frame", "receive_frame"]

FRAME_BYTES: Final = 4 * 2**20
"""Ceiling of one message: neither side allocates more because the other says so."""

_LENGTH: Final = struct.Struct(">I")
_ENCODER: Final = msgspec.msgpack.Encoder()


class FrameError(Exception):
    """The stream is cut inside a message or carries something else."""


def encode_frame(message: object) -> bytes:
    """Return `message` with its length before it."""
    body = _ENCODER.encode(message)
    return _LENGTH.pack(len(body)) + body


def read_frame(stream: IO[bytes], kind: Any) -> Any:
    """Block for the next message of type `kind` from `stream`.

    Raises:
        EOFError: the stream ended between two messages.
        FrameError: it ended inside one, or holds no message of this type.
    """
    head = stream.read(_LENGTH.size)
    if not head:
        raise EOFError
    body = stream.read(_body_bytes(head))
    return _decoded(head, body, kind)


async def receive_frame(stream: asyncio.StreamReader, kind: Any) -> Any:
    """Like `read_frame`, for asyncio.

    Raises:
        EOFError: the stream ended, between two messages or inside one.
        FrameError: it holds no message of this type.
    """
    head = await stream.readexactly(_LENGTH.size)
    body = await stream.readexactly(_body_bytes(head))
    return _decoded(head, body, kind)


def _body_bytes(head: bytes) -> int:
    if len(head) < _LENGTH.size:
        raise FrameError("The stream ended inside a message's length.")
    (length,) = _LENGTH.unpack(head)
    if length > FRAME_BYTES:
        raise FrameError(f"A message claims {length} bytes; at most {FRAME_BYTES} are read.")
    return int(length)


def _decoded(head: bytes, body: bytes, kind: Any) -> Any:
    if len(body) < _body_bytes(head):
        raise FrameError("The stream ended inside a message.")
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise FrameError(f"The stream holds no message that is known here: {error}.") from error
