"""One attached project while the agent runs: its requests, its units, its failures.

In the steady state a unit costs one HTTP request and two journal transactions: the request that
reports it also asks for the next one.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pleb_agent.cache.errors import CacheFullError
from pleb_agent.cache.shard_cipher import ShardCipher
from pleb_agent.core.agent_state import Activity, AssignmentEvent, AssignmentState
from pleb_agent.core.history import EventKind
from pleb_agent.core.override import OverrideKind
from pleb_agent.core.sentence import say, say_reason
from pleb_agent.core.trust import ClockError
from pleb_agent.core.unit_parts import Held
from pleb_agent.journal.journal import JournalError
from pleb_agent.journal.rows import AssignmentRow, Change
from pleb_agent.loop.exchange import MAY_SUCCEED_LATER, Answer, Ask, Exchange
from pleb_agent.loop.files import FetchedUnit, ProjectFiles, UnitDirectories, UnitFiles
from pleb_agent.loop.uploads import Uploads
from pleb_agent.own_data.store import OwnStore, own_folder_of
from pleb_agent.own_data.watch import OwnData
from pleb_agent.worker.errors import NumericsUnavailable
from pleb_shared.errors import PlebError, Refusal, RefusalCode, TrustError
from pleb_shared.protocol.limits import LIMITS
from pleb_system.backoff import BACKOFF, Backoff
from pleb_system.network_errors import NetworkError, UnreachableError, WrongCertificateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pleb_agent.client.coordinator import CoordinatorClient
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.status import LoopState
    from pleb_shared.protocol.messages import Received, Runtime
    from pleb_shared.protocol.project import Numerics
    from pleb_shared.protocol.sealing import Keyring
    from pleb_shared.protocol.signing import SigningKey

__all__ = ["Project", "UnitEnd"]

T = TypeVar("T")
UnitEnd = AssignmentRow | Change
"""How work on a unit ended: its row with a report, or that it is late."""

_LOG: Final = logging.getLogger("pleb.agent")
_FORGOTTEN: Final = frozenset({RefusalCode.UNKNOWN_HOST, RefusalCode.STALE_SEQUENCE})
"""Refusals of a coordinator that has forgotten us (a restored backup): enrol again."""
_AGAIN: Final = Backoff(longest_seconds=60.0)
"""A coordinator that comes back, or whose permission was renewed, has its agents in a minute."""
_OLD_HOME: Final = 2
"""Refusals of a number that a home may get which was restored from a backup: an old number, or the
last one with other content."""
_FAILURES_OF_MIRRORS: Final = 3
"""Tries in vain to reach the coordinator, after which mirrors are asked whether it has moved."""
_RESTING_SECONDS: Final = 3600.0
_QUICK_ANSWER_SECONDS: Final = 1.0
"""An answer without work that came faster than this was not waited for: don't ask in a loop."""

_CLOCK: Final = "clock"
"""Stands for every sentence about the clocks."""


