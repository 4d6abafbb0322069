"""Work requests: written before they are sent, sent again byte for byte if the answer is lost."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent import AGENT
from pleb_agent.core.agent_state import AssignmentEvent
from pleb_agent.core.history import EventKind, ended_event, verdict_events
from pleb_agent.core.readiness import seconds_allowed
from pleb_agent.core.sentence import say
from pleb_agent.core.trust import (
    OlderMetadataError,
    StaleMetadataError,
    TrustedProject,
    may_lead_to,
    mirrors_of,
    moved_link,
)
from pleb_agent.journal.rows import AssignmentRow, Change, RequestRow
from pleb_agent.loop.attach import enrol_request, reading_in
from pleb_agent.worker.plain_files import read_plain
from pleb_shared.errors import PlebError, Refusal, RefusalCode, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.messages import (
    NoWork,
    PayloadType,
    Receipt,
    ReceiptOutcome,
    Received,
    Runtime,
    WorkReply,
    WorkRequest,
)
from pleb_shared.protocol.reasons import ReasonCode
from pleb_shared.protocol.sealing import Box
from pleb_shared.protocol.signing import sign_payload
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.client.coordinator import CoordinatorClient
    from pleb_agent.core.history import Event
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.status import LoopState
    from pleb_shared.protocol.lan import LanKey
    from pleb_shared.protocol.peers import Peer, Sharing
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.signing import SigningKey
    from pleb_shared.protocol.unit import Unit

__all__ = ["MAY_SUCCEED_LATER", "Answer", "Ask", "Exchange"]

_SAID: Final = 200
"""Characters of a reason that the coordinator is told."""
_LOG: Final = logging.getLogger("pleb.agent")
MAY_SUCCEED_LATER: Final = frozenset(
    {RefusalCode.RATE_LIMITED, RefusalCode.INTERNAL, RefusalCode.STORAGE_FULL}
)
"""Refusals after which the same bytes may be accepted later."""


@dataclass(frozen=True)
class Ask:
    """What a request asks for and carries. `in_hand`: assignments that are not to be repeated."""

    runtime: Runtime
    max_units: int = 0
    wait_seconds: float = 0.0
    in_hand: Sequence[AssignmentRow] = ()
    reports: Sequence[AssignmentRow] = ()
    has_own_data: bool = False
    sharing: Sharing | None = None


@dataclass(frozen=True)
class Answer:
    """What came of a request; the journal has it already."""

    changes: Sequence[Change]
    no_work: NoWork | None
    lan_key: LanKey | None = None
    key_number: int = 0
    """Of a private project's newest key."""
    peers: Sequence[Peer] = ()
    """Hosts that share on the internet, as this one does."""
    reached: str | None = None
    """The address at which the coordinator reached this host; empty: it could not."""


