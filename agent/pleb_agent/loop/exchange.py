"""One work request and its answer: written before it is sent, sent again byte for byte if lost."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent import AGENT
from pleb_agent.core.agent_state import AssignmentEvent, AssignmentState, next_state
from pleb_agent.core.history import ended_event, verdict_events
from pleb_agent.core.trust import StaleMetadataError
from pleb_agent.journal.rows import AssignmentRow, NewAssignment, RequestRow, Settled
from pleb_agent.loop.compute import failed_row
from pleb_agent.worker.plain_files import read_plain
from pleb_shared.errors import Refusal, RefusalCode, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.messages import (
    NoWork,
    PayloadType,
    Receipt,
    ReceiptOutcome,
    Runtime,
    WorkReply,
    WorkRequest,
)
from pleb_shared.protocol.report import DeltaResult, FailureResult, Report
from pleb_shared.protocol.signing import peek_payload, sign_payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.core.history import Event
    from pleb_agent.journal.journal import Journal
    from pleb_agent.loop.ports import Clock
    from pleb_agent.loop.session import Session
    from pleb_shared.protocol.messages import UnitVerdict

__all__ = ["Answer", "Ask", "Exchange"]

_LOG: Final = logging.getLogger("pleb.agent")
_MAY_PASS: Final = frozenset(
    {RefusalCode.RATE_LIMITED, RefusalCode.INTERNAL, RefusalCode.STORAGE_FULL}
)
"""Refusals after which the same bytes may be taken later."""


@dataclass(frozen=True)
class Ask:
    """What a request asks for and carries."""

    runtime: Runtime
    max_units: int
    wait_seconds: float = 0.0
    holds: Sequence[str] = ()
    in_hand: Sequence[int] = ()
    computed: Sequence[AssignmentRow] = ()


@dataclass(frozen=True)
class Answer:
    """What came of it, in the journal already."""

    units: Sequence[AssignmentRow]
    settled: Sequence[Settled]
    no_work: NoWork | None
    events: Sequence[Event] = ()


class Exchange:
    """Work requests of one project."""

    def __init__(self, session: Session, journal: Journal, clock: Clock) -> None:
        self._session = session
        self._journal = journal
        self._clock = clock

    async def settle_pending(self) -> Answer | None:
        """Send a request whose answer is not known once more; None if there is no such one.

        One that is too old for any coordinator is dropped: its reports go with the next request,
        and units that its answer brought come again because we don't name them as in hand.
        """
        async with self._session.lock:
            return await self._settle_pending()

    async def ask(self, ask: Ask) -> Answer:
        """Send a new request.

        Raises:
            NetworkError: the answer is not known; `settle_pending` finds out later.
            Refusal: it was not taken.
            TrustError: the answer may not be obeyed.
        """
        async with self._session.lock:
            earlier = await self._settle_pending()
            computed, deltas = _readable(ask.computed)
            request = self._request(ask, computed, deltas)
            self._journal.write_request(request, computed)
            answer = await self._send(request, lease_from=None)
        if earlier is None:
            return answer
        return Answer(
            [*earlier.units, *answer.units],
            [*earlier.settled, *answer.settled],
            answer.no_work,
            [*earlier.events, *answer.events],
        )

    async def _settle_pending(self) -> Answer | None:
        pending = self._journal.pending_request(self._session.project)
        if pending is None:
            return None
        if self._clock() > pending.expires_at + LIMITS.clock_tolerance_seconds:
            self._journal.drop_request(pending)
            return None
        written_at = pending.expires_at - LIMITS.request_lifetime_seconds
        try:
            return await self._send(pending, lease_from=written_at)
        except TrustError as error:  # an old answer: metadata or version went on meanwhile
            _LOG.warning("trust", extra={"project": self._session.name, "problem": str(error)})
            self._journal.drop_request(pending)
            return None

    def _request(
        self, ask: Ask, computed: Sequence[AssignmentRow], deltas: Sequence[bytes]
    ) -> RequestRow:
        now = int(self._clock())
        session = self._session
        sequence = self._journal.project(session.project).sequence + 1
        statement = WorkRequest(
            protocols=list(PROTOCOLS),
            project=session.name,
            host=session.trust.host,
            sequence=sequence,
            issued_at=now,
            expires_at=now + LIMITS.request_lifetime_seconds,
            agent=AGENT,
            runtime=ask.runtime,
            max_units=ask.max_units,
            wait_seconds=ask.wait_seconds,
            holds=list(ask.holds)[: LIMITS.held_blobs],
            in_hand=list(ask.in_hand)[: LIMITS.units_per_request],
            reports=[msgspec.json.decode(row.report, type=Report) for row in computed],
        )
        envelope = sign_payload(strict_json.encode(statement), PayloadType.WORK, session.host_key)
        return RequestRow(
            project=session.project,
            sequence=sequence,
            body=b"\n".join([envelope, b"".join(deltas)]),
            reported=tuple(row.id for row in computed),
            wait_seconds=ask.wait_seconds,
            expires_at=statement.expires_at,
        )

    async def _send(self, request: RequestRow, *, lease_from: float | None) -> Answer:
        session = self._session
        try:
            data = await session.client.work(
                session.name, request.body, wait_seconds=request.wait_seconds
            )
        except Refusal as refusal:
            if refusal.code not in _MAY_PASS:
                self._journal.drop_request(request)
            raise
        rows = [
            row
            for row in self._journal.open_assignments(session.project)
            if row.id in request.reported
        ]
        reply = await self._verified(data, request, [row.assignment for row in rows])
        now = self._clock()
        begins = now if lease_from is None else lease_from
        settled = [self._with_samples(one, rows) for one in _settle(rows, reply.receipts)]
        units, events = self._journal.settle_request(
            request,
            session.trust.memory,
            settled=settled,
            units=[NewAssignment(m, data, begins + m.lease_seconds) for m in reply.manifests],
            verdicts=reply.verdicts,
            events=self._events(rows, settled, reply.verdicts, now),
            now=now,
        )
        session.succeeded()
        for unit in units:
            _LOG.info("issue", extra={"project": session.name, "assignment": unit.assignment})
        return Answer(units, settled, reply.no_work, events)

    def _with_samples(self, settled: Settled, rows: Sequence[AssignmentRow]) -> Settled:
        unit = next(row.manifest.unit for row in rows if row.id == settled.id)
        return replace(settled, samples=self._session.samples_of(unit))

    def _events(
        self,
        rows: Sequence[AssignmentRow],
        settled: Sequence[Settled],
        verdicts: Sequence[UnitVerdict],
        now: float,
    ) -> list[Event]:
        name = self._session.name
        numbers = {row.id: row for row in rows}
        events = [
            event
            for one in settled
            for event in ended_event(
                one.state,
                name,
                numbers[one.id].assignment,
                one.note or numbers[one.id].note,
                now,
            )
        ]
        any_before = self._journal.totals().get("accepted", 0) > 0 if verdicts else False
        return events + verdict_events(name, verdicts, now, any_before=any_before)

    async def _verified(
        self, data: bytes, request: RequestRow, reported: Sequence[int]
    ) -> WorkReply:
        """Verify; if that fails, once more with the newest metadata (a new key, a new number)."""
        try:
            return self._verify(data, request, reported)
        except TrustError as error:
            newer = await self._session.refresh_metadata(self._journal, self._clock)
            if not newer and not isinstance(error, StaleMetadataError):
                raise
        return self._verify(data, request, reported)

    def _verify(self, data: bytes, request: RequestRow, reported: Sequence[int]) -> WorkReply:
        return self._session.trust.work_reply(
            data,
            self._clock(),
            sequence=request.sequence,
            reported=reported,
            most_units=_most_units(request),
            is_spent=lambda nonce: self._journal.is_spent(self._session.project, nonce),
        )


def _most_units(request: RequestRow) -> int:
    """Return how many units our own request asked for."""
    payload = peek_payload(request.body.partition(b"\n")[0], PayloadType.WORK)
    return msgspec.json.decode(payload, type=WorkRequest).max_units


def _readable(rows: Sequence[AssignmentRow]) -> tuple[list[AssignmentRow], list[bytes]]:
    """Return the rows, and the bytes of those deltas that travel with their reports.

    A row whose delta is gone, or is not the worker's own file any more, comes back as failed:
    the unit goes to somebody else, and we do not stumble over it for ever.
    """
    checked, deltas = [], []
    for row in rows:
        result = msgspec.json.decode(row.report, type=Report).result
        if not isinstance(result, DeltaResult) or not result.attached:
            checked.append(row)
            continue
        try:
            deltas.append(read_plain(Path(row.delta_file), result.size))
            checked.append(row)
        except OSError as error:
            checked.append(failed_row(row, f"The delta cannot be read: {error.strerror}."))
    return checked, deltas


def _settle(rows: Sequence[AssignmentRow], receipts: Sequence[Receipt]) -> list[Settled]:
    by_assignment = {receipt.assignment: receipt for receipt in receipts}
    return [_settled(row, by_assignment[row.assignment]) for row in rows]


def _settled(row: AssignmentRow, receipt: Receipt) -> Settled:
    event = _event(row, receipt)
    state = next_state(row.state, event)
    upload = receipt.upload or "" if state is AssignmentState.UPLOADING else ""
    return Settled(row.id, state, upload, receipt.message)


def _event(row: AssignmentRow, receipt: Receipt) -> AssignmentEvent:
    report = msgspec.json.decode(row.report, type=Report)
    if isinstance(report.result, FailureResult):
        return AssignmentEvent.RECEIPT_GIVEN_BACK
    if receipt.outcome is ReceiptOutcome.UPLOAD and receipt.upload:
        return AssignmentEvent.RECEIPT_UPLOAD
    if receipt.outcome in {ReceiptOutcome.STORED, ReceiptOutcome.UNNEEDED}:
        return AssignmentEvent.RECEIPT_STORED
    if receipt.code is RefusalCode.ALREADY_REPORTED:
        return AssignmentEvent.RECEIPT_STORED  # the answer to the first report was lost
    if receipt.code is RefusalCode.LEASE_EXPIRED:
        return AssignmentEvent.LEASE_ENDED
    return AssignmentEvent.RECEIPT_REFUSED
