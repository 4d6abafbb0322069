"""How a child process tells its parent that it is ready: by a byte in a pipe of the parent's.

The parent adds `--ready-to NUMBER` to the child's command line, as the pipe's end outlives `exec`.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

__all__ = ["ReadyPipe", "ReadySignal", "add_ready_option"]

_OPTION: Final = "--ready-to"


class ReadyPipe:
    """The parent's side, for one start of a child."""

    def __init__(self) -> None:
        self._reading, self.descriptor = os.pipe()
        """`descriptor` is the child's end: it must be passed on to the child."""
        os.set_blocking(self._reading, False)

    @property
    def arguments(self) -> list[str]:
        """What to add to the child's command line."""
        return [_OPTION, str(self.descriptor)]

    def hand_over(self) -> None:
        """Close the child's end here: the child has its own."""
        os.close(self.descriptor)

    def close(self) -> bool:
        """Close this end; return whether the child has said that it is ready."""
        try:
            return bool(os.read(self._reading, 1))
        except BlockingIOError:  # a process that the child has started still has its end
            return False
        finally:
            os.close(self._reading)


class ReadySignal:
    """The child's side. None: no parent waits for it."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def say(self) -> None:
        """Say that this process is ready; only the first time counts."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with contextlib.suppress(BrokenPipeError):  # the parent has just been killed
            os.write(descriptor, b"\n")
        os.close(descriptor)


def add_ready_option(parser: argparse.ArgumentParser) -> None:
    """Let a child's command line take what `ReadyPipe.arguments` adds to it, as `ready_to`."""
    parser.add_argument(_OPTION, type=int, help="descriptor of a pipe, to say when we are ready")
