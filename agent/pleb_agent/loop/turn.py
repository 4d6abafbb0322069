"""One project's turn: settle what is open, do a unit, report it and ask for the next.

In the steady state that is one HTTP request and two journal transactions for each unit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pleb_agent.core.agent_state import Activity, AssignmentState
from pleb_agent.core.backoff import BACKOFF
from pleb_agent.core.history import ended_event
from pleb_agent.core.sentence import say
from pleb_agent.journal.rows import Settled
from pleb_agent.loop.compute import failed_row
from pleb_agent.loop.exchange import Answer, Ask, Exchange
from pleb_agent.loop.files import held
from pleb_agent.loop.in_hand import InHand
from pleb_agent.loop.unit_work import Fetched, UnitWork
from pleb_agent.loop.upload_tasks import UploadTasks
from pleb_agent.loop.uploads import Uploads
from pleb_shared.errors import PlebError, TrustError
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.core.history import Event
    from pleb_agent.core.sentence import Sentence
    from pleb_agent.journal.rows import AssignmentRow
    from pleb_agent.loop.budget import UnitBudget
    from pleb_agent.loop.parts import Parts
    from pleb_agent.loop.session import Session
    from pleb_agent.loop.status import LiveStatus
    from pleb_shared.protocol.messages import Runtime

__all__ = ["Turns"]

_LOG: Final = logging.getLogger("pleb.agent")
_REPORTABLE: Final = frozenset({AssignmentState.COMPUTED, AssignmentState.FAILED})
_QUICK_ANSWER_SECONDS: Final = 1.0
_REST_OF_UNIT: Final = 0.25
"""When the next unit is asked for (`prefetch`), a fifth of this one is still to be computed."""

GoesOn = Callable[[float], bool]
"""Whether a session is next again after so many more seconds of computing."""


class Turns:
    """Takes turns for every session. `wake` is called when an upload has ended."""

    def __init__(
        self,
        parts: Parts,
        status: LiveStatus,
        budget: UnitBudget,
        wake: Callable[[], None],
        on_events: Callable[[Sequence[Event]], None],
        charge: Callable[[Session, float], None],
    ) -> None:
        self._parts = parts
        self._status = status
        self._budget = budget
        self._wake = wake
        self._on_events = on_events
        self._work = UnitWork(parts, status, wake, charge)
        uploads = Uploads(parts.journal, parts.clock, parts.draw, on_events)
        self.uploads = UploadTasks(uploads, self._upload_ended)
        self.in_hand = InHand(parts.journal)

    def clean(self) -> None:
        """Delete the directories that earlier processes left of units that have ended."""
        self._work.clean_all_but(self._parts.journal.open_assignments())

    async def prepare(self, session: Session, runtime: Runtime, *, alone: bool) -> Fetched | None:
        """Do a turn's network part; return a unit that can be computed, if there is one.

        `alone`: no other project waits, so the coordinator may hold a request.

        Raises:
            PlebError: nothing is lost; the turn may be taken again later.
        """
        await self._begin(session)
        rows = self.in_hand.of(session.project)
        waiting = [row for row in rows if row.state is AssignmentState.RECEIVED]
        if waiting:
            fetched = await self._work.fetch(session, waiting[0])
            if isinstance(fetched, Fetched):
                return fetched
            self._take_result(session, fetched)
            rows = self.in_hand.of(session.project)
        await self._report_and_ask(session, runtime, rows, alone=alone, asks=True)
        return None

    def at_hand(self, session: Session) -> Fetched | None:
        """Return a unit that can be computed without the network, if there is one."""
        try:
            self._load(session)
        except TrustError:  # newer metadata is needed
            return None
        for row in self.in_hand.of(session.project):
            if row.state is AssignmentState.RECEIVED:
                found = self._work.at_hand(session, row)
                if isinstance(found, Fetched):
                    return found
                if found.state is not AssignmentState.RECEIVED:
                    self._take_result(session, found)
        return None

    async def compute(
        self, session: Session, runtime: Runtime, fetched: Fetched, goes_on: GoesOn
    ) -> None:
        """Compute a unit; its result is kept until it is reported.

        `goes_on` says whether the session will be next again, so that a next unit is wanted.

        Raises:
            PutAwayError: the engine was told to stop.
            PlebError: nothing is lost; the turn may be taken again later.
        """
        numbers = [row.assignment for row in self.in_hand.of(session.project)]
        self._say(Activity.WORKING, say("Working for {project}.", project=session.name))
        done = await self._work.compute(
            session, fetched, lambda: self._ask_ahead(session, runtime, numbers, goes_on)
        )
        if done is not None:
            self._take_result(session, done)

    async def report(self, session: Session, runtime: Runtime, *, alone: bool, asks: bool) -> None:
        """Report what is computed, and ask for more if the session is next again.

        Raises:
            PlebError: nothing is lost; the turn may be taken again later.
        """
        rows = self.in_hand.of(session.project)
        if any(row.state in _REPORTABLE for row in rows):
            await self._report_and_ask(session, runtime, rows, alone=alone, asks=asks)

    async def leave(self, session: Session, runtime: Runtime) -> None:
        """Give back what is in hand, as far as the coordinator can be reached."""
        await self._begin(session)
        await self.uploads.cancel(session.project)
        rows = [
            failed_row(row, "The volunteer left the project.")
            for row in self.in_hand.of(session.project)
            if row.state is AssignmentState.RECEIVED
        ]
        if rows:
            await self._send(session, self._ask(session, runtime, computed=rows))

    async def _begin(self, session: Session) -> None:
        """Settle what an earlier request or process left open."""
        journal = self._parts.journal
        failure = self.uploads.failure()
        if isinstance(failure, PlebError):
            raise failure
        try:
            self._load(session)
        except TrustError:
            await session.refresh_metadata(journal, self._parts.clock)
        answer = await self._exchange(session).settle_pending()
        if answer is not None:
            self._settled(session, answer)
        self._start_uploads(session)

    def _load(self, session: Session) -> None:
        if not session.loaded:
            row = self._parts.journal.project(session.project)
            session.load_metadata(row, self._parts.clock)

    def _take_result(self, session: Session, row: AssignmentRow) -> None:
        if row.state is AssignmentState.LATE:
            now = self._parts.clock()
            events = ended_event(row.state, session.name, row.assignment, row.note, now)
            ended = Settled(row.id, row.state, note=row.note)
            self._on_events(self._parts.journal.end(ended, now, events))
            self._work.clean(row.id, row.project)
            _LOG.warning("late", extra={"assignment": row.assignment, "reason": row.note})
            return
        self.in_hand.take(row)

    async def _report_and_ask(
        self,
        session: Session,
        runtime: Runtime,
        rows: Sequence[AssignmentRow],
        *,
        alone: bool,
        asks: bool,
    ) -> None:
        computed = [row for row in rows if row.state in _REPORTABLE]
        waiting = [row for row in rows if row.state is AssignmentState.RECEIVED]
        wanted = asks and not waiting and self._wants_more(computed)
        if not computed and not wanted:
            self._rest(session, busy=bool(waiting))
            return
        # A request that carries a report is answered at once, so that the report is known.
        wait_seconds = self._parts.most_wait_seconds if alone and not computed else 0.0
        if not computed:
            asking = say("Asking {project} for work.", project=session.name)
            self._say(Activity.IDLE, asking)
        loop = asyncio.get_running_loop()
        began = loop.time()
        ask = self._ask(
            session,
            runtime,
            max_units=int(wanted),
            wait_seconds=wait_seconds,
            in_hand=[row.assignment for row in rows if row not in computed],
            computed=computed,
        )
        answer = await self._send(session, ask)
        if wanted and not answer.units and not (computed and alone):
            self._note_no_work(session, answer, loop.time() - began)
        self._slow_down_after_failures(session, answer)

    async def _ask_ahead(
        self, session: Session, runtime: Runtime, in_hand: Sequence[int], goes_on: GoesOn
    ) -> Sequence[AssignmentRow]:
        """Ask for the next unit while one is computed."""
        unit = self._status.unit
        rest_seconds = 0.0 if unit is None else unit.compute_seconds * _REST_OF_UNIT
        if not self._budget.wants_more(len(self.uploads) + 1) or not goes_on(rest_seconds):
            return []
        ask = self._ask(session, runtime, max_units=1, in_hand=in_hand)
        return (await self._send(session, ask)).units

    async def _send(self, session: Session, ask: Ask) -> Answer:
        try:
            answer = await self._exchange(session).ask(ask)
        except (PlebError, asyncio.CancelledError):
            self.in_hand.keep()
            raise
        self.in_hand.written(ask.computed)
        self._settled(session, answer)
        return answer

    def _settled(self, session: Session, answer: Answer) -> None:
        session.count_traffic(self._parts.journal, self._parts.clock())
        self._on_events(answer.events)
        for change in answer.settled:
            _LOG.info(
                "report",
                extra={"project": session.name, "id": change.id, "state": change.state.value},
            )
            if change.state is AssignmentState.UPLOADING:
                continue
            self._work.clean(change.id, session.project)
            self._count(session, change.state)
        if answer.settled:
            self._start_uploads(session)

    def _start_uploads(self, session: Session) -> None:
        for row in self._parts.journal.open_assignments(session.project):
            if row.state is AssignmentState.UPLOADING:
                self.uploads.start(session, row)

    def _upload_ended(self, session: Session, row: AssignmentRow, state: AssignmentState) -> None:
        self._work.clean(row.id, row.project)
        self._count(session, state)
        self._wake()

    def _count(self, session: Session, state: AssignmentState) -> None:
        if state is AssignmentState.DONE:
            self._budget.finished += 1
            self._status.units_finished = self._budget.finished
            session.failed_units = 0
        else:
            session.failed_units += 1

    def _slow_down_after_failures(self, session: Session, answer: Answer) -> None:
        """Units that fail one after the other must not become a hot loop."""
        if session.failed_units and any(
            change.state in {AssignmentState.GIVEN_BACK, AssignmentState.REFUSED}
            for change in answer.settled
        ):
            delay = BACKOFF.delay_seconds(session.failed_units, self._parts.draw())
            session.next_look_at = asyncio.get_running_loop().time() + delay

    def _note_no_work(self, session: Session, answer: Answer, took_seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        reason = answer.no_work.reason if answer.no_work else "The project has no work now."
        wait = answer.no_work.retry_after_seconds if answer.no_work else 0.0
        if took_seconds < _QUICK_ANSWER_SECONDS:
            wait = max(wait, _QUICK_ANSWER_SECONDS)
        session.next_look_at = now + wait * (1 + 0.1 * self._parts.draw())
        sentence = say("{project}: {reason}", project=session.name, reason=reason)
        self._say(Activity.IDLE, sentence, self._parts.clock() + wait)

    def _rest(self, session: Session, *, busy: bool) -> None:
        """Nothing to report and nothing wanted: wait for uploads, if not for the next unit."""
        if not busy:
            now = asyncio.get_running_loop().time()
            session.next_look_at = now + _QUICK_ANSWER_SECONDS
            if len(self.uploads):
                self._say(Activity.WORKING, say("The last results are being uploaded."))

    def _say(
        self, activity: Activity, sentence: Sentence, next_look_at: float | None = None
    ) -> None:
        """Show what goes on, unless a unit is being computed meanwhile, which says more."""
        if self._status.unit is None:
            self._status.set(activity, sentence, next_look_at)

    def _wants_more(self, computed: Sequence[AssignmentRow]) -> bool:
        good = sum(row.state is AssignmentState.COMPUTED for row in computed)
        return self._budget.wants_more(len(self.uploads) + good)

    def _exchange(self, session: Session) -> Exchange:
        return Exchange(session, self._parts.journal, self._parts.clock)

    def _ask(
        self,
        session: Session,
        runtime: Runtime,
        *,
        max_units: int = 0,
        wait_seconds: float = 0.0,
        in_hand: Sequence[int] = (),
        computed: Sequence[AssignmentRow] = (),
    ) -> Ask:
        return Ask(
            runtime=runtime,
            max_units=max_units,
            wait_seconds=wait_seconds,
            holds=held(session, self._parts.cache, LIMITS.held_blobs),
            in_hand=in_hand,
            computed=computed,
        )