class Exchange:
    """What goes between this host and one project's coordinator: verified, signed, journalled.

    The caller sends one request at a time, so that sequence numbers go out in order.
    """

    def __init__(
        self,
        row: ProjectRow,
        host_key: SigningKey,
        client: CoordinatorClient,
        loop: LoopState,
    ) -> None:
        self.project = row.id
        self.name = row.name
        self.client = client
        self._host_key = host_key
        self.trust = TrustedProject(row.name, row.attach_link.root, row.host, row.memory)
        self._services = loop.services
        self._journal = loop.services.journal
        self._clock = loop.services.clock
        self._history = loop.history
        self._key_file = row.host_key_file
        self.reading = loop.services.keys.reading(row.host_key_file)
        """By what this host reads a private project; None: it is public."""
        self._newest_key = 0
        """The number of the project's newest key, as the coordinator said last."""
        if self.reading is not None:
            client.read_as(self.reading.reader)
        self._refuses = ""
        """Why the last answer was refused; the coordinator is told, so that its operator is."""

    @property
    def metadata(self) -> ProjectMetadata:
        """The newest accepted metadata."""
        return self.trust.metadata

    @property
    def bucket(self) -> str:
        """The address where large results may go; empty: to the coordinator."""
        address = self.metadata.uploads if self.trust.is_loaded else ""
        return address if may_lead_to(self.client.base_url, address) else ""

    def load_metadata(self) -> None:
        """Accept the metadata in the journal, unless that was done.

        Raises:
            TrustError: its delegation has expired; newer metadata is needed.
        """
        if not self.trust.is_loaded:
            row = self._journal.project(self.project)
            self.trust.update_metadata(row.metadata, self._clock())

    async def refresh_metadata(self) -> bool:
        """Fetch the newest metadata from the coordinator; return whether it is new.

        A coordinator that was restored from a backup may have older ones than we: it gets ours.
        """
        before = self.trust.memory.metadata_number
        envelope = await self.client.metadata(self.name)
        try:
            self.trust.update_metadata(envelope, self._clock())
        except OlderMetadataError:
            ours = self._journal.project(self.project).metadata
            await self.client.hand_in_metadata(self.name, ours)
            envelope = await self.client.metadata(self.name)
            self.trust.update_metadata(envelope, self._clock())
        return self._accepted(envelope, before)

    async def look_at_mirrors(self) -> bool:
        """Look whether mirrors have newer metadata; return whether one had.

        For when the coordinator cannot be reached: the project may have moved.
        """
        before = self.trust.memory.metadata_number
        row = self._journal.project(self.project)
        for url in mirrors_of(row.metadata):
            if not may_lead_to(row.base_url, url):
                continue
            mirror = self._services.make_client(row.attach_link.at(url, None))
            try:
                envelope = await mirror.metadata(self.name)
                self.trust.update_metadata(envelope, self._clock())
            except PlebError as error:  # it is a cache: it may be old, or away
                _LOG.info("mirror", extra={"project": self.name, "problem": str(error)})
                continue
            finally:
                await mirror.close()
            if self._accepted(envelope, before):
                return True
        return False

    def _accepted(self, envelope: bytes, before: int) -> bool:
        """Write metadata that are accepted; return whether they are newer than number `before`."""
        self._journal.set_metadata(self.project, envelope, self.trust.memory)
        row = self._journal.project(self.project)
        link = moved_link(row.attach_link, self.metadata)
        if link != row.attach_link:
            self._journal.move_project(self.project, link)
            place = link.base_url
            sentence = say("{project} has moved to {place}.", project=self.name, place=place)
            self._history.note(EventKind.ATTACH, sentence, self.name)
        return self.trust.memory.metadata_number > before

    async def follow_key(self) -> None:
        """Get a private project's newest key, if it has one that is not here.

        Raises:
            PlebError: as `enrol_again`; a member that was removed does not get it.
        """
        known = [] if self.reading is None else [key.number for key in self.reading.keys]
        if self._newest_key and self._newest_key not in known:
            await self.enrol_again()

    async def enrol_again(self) -> None:
        """Enrol with the same keys: the coordinator has forgotten us, or our sequence."""
        box = Box()
        account = self._services.keys.load(self._journal.project(self.project).account_key_file)
        request = enrol_request(
            self.name,
            self._host_key,
            account,
            self._clock(),
            invite=None,
            name="",
            seal_to=box.public,
        )
        answer = await self.client.enrol(self.name, request)
        try:
            reply = self.trust.enrol_reply(answer, self._clock())
        except TrustError:  # the online key may have changed while the coordinator forgot us
            if not await self.refresh_metadata():
                raise
            reply = self.trust.enrol_reply(answer, self._clock())
        self.reading = reading_in(self.trust, reply, box)
        if self.reading is not None:
            self._services.keys.keep_reading(self._key_file, self.reading)
            self.client.read_as(self.reading.reader)
        self._journal.raise_sequence(self.project, reply.sequence, reply.role.value)

    def samples_of(self, unit: Unit) -> int:
        """Return how many training examples a unit goes through."""
        if unit.kind is UnitKind.EVALUATE or not self.trust.is_loaded:
            return 0
        return unit.local_steps * self.metadata.training.batch_examples

    def count_traffic(self) -> None:
        """Count the bytes that went over the network since the last call."""
        received, sent = self.client.traffic.take()
        if received or sent:
            now = self._clock()
            self._journal.count(self.project, now, bytes_received=received, bytes_sent=sent)

    def settle(self, change: Change) -> None:
        """Write what happened to one assignment without a request, and report it."""
        now = self._clock()
        self._history.report(self._journal.settle(change, now, self._ended(change, now)))

    def write(self, ask: Ask, holds: Sequence[str], received: Received | None = None) -> RequestRow:
        """Sign a new request and write it to the journal, before it is sent.

        `holds`: digests of blobs that are in the cache; `received`: where blobs came from since the
        last request.
        """
        rows, deltas = _with_deltas(ask.reports)
        now = int(self._clock())
        sequence = self._journal.project(self.project).sequence + 1
        statement = WorkRequest(
            protocols=list(PROTOCOLS),
            project=self.name,
            host=self.trust.host,
            sequence=sequence,
            issued_at=now,
            expires_at=now + LIMITS.request_lifetime_seconds,
            agent=AGENT,
            runtime=ask.runtime.under(self.metadata.verification.numerics),
            max_units=ask.max_units,
            wait_seconds=ask.wait_seconds,
            holds=list(holds)[: LIMITS.held_blobs],
            in_hand=[row.assignment for row in ask.in_hand[: LIMITS.units_per_request]],
            reports=[row.report for row in rows if row.report is not None],
            refuses=self._refuses,
            free_seconds=self._free_seconds() if ask.max_units else None,
            usually_free_seconds=self._usually_free_seconds() if ask.max_units else None,
            memory_bytes=self._services.engine.memory_bytes,
            received=received,
            has_own_data=ask.has_own_data,
            sharing=ask.sharing,
        )
        envelope = sign_payload(strict_json.encode(statement), PayloadType.WORK, self._host_key)
        request = RequestRow(
            project=self.project,
            sequence=sequence,
            body=b"\n".join([envelope, b"".join(deltas)]),
            reported=tuple(row.id for row in rows),
            max_units=ask.max_units,
            wait_seconds=ask.wait_seconds,
            expires_at=statement.expires_at,
        )
        self._journal.write_request(request, rows)
        return request

    def _free_seconds(self) -> float | None:
        """Return when this PC must be done; None: it need not, or that is far away."""
        services = self._services
        seconds = seconds_allowed(services.read(), services.preferences())
        return None if seconds is None or seconds > LIMITS.free_seconds else max(0.0, seconds)

    def _usually_free_seconds(self) -> float | None:
        """Return for how long this PC usually stays free from now on; None: it is not said."""
        services = self._services
        if not services.preferences().learn_habits:
            return None
        readings = services.read()
        habits = self._journal.habits(readings.now)
        seconds = habits.usually_free_seconds(readings.now, readings.local_time.weekday)
        return None if seconds is None else min(seconds, LIMITS.free_seconds)

    async def send(self, request: RequestRow) -> Answer:
        """Send a request that was just written; verify its answer and write it.

        Raises:
            NetworkError: the answer is not known; `resend` finds out later.
            Refusal: it was refused.
            TrustError: the answer was not signed as it should be, or breaks a rule.
        """
        return await self._send(request, lease_from=None)

    async def resend(self) -> Answer | None:
        """Send a request whose answer is not known again; None if there is no such request.

        One that is too old for any coordinator is dropped: its reports go with the next request,
        and units that its answer brought come again because we don't name them as in hand.

        Raises:
            NetworkError: the answer is still not known.
            Refusal: it was refused.
        """
        pending = self._journal.pending_request(self.project)
        if pending is None:
            return None
        if self._clock() > pending.expires_at + LIMITS.clock_tolerance_seconds:
            self._journal.drop_request(pending)
            return None
        # The coordinator may have answered long ago: a lease counts from the earliest moment.
        written_at = pending.expires_at - LIMITS.request_lifetime_seconds
        try:
            return await self._send(pending, lease_from=written_at)
        except TrustError as error:  # an old answer: the project has advanced since
            _LOG.warning("trust", extra={"project": self.name, "problem": str(error)})
            self._journal.drop_request(pending)
            return None

    async def _send(self, request: RequestRow, *, lease_from: float | None) -> Answer:
        try:
            data = await self.client.work(
                self.name, request.body, wait_seconds=request.wait_seconds
            )
        except Refusal as refusal:
            if refusal.code not in MAY_SUCCEED_LATER:
                self._journal.drop_request(request)
            raise
        rows = [
            row
            for row in self._journal.open_assignments(self.project)
            if row.id in request.reported
        ]
        reply = await self._verified(data, request, [row.assignment for row in rows])
        now = self._clock()
        lease_from = now if lease_from is None else lease_from
        receipts = {receipt.assignment: receipt for receipt in reply.receipts}
        changes = [self._change(row, receipts[row.assignment]) for row in rows]
        events = [event for change in changes for event in self._ended(change, now)]
        if reply.verdicts:
            any_before = self._journal.totals().get("accepted", 0) > 0
            events += verdict_events(self.name, reply.verdicts, now, any_before=any_before)
        units, events = self._journal.settle_request(
            request, reply, lease_from=lease_from, changes=changes, events=events, now=now
        )
        for unit in units:
            _LOG.info("issue", extra={"project": self.name, "assignment": unit.assignment})
        self._history.report(events)
        if reply.no_work is not None and reply.no_work.reason.code == ReasonCode.MOVED:
            await self.refresh_metadata()
        self._newest_key = reply.key_number
        return Answer(
            changes, reply.no_work, reply.lan_key, reply.key_number, reply.peers, reply.reached
        )

    async def _verified(
        self, data: bytes, request: RequestRow, reported: Sequence[int]
    ) -> WorkReply:
        """Verify; if that fails, once more with the newest metadata (a new key, a new number)."""
        try:
            try:
                return self._verify(data, request, reported)
            except TrustError as error:
                newer = await self.refresh_metadata()
                if not newer and not isinstance(error, StaleMetadataError):
                    raise
            return self._verify(data, request, reported)
        except TrustError as error:
            self._refuses = str(error)[:_SAID]
            raise

    def _verify(self, data: bytes, request: RequestRow, reported: Sequence[int]) -> WorkReply:
        reply = self.trust.work_reply(
            data,
            self._clock(),
            sequence=request.sequence,
            reported=reported,
            most_units=request.max_units,
            is_spent=lambda nonce: self._journal.is_spent(self.project, nonce),
        )
        self._refuses = ""
        return reply

    def _change(self, row: AssignmentRow, receipt: Receipt) -> Change:
        """Return what a receipt means for the assignment that was reported."""
        upload = ""
        if row.is_failure:
            event = AssignmentEvent.RECEIPT_GIVEN_BACK
        elif receipt.outcome is ReceiptOutcome.UPLOAD and receipt.upload:
            event, upload = AssignmentEvent.RECEIPT_UPLOAD, receipt.upload
        elif (
            receipt.outcome in {ReceiptOutcome.STORED, ReceiptOutcome.UNNEEDED}
            or receipt.code is RefusalCode.ALREADY_REPORTED  # the first answer was lost
        ):
            event = AssignmentEvent.RECEIPT_STORED
        elif receipt.code in {RefusalCode.LEASE_EXPIRED, RefusalCode.EPOCH_ENDED}:
            event = AssignmentEvent.LEASE_ENDED
        else:
            event = AssignmentEvent.RECEIPT_REFUSED
        samples = self.samples_of(row.manifest.unit)
        return Change(row, event, upload=upload, note=receipt.message, samples=samples)

    def _ended(self, change: Change, now: float) -> list[Event]:
        """Return the event of an assignment that ended other than well."""
        why = change.note or change.row.note
        return ended_event(change.state, self.name, why, now)


def _with_deltas(rows: Sequence[AssignmentRow]) -> tuple[list[AssignmentRow], list[bytes]]:
    """Return the rows, and the bytes of those deltas that travel with their reports.

    A row whose delta is gone, or is not the worker's own file any more, gives its unit back, so
    that another host gets it and we do not fail over it again and again.
    """
    checked, deltas = [], []
    for row in rows:
        delta = row.delta
        if delta is not None and delta.attached:
            try:
                deltas.append(read_plain(Path(row.delta_file), delta.size))
            except OSError as error:
                checked.append(row.giving_back(f"The delta cannot be read: {error.strerror}."))
                continue
        checked.append(row)
    return checked, deltas
