"""Sending deltas that are too large for a request, beside the next unit's training."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.client.errors import NetworkError
from pleb_agent.client.upload import upload_file
from pleb_agent.core.agent_state import AssignmentEvent, AssignmentState, next_state
from pleb_agent.core.backoff import BACKOFF
from pleb_agent.core.history import ended_event
from pleb_agent.journal.rows import Settled
from pleb_agent.worker.plain_files import open_plain
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.report import DeltaResult, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_agent.core.history import Event
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import AssignmentRow
    from pleb_agent.loop.ports import Clock, Draw
    from pleb_agent.loop.session import Session

__all__ = ["Uploads"]

_LOG: Final = logging.getLogger("pleb.agent")
_MAY_PASS: Final = frozenset(
    {RefusalCode.RATE_LIMITED, RefusalCode.INTERNAL, RefusalCode.STORAGE_FULL}
)


class Uploads:
    """Sends one delta to its end: taken, refused, or late."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        draw: Draw,
        on_events: Callable[[Sequence[Event]], None],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._draw = draw
        self._on_events = on_events

    async def upload(self, session: Session, row: AssignmentRow) -> AssignmentState:
        """Send the delta of a row that is `uploading`, trying again until its lease ends."""
        failures = 0
        while self._clock() < row.lease_ends_at:
            try:
                size = _size(row)
                with open_plain(Path(row.delta_file)) as file:
                    await upload_file(session.client, row.upload, file, size)
            except NetworkError as problem:
                failures += 1
                await self._wait(row, str(problem), failures, problem.retry_after_seconds)
            except Refusal as refusal:
                if refusal.code not in _MAY_PASS:
                    return self._end(session, row, _event(refusal), str(refusal))
                failures += 1
                await self._wait(row, str(refusal), failures, refusal.retry_after_seconds)
            except OSError as error:
                why = f"The delta is gone: {error}"
                return self._end(session, row, AssignmentEvent.UPLOAD_REFUSED, why)
            else:
                return self._end(session, row, AssignmentEvent.UPLOAD_COMPLETE, "")
            finally:
                session.count_traffic(self._journal, self._clock())
        late = "The lease ended before the upload."
        return self._end(session, row, AssignmentEvent.LEASE_ENDED, late)

    async def _wait(
        self, row: AssignmentRow, problem: str, failures: int, asked: float | None
    ) -> None:
        delay = BACKOFF.delay_seconds(failures, self._draw(), asked)
        _LOG.warning("upload", extra={"assignment": row.assignment, "problem": problem})
        await asyncio.sleep(min(delay, max(0.1, row.lease_ends_at - self._clock())))

    def _end(
        self, session: Session, row: AssignmentRow, event: AssignmentEvent, note: str
    ) -> AssignmentState:
        state, now = next_state(row.state, event), self._clock()
        samples = session.samples_of(row.manifest.unit)
        events = ended_event(state, session.name, row.assignment, note, now)
        self._on_events(
            self._journal.end(Settled(row.id, state, note=note, samples=samples), now, events)
        )
        _LOG.info("upload", extra={"assignment": row.assignment, "state": state.value})
        return state


def _event(refusal: Refusal) -> AssignmentEvent:
    late = refusal.code is RefusalCode.LEASE_EXPIRED
    return AssignmentEvent.LEASE_ENDED if late else AssignmentEvent.UPLOAD_REFUSED


def _size(row: AssignmentRow) -> int:
    result = msgspec.json.decode(row.report, type=Report).result
    return result.size if isinstance(result, DeltaResult) else 0
