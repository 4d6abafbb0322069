"""The flag page: three bytes of shared memory, read between steps at no cost.

Byte 0 is the agent's request, byte 1 the worker's answer, byte 2 the agent's share of the processor
in percent. Each side writes only its own bytes, and a byte is written at once, so there is
nothing to lock.
"""

from __future__ import annotations

import mmap
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["FlagPage", "Request", "State", "flag_file"]

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
