"""What the machine is about to do: sleep, wake up, shut down.

`run` calls a listener, which gets time to write a checkpoint before the machine sleeps.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["AWAKE", "MachineState", "NoSessionEvents", "SessionEvents", "SessionListener"]


@dataclass(frozen=True)
class MachineState:
    """What the machine is about to do."""

    suspending: bool = False
    shutting_down: bool = False


AWAKE = MachineState()


@dataclass(frozen=True)
class SessionListener:
    """Both are called in the event loop."""

    changed: Callable[[MachineState], None]
    prepare: Callable[[], Coroutine[Any, Any, None]]
    """Called after `changed`, before the machine sleeps or shuts down: it waits for the end of
    this, but not for long."""


class SessionEvents(Protocol):
    """Watches the system."""

    async def run(self, listener: SessionListener) -> None:
        """Call the listener until cancelled."""


class NoSessionEvents:
    """Where the system reports nothing. After a sleep the agent resumes as after any long pause."""

    async def run(self, listener: SessionListener) -> None:
        """Wait until cancelled."""
        del listener
        await asyncio.Event().wait()
