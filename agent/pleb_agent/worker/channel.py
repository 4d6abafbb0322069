"""What both ends of the worker share: messages in a byte stream, and a page of flags."""

from __future__ import annotations

import mmap
import os
import struct
import sys
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

import msgspec

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

__all__ = [
    "FRAME_BYTES",
    "FlagPage",
    "FrameError",
    "Request",
    "State",
    "encode_frame",
    "flag_file",
    "read_frame",
    "receive_frame",
]

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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"The stream holds no message that is known here: {error}.") from error


_PAGE_BYTES: Final = 3
_REQUEST: Final = 0
_STATE: Final = 1
_SHARE: Final = 2


def flag_file(work_dir: Path) -> Path:
    """Return the page's path, beside the work directory.

    A worker that could shorten the file would end the agent: to touch a mapped page that is gone
    is a fatal signal.
    """
    return work_dir.with_name(work_dir.name + ".flags")


class Request(IntEnum):
    """What the agent wants."""

    RUN = 0
    PAUSE = 1
    CHECKPOINT_AND_STOP = 2


class State(IntEnum):
    """What the worker does."""

    IDLE = 0
    COMPUTING = 1
    PAUSED = 2
    RESTING = 3
    """It sleeps for a while, to hold its share of the processor."""


_STATES: Final = frozenset(State)


class FlagPage:
    """A file of three bytes, mapped by both sides."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._file = os.fstat(file.fileno())
            self._bytes = mmap.mmap(file.fileno(), _PAGE_BYTES)

    @classmethod
    def create(cls, path: Path) -> FlagPage:
        """Return the page of a new file that says run, idle, and the whole processor."""
        path.write_bytes(bytes([Request.RUN, State.IDLE, 100]))
        return cls(path)

    @property
    def request(self) -> Request:
        """What the agent wants."""
        return Request(self._bytes[_REQUEST])

    @request.setter
    def request(self, request: Request) -> None:
        self._bytes[_REQUEST] = request

    @property
    def state(self) -> State:
        """What the worker says that it does; computing, if it says nothing that is known."""
        said = self._bytes[_STATE]
        return State(said) if said in _STATES else State.COMPUTING

    @state.setter
    def state(self, state: State) -> None:
        self._bytes[_STATE] = state

    @property
    def share_percent(self) -> int:
        """How much of its threads' time the worker may use, 1 to 100."""
        return min(100, max(1, self._bytes[_SHARE]))

    @share_percent.setter
    def share_percent(self, percent: int) -> None:
        self._bytes[_SHARE] = min(100, max(1, percent))

    def release_file(self) -> None:
        """Let go of the file but for the map, in a process that may turn hostile.

        Python keeps a descriptor of a mapped file, by which it could be cut: to touch a page that
        is gone would be the end of the agent.
        """
        if sys.platform == "win32":
            return
        ours = self._file
        with Path(os.devnull).open("rb") as nothing:
            for path in list(Path("/dev/fd").iterdir()):
                with suppress(OSError):
                    if os.path.samestat(os.fstat(int(path.name)), ours):
                        os.dup2(nothing.fileno(), int(path.name), inheritable=False)

    def close(self) -> None:
        """Unmap the page."""
        self._bytes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