class Project:
    """`next_look_at` counts on the event loop's clock, in seconds; only this class sets it.

    Network work runs in `task`, since it may outlast the project's turn in the loop.
    """

    def __init__(
        self, row: ProjectRow, host_key: SigningKey, client: CoordinatorClient, loop: LoopState
    ) -> None:
        self.id = row.id
        self.link = row.link
        """Where its coordinator is."""
        self.name = row.name
        self.family = row.family
        self.work_folder = row.work_folder
        """Of the worker that computes for it: all members of a family have one."""
        self.client = client
        self.next_look_at = 0.0
        self.problem = ""
        self.task: asyncio.Task[Any] | None = None
        """Network work under way, or finished but not looked at yet."""
        cipher = ShardCipher(host_key.to_bytes())
        store = OwnStore(own_folder_of(loop.services.work_dir, row.id), host_key.to_bytes())
        self.own = OwnData(store, self._own_folder, loop.services.clock, loop.services.packages)
        """The user's own data, if the project is trained on such."""
        self.files = ProjectFiles(client, cipher, loop.services, self._keyring, self.own)
        self._loop = loop
        self._services = loop.services
        self._journal = loop.services.journal
        self._clock = loop.services.clock
        self._exchange = Exchange(row, host_key, client, loop)
        self.files.count_traffic = self._exchange.count_traffic
        self._uploads = Uploads(self._exchange, loop.services, self._upload_ended)
        self._lock = asyncio.Lock()
        """One request at a time: sequence numbers go out in order."""
        self._results: dict[int, AssignmentRow] = {}
        """Rows with a report that the journal does not have yet, by their id.

        A result is written with the request that reports it, which saves a transaction;
        `keep_results` writes it if no request will carry it soon.
        """
        self._failures = 0
        self._told = ""
        """What the history says of the problem that lasts."""
        self._failed_units = 0
        self._strangers = 0
        """Refusals of a number that somebody else has used."""
        self._copied = ""
        """That another PC has our keys; it stays until the process ends."""

    @property
    def numerics(self) -> Numerics:
        """How the project's units are computed."""
        return self._exchange.metadata.verification.numerics

    def _own_folder(self) -> Path | None:
        """Return the folder that the user chose; None: none, or the project reads none."""
        folder = self._journal.own_folder(self.id)
        return Path(folder) if folder else None

    def _keyring(self) -> Keyring:
        """Return the keys that the files of a private project are sealed with."""
        reading = self._exchange.reading
        return {} if reading is None else reading.keyring

    # -- turns ------------------------------------------------------------------------------

    async def next_unit(self, runtime: Runtime, *, alone: bool) -> FetchedUnit | None:
        """Do the network work before a unit; return one that can be computed, if there is one.

        `alone`: no other project waits, so the coordinator may hold the request.

        Raises:
            NumericsUnavailable: this PC cannot compute as the project demands.
            PlebError: nothing is lost; the turn may be taken again later.
        """
        await self.settle()
        self._end_held()
        if reason := runtime.lacks(self.numerics):
            raise NumericsUnavailable(reason)
        await self.own.refresh(self._exchange.metadata)
        received = self.received()
        if received:
            row = received[0]
            end = self._end_before_start(row)
            if end is None:
                try:
                    return FetchedUnit(row, await self.fetch(row))
                except (TrustError, CacheFullError) as error:
                    end = row.giving_back(str(error))
                except Refusal as refusal:
                    if refusal.code is not RefusalCode.UNKNOWN_BLOB:
                        raise
                    end = row.giving_back(f"A file of the unit is missing: {refusal}")
            self.keep(end)
        await self._report_and_ask(runtime, alone=alone, asks=True)
        return None

    def next_unit_offline(self) -> FetchedUnit | None:
        """Return a unit that can be computed without the network, if there is one."""
        try:
            self._exchange.load_metadata()
        except TrustError:  # newer metadata is needed
            return None
        self._end_held()
        for row in self.received():
            end = self._end_before_start(row)
            if end is None:
                try:
                    files = self.files.cached_unit(row.manifest, self._exchange.metadata)
                except TrustError as error:
                    end = row.giving_back(str(error))
                else:
                    if files is not None:
                        return FetchedUnit(row, files)
            if end is not None:
                self.keep(end)
        return None

    def keep(self, end: UnitEnd) -> None:
        """Keep how a unit ended until it is reported; a late one is not."""
        if isinstance(end, AssignmentRow):
            self._results[end.id] = end
            return
        self._exchange.settle(end)
        self._clean(end.row)
        _LOG.warning("late", extra={"assignment": end.row.assignment, "reason": end.note})

    async def report(self, runtime: Runtime, *, alone: bool, asks: bool) -> None:
        """Report what is computed. `asks`: for the next unit too.

        Raises:
            PlebError: nothing is lost; the turn may be taken again later.
        """
        if any(row.state is AssignmentState.COMPUTED for row in self._rows()):
            await self._report_and_ask(runtime, alone=alone, asks=asks)

    async def ask_ahead(
        self, runtime: Runtime, goes_on: Callable[[], bool]
    ) -> Sequence[AssignmentRow]:
        """Ask for the next unit while one is computed; return what came.

        `goes_on`: whether this project is next again.
        """
        if not self._wants_more() or not goes_on():
            return []
        before = {row.id for row in self.received()}
        await self._ask(Ask(runtime, max_units=1, in_hand=self._rows()))
        return [row for row in self.received() if row.id not in before]

    async def leave(self, runtime: Runtime) -> None:
        """Give back the units that are not computed, as far as the coordinator can be reached."""
        await self.settle()
        await self._uploads.cancel()
        rows = [row.giving_back("The volunteer left the project.") for row in self._to_compute()]
        if rows:
            await self._ask(Ask(runtime, reports=rows))

    def received(self) -> list[AssignmentRow]:
        """Return the units that are to be computed now, oldest first: no paused ones."""
        return [row for row in self._to_compute() if row.held is Held.NO]

    def _to_compute(self) -> list[AssignmentRow]:
        return [row for row in self._rows() if row.state is AssignmentState.RECEIVED]

    def _end_held(self) -> None:
        """End what the user has handed back, and what was paused until its lease ended."""
        for row in self._to_compute():
            if row.held is Held.HANDED_BACK:
                self.keep(row.giving_back("The volunteer handed the unit back."))
            elif row.held is Held.PAUSED and self._clock() >= row.lease_ends_at:
                late = "The lease ended while the unit was paused."
                self.keep(Change(row, AssignmentEvent.LEASE_ENDED, note=late))

    def keep_results(self) -> None:
        """Write results that no request carries yet; if that fails they stay in memory."""
        with suppress(JournalError):
            for row in list(self._results.values()):
                self._journal.save_report(row)
                del self._results[row.id]

    # -- settling, fetching, asking ---------------------------------------------------------

    async def settle(self) -> None:
        """Finish what an earlier request or process left open."""
        self._uploads.raise_failure()
        try:
            self._exchange.load_metadata()
        except TrustError:
            await self._exchange.refresh_metadata()
        async with self._lock:
            await self._settle_pending()
        self._uploads.start()

    async def fetch(self, row: AssignmentRow) -> UnitFiles:
        """Fetch a unit's files, within its lease.

        Raises:
            PlebError: as `ProjectFiles.fetch_unit`.
        """
        try:
            async with asyncio.timeout(max(0.0, row.lease_ends_at - self._clock())):
                await self._exchange.follow_key()
                return await self.files.fetch_unit(row.manifest, self._exchange.metadata)
        except TimeoutError as error:
            raise UnreachableError("The unit's files came too late for its lease.") from error
        finally:
            self._exchange.count_traffic()

    def _end_before_start(self, row: AssignmentRow) -> UnitEnd | None:
        """Return how a unit ends that is not worth starting."""
        if self._clock() >= row.lease_ends_at:
            late = "The lease ended before the unit was started."
            return Change(row, AssignmentEvent.LEASE_ENDED, note=late)
        if row.manifest.unit.epoch != self._exchange.metadata.epoch:
            ended = "The project started a new epoch before the unit was started."
            return Change(row, AssignmentEvent.LEASE_ENDED, note=ended)
        return None

    async def _report_and_ask(self, runtime: Runtime, *, alone: bool, asks: bool) -> None:
        rows = self._rows()
        reports = [row for row in rows if row.state is AssignmentState.COMPUTED]
        received = any(
            row.state is AssignmentState.RECEIVED and row.held is Held.NO for row in rows
        )
        wanted = asks and not received and self._wants_more()
        if not reports and not wanted:
            if not received:
                self._wait_for_uploads()
            return
        if not reports:
            self._loop.status.set(Activity.IDLE, "Asking for work.", project=self.name)
        ask = Ask(
            runtime,
            max_units=int(wanted),
            # A request that carries a report is answered at once, so that the report is known.
            wait_seconds=self._services.most_wait_seconds if alone and not reports else 0.0,
            in_hand=[row for row in rows if row not in reports],
            reports=reports,
        )
        began = asyncio.get_running_loop().time()
        answer = await self._ask(ask)
        # One that carried a report was not held: if no other project waits, ask again and be held.
        if wanted and not self.received() and not (reports and alone):
            self._wait_for_work(answer, asyncio.get_running_loop().time() - began)
        self._slow_down_after_failed_units(answer)

    async def _ask(self, ask: Ask) -> Answer:
        try:
            async with self._lock:
                await self._settle_pending()
                if ask.max_units and not self._wants_more():
                    ask = replace(ask, max_units=0, wait_seconds=0.0)  # another device was faster
                if self._exchange.metadata.data.own is not None:
                    ask = replace(ask, has_own_data=self.own.is_ready)
                ask = replace(ask, sharing=self.files.sharing)
                holds, received = self.files.held(LIMITS.held_blobs), self.files.take_received()
                self._count_received(received)
                request = self._exchange.write(ask, holds, received)
                for row in ask.reports:  # the journal has them now
                    self._results.pop(row.id, None)
                with self._loop.budget.asking(request.max_units):
                    answer = await self._exchange.send(request)
        except (PlebError, asyncio.CancelledError):
            self.keep_results()
            raise
        self._take(answer)
        return answer

    async def _settle_pending(self) -> None:
        answer = await self._exchange.resend()
        if answer is not None:
            self._take(answer)

    def _take(self, answer: Answer) -> None:
        """Do what follows from an answer, which the journal has already."""
        self._failures = 0
        self.problem, self._told = self._copied or self.own.problem, ""
        self._exchange.count_traffic()
        self.files.take_key(answer.lan_key, answer.key_number)
        self.files.take_peers(answer.peers, answer.reached)
        for change in answer.changes:
            state = change.state
            _LOG.info(
                "report", extra={"project": self.name, "id": change.row.id, "state": state.value}
            )
            if state is not AssignmentState.UPLOADING:
                self._clean(change.row)
                self._count(state)
        if answer.changes:
            self._uploads.start()

    def _rows(self) -> list[AssignmentRow]:
        """Return the project's open assignments with their results, oldest first."""
        rows = self._journal.open_assignments(self.id)
        return [
            self._results.get(row.id, row) if row.state is AssignmentState.RECEIVED else row
            for row in rows
        ]

    def _wants_more(self) -> bool:
        """Whether one more unit is wanted, besides those that are under way.

        Of other devices a unit counts until its lease ends: one may be off, or gone. Of this
        device's other projects one that is in hand does not: its files may never come.
        """
        if self._rests:
            return False
        if self._loop.budget.most is None:
            return self._loop.budget.wants_more(0)
        now = self._clock()
        under_way = sum(not row.is_failure for row in self._rows())
        ours = {row.id for row in self._journal.projects(self._services.device)}
        under_way += sum(
            row.state is AssignmentState.UPLOADING
            or (row.project not in ours and now < row.lease_ends_at)
            for row in self._journal.open_assignments()
            if row.project != self.id and not row.is_failure
        )
        return self._loop.budget.wants_more(under_way)

    @property
    def _rests(self) -> bool:
        """Whether the user wants no new units of this project now."""
        override = self._services.read().override
        is_finishing = override.is_active(OverrideKind.FINISH, self._clock())
        return is_finishing or self._journal.project(self.id).no_new_work

    def _upload_ended(self, change: Change) -> None:
        self._clean(change.row)
        self._count(change.state)
        self._loop.network_ended.set()

    def _count(self, state: AssignmentState) -> None:
        if state is AssignmentState.DONE:
            self._loop.status.units_finished += 1
            self._failed_units = 0
        else:
            self._failed_units += 1

    def directories(self, row: AssignmentRow) -> UnitDirectories:
        """Return where the files of one of its units lie."""
        return UnitDirectories(self._services.work_dir / self.work_folder, str(row.id))

    def _count_received(self, received: Received | None) -> None:
        """Count from where the files came that the next request tells of."""
        if received is not None:
            self._journal.count(
                self.id,
                self._clock(),
                bytes_from_coordinator=received.coordinator,
                bytes_from_mirrors=received.mirrors,
                bytes_from_neighbours=received.peers,
                bytes_from_internet=received.internet,
            )

    def _clean(self, row: AssignmentRow) -> None:
        """Delete the directories of a unit that has ended."""
        self.directories(row).remove()

    # -- when to look again -----------------------------------------------------------------

    def look_now(self) -> None:
        """Look at the project at once, also before its time."""
        self.next_look_at = 0.0

    def take_turn(self) -> None:
        """The project has its turn: of those that are due it has now waited the shortest."""
        self._look_in(0.0)

    def fail(self, error: PlebError) -> None:
        """Show and remember what went wrong in a turn, and when to try again."""
        if isinstance(error, Refusal):
            self._look_for_copy(error)
        if isinstance(error, Refusal) and error.code in _FORGOTTEN and not self._failures:
            # Its outcome comes back here if it fails.
            self.start(self._enrol_again)
            return
        # Another certificate does not go away by itself: the user has to look at it.
        offline = isinstance(error, NetworkError) and not isinstance(error, WrongCertificateError)
        asked = error.retry_after_seconds if isinstance(error, NetworkError | Refusal) else None
        sentence = say("{project}: {reason}", project=self.name, reason=say(str(error)))
        told = _CLOCK if _is_of_clock(error) else str(error)
        if not self._copied and self._told != told:  # the first of its kind, not every retry
            self._told = told
            passes = offline or (isinstance(error, Refusal) and error.code in MAY_SUCCEED_LATER)
            kind = EventKind.OFFLINE if passes else EventKind.PROBLEM
            self._loop.history.note(kind, sentence, self.name)
        self._failures += 1
        self.problem = self._copied or str(error)
        delay = _AGAIN.delay_seconds(self._failures, self._services.draw(), asked)
        self._look_in(delay)
        if offline and self._failures % _FAILURES_OF_MIRRORS == 0:
            self.start(self._look_at_mirrors)
        activity = Activity.OFFLINE if offline else Activity.PROBLEM
        self._loop.status.set(activity, say(str(error)), self._clock() + delay, self.name)
        _LOG.warning("problem", extra={"project": self.name, "problem": str(error), "delay": delay})

    def _look_for_copy(self, refusal: Refusal) -> None:
        """Tell from a refusal whether another PC uses our keys: the home, or its disk, was copied.

        We number our requests, so the coordinator knows a number that is not ours only if somebody
        else signs with our key, or if our home is older than it was. The latter is over once we
        have enrolled again, so only what comes after that counts, and only the second time.
        """
        codes = {RefusalCode.SEQUENCE_REUSED, RefusalCode.STALE_SEQUENCE}
        if refusal.code not in codes or self._copied:
            return
        self._strangers += 1
        if self._strangers <= _OLD_HOME:
            return
        self._copied = (
            f"Another PC uses the keys of this one for {self.name}: this agent's folder, or the "
            "whole disk, was copied. On one of the two run `pleb-agent detach "
            f"{self.name}` and attach it again: that one gets new keys."
        )
        self._loop.history.note(EventKind.PROBLEM, say(self._copied), self.name)

    async def _enrol_again(self) -> None:
        self._failures += 1  # if that is refused too, it is a problem like any other
        await self._exchange.enrol_again()

    async def _look_at_mirrors(self) -> None:
        if await self._exchange.look_at_mirrors():
            self.look_now()

    def _wait_for_work(self, answer: Answer, took_seconds: float) -> None:
        reason = (
            say_reason(answer.no_work.reason)
            if answer.no_work
            else say("The project has no work right now.")
        )
        if self.own.problem:
            reason = say(self.own.problem)
        wait = answer.no_work.retry_after_seconds if answer.no_work else 0.0
        if took_seconds < _QUICK_ANSWER_SECONDS:
            wait = max(wait, _QUICK_ANSWER_SECONDS)
        self._look_in(wait * (1 + 0.1 * self._services.draw()))
        self._loop.status.set(Activity.IDLE, reason, self._clock() + wait, self.name)

    def _wait_for_uploads(self) -> None:
        """There is nothing to report and no unit wanted: what is left are uploads."""
        if any(row.state is AssignmentState.UPLOADING for row in self._rows()):
            self._look_in(_QUICK_ANSWER_SECONDS)
            self._loop.status.set(Activity.WORKING, say("The last results are being uploaded."))
        elif self._rests:  # until the user changes it, which looks at once
            self._look_in(_RESTING_SECONDS)
            self._loop.status.set(Activity.IDLE, "No new work, as you asked.", project=self.name)
        else:
            self._look_in(_QUICK_ANSWER_SECONDS)

    def _slow_down_after_failed_units(self, answer: Answer) -> None:
        """Units that fail one after the other must not become a busy loop."""
        failed = {AssignmentState.GIVEN_BACK, AssignmentState.REFUSED}
        if self._failed_units and any(change.state in failed for change in answer.changes):
            self._look_in(BACKOFF.delay_seconds(self._failed_units, self._services.draw()))

    def _look_in(self, seconds: float) -> None:
        self.next_look_at = asyncio.get_running_loop().time() + seconds

    # -- the network task -------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether the network task is running."""
        return self.task is not None and not self.task.done()

    def start(self, work: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        """Start network work, after the task that may still be running."""
        earlier = self.task

        async def run() -> T:
            if earlier is not None:
                await asyncio.wait({earlier})
            return await work()

        task = asyncio.create_task(run())
        task.add_done_callback(lambda _: self._loop.network_ended.set())
        self.task = task
        return task

    async def stop_network(self) -> None:
        """Cancel the network task and the uploads; what matters of them is in the journal."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._uploads.cancel()
        self.keep_results()

    async def close(self) -> None:
        """Stop network work, keep results, close the connection."""
        await self.stop_network()
        await self.files.close()
        await self.client.close()


def _is_of_clock(error: PlebError) -> bool:
    """Whether the clocks are too far apart; the sentence says by how much, so it always differs."""
    is_refusal = isinstance(error, Refusal) and error.code is RefusalCode.CLOCK_SKEW
    return is_refusal or isinstance(error, ClockError)
