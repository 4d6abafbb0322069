"""The engine between units: started before the first, given back when there is long no work."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.core.agent_state import Activity
from pleb_agent.core.backoff import BACKOFF
from pleb_agent.core.history import EventKind
from pleb_agent.core.sentence import say
from pleb_agent.worker.errors import JobStopped, RuntimeMissing, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.loop.history import History
    from pleb_agent.loop.parts import Parts
    from pleb_agent.loop.status import LiveStatus
    from pleb_shared.protocol.messages import Runtime

__all__ = ["WarmEngine"]

_LOG: Final = logging.getLogger("pleb.agent")
_STOPPED_SECONDS: Final = 1.0
_MISSING_SECONDS: Final = 600.0


class WarmEngine:
    """`runtime` is that of the last start, None before it; `on_start` is told of each."""

    def __init__(
        self, parts: Parts, status: LiveStatus, history: History, on_start: Callable[[], None]
    ) -> None:
        self._parts = parts
        self._status = status
        self._history = history
        self._on_start = on_start
        self._failures = 0
        self._used_at = 0.0
        self.runtime: Runtime | None = None

    async def start(self) -> float:
        """Start the engine unless it was; return the seconds to wait before the next try."""
        if self.runtime is not None:
            return 0.0
        self._status.set(Activity.IDLE, say("The worker is getting ready."))
        try:
            self.runtime = await self._parts.engine.start()
        except JobStopped:  # work is not allowed any more
            return _STOPPED_SECONDS
        except RuntimeMissing as error:  # whoever fetches it says how far it is, and wakes us
            self._status.set(Activity.IDLE, say("{reason}", reason=str(error)))
            return _MISSING_SECONDS
        except WorkerError as error:
            return self._failed(error)
        self._failures = 0
        self.used()
        self._on_start()
        return 0.0

    def forget(self) -> None:
        """It died, or must be started anew: before the next unit."""
        self.runtime = None

    def used(self) -> None:
        """It computes, or has just computed."""
        self._used_at = asyncio.get_running_loop().time()

    async def rest(self) -> float:
        """Give the memory of an engine without work back; return when to look again, in seconds.

        It starts again by itself with the next unit.
        """
        rest_at = self._used_at + self._parts.rest_seconds
        left = rest_at - asyncio.get_running_loop().time()
        if left > 0:
            return left
        if self._parts.engine.pid is not None:
            _LOG.info("rest", extra={"pid": self._parts.engine.pid})
            await self._parts.engine.request_checkpoint_and_stop()
        return self._parts.rest_seconds

    def _failed(self, error: WorkerError) -> float:
        self._failures += 1
        sentence = say("{reason}", reason=str(error))
        if self._failures == 1:
            self._history.note(EventKind.PROBLEM, sentence)
        delay = BACKOFF.delay_seconds(self._failures, self._parts.draw())
        self._status.set(Activity.PROBLEM, sentence, self._parts.clock() + delay)
        _LOG.error("worker", extra={"problem": str(error)})
        return delay
