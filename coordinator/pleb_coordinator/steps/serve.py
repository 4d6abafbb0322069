"""serve: answer a work request, without HTTP.

    accept reports -> collect verdicts -> issue units -> sign the reply -> store it

All of it happens in the caller's transaction, so a host never learns what is not stored. The
order matters: reports end leases and change the host's record before new units are issued, and
the signed reply is stored last, so a repetition of the request gets exactly the same bytes.

Inside, an assignment is known by its row; hosts know it by another number (`core.numbers`), which
is translated here.

The HTTP process, the tests and the benchmarks all call `serve`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from pleb_coordinator.core.peers import choose
from pleb_coordinator.core.sequence import Order, check_sequence
from pleb_coordinator.core.voices import holders
from pleb_coordinator.steps import RequestContext
from pleb_coordinator.steps.accept import accept_reports
from pleb_coordinator.steps.issue import issue_work
from pleb_coordinator.steps.tell import take_verdicts
from pleb_coordinator.store.hosts import Seen
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.lan import LanKey, lan_key, lan_period
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.messages import (
    NoWork,
    PayloadType,
    Receipt,
    UnitVerdict,
    WorkReply,
    WorkRequest,
)
from pleb_shared.protocol.reasons import ReasonCode
from pleb_shared.protocol.signing import sign_payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.core.numbers import AssignmentNumbers
    from pleb_coordinator.core.peers import Candidate
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.peers import Peer

__all__ = ["Answered", "Asked", "serve"]

Named = TypeVar("Named", Manifest, Receipt, UnitVerdict)
"""A statement about an assignment."""

_DAY_SECONDS: Final = 86_400.0
"""How often it is noted that a host is still in the same network."""


@dataclass(frozen=True)
class Asked:
    """A work request whose sender is authenticated."""

    request: WorkRequest
    digest: str
    """SHA-256 of the signed envelope: distinguishes a repetition from another request."""
    attached: Sequence[bytes]
    """The deltas that came along, in the order of the reports."""
    protocol: int
    network: str
    peers: Sequence[Candidate] = ()
    """Hosts that may be named to one that shares; those that are banned are not."""
    reached: str | None = None
    """The address at which it was reached; empty: it was not; None: that is not known."""


@dataclass(frozen=True)
class Answered:
    """A signed reply and what it says."""

    reply: bytes
    manifests: Sequence[Manifest] = ()
    receipts: Sequence[Receipt] = ()
    verdicts: Sequence[UnitVerdict] = ()
    no_work: NoWork | None = None
    repeated: bool = False
    """The request was answered before: this is the stored reply, and its content is not given."""
    members_keys: Sequence[str] = ()
    """The keys of the project's members, of today and yesterday, in hexadecimal."""

    @property
    def is_worth_sending(self) -> bool:
        """Whether a host that waits for work is told at once: of units, or where to go instead."""
        moved = self.no_work is not None and self.no_work.reason.code == ReasonCode.MOVED
        return moved or bool(self.manifests)


def serve(tx: Transaction, deps: Deps, asked: Asked, before: Answered | None = None) -> Answered:
    """Return the reply to a work request; its effects commit with the caller's transaction.

    With `before`, the answer that a waiting host has not been sent yet, only work is looked for:
    if there is some, a new reply replaces the stored one; otherwise `before` is returned.

    Raises:
        Refusal: `unknown_project`, `unknown_host`, `stale_sequence`, `sequence_reused`;
            `malformed`: the attached deltas are not as many as the reports announce. A single
            report is refused in its receipt.
    """
    request = _by_row(asked.request, deps.numbers)
    tx.expect_request(request.project, request.host)
    project = tx.projects.find(request.project)
    host = tx.hosts.find_of(request.project, request.host)
    context = RequestContext(tx, deps, project, host, deps.clock())
    receipts: Sequence[Receipt] = ()
    earlier: Sequence[UnitVerdict] = ()
    if before is not None:
        if (host.sequence, host.request_digest) != (request.sequence, asked.digest):
            return before  # the host has sent a newer request, which gets the work
        receipts, earlier = before.receipts, before.verdicts
    else:
        last = (host.sequence, host.request_digest)
        if check_sequence(*last, request.sequence, asked.digest) is Order.REPEATED:
            return Answered(tx.hosts.reply(host.id), repeated=True)
        if request.reports:
            accepted = accept_reports(context, request.reports, asked.attached)
            receipts = [_shown(receipt, deps.numbers) for receipt in accepted]
            context = replace(context, host=tx.hosts.get(host.id))
    context = replace(
        context,
        free_seconds=request.free_seconds,
        usually_free_seconds=request.usually_free_seconds,
        has_own_data=request.has_own_data,
    )
    if request.max_units:
        tx.expect_issue(project.name, host.id, holders(host.account, host.network))
    verdicts = [] if before is not None else take_verdicts(tx, host)
    issued, no_work = issue_work(context, request)
    manifests = [_shown(manifest, deps.numbers) for manifest in issued]
    if before is not None and not Answered(b"", manifests, no_work=no_work).is_worth_sending:
        return before
    if before is not None:
        verdicts = take_verdicts(tx, host)
    told = [*earlier, *(_shown(found, deps.numbers) for found in verdicts)]
    now, keys = int(context.now), _members_keys(deps, project, context.now)
    statement = WorkReply(
        protocol=asked.protocol,
        project=project.name,
        host=request.host,
        in_reply_to=request.sequence,
        issued_at=now,
        expires_at=now + LIMITS.request_lifetime_seconds,
        metadata_number=project.metadata_number,
        epoch=project.epoch,
        latest_version=project.version,
        manifests=manifests,
        receipts=list(receipts),
        verdicts=told,
        no_work=no_work,
        restored_at=project.restored_at,
        lan_key=keys[0],
        key_number=max(project.keys, default=0),
        peers=_peers(tx, asked.peers, manifests, context.now),
        reached=asked.reached,
    )
    payload = strict_json.encode(statement)
    online_key = deps.online_keys.of(project.metadata.delegation.online_key)
    reply = sign_payload(payload, PayloadType.WORK_REPLY, online_key)
    _note(context, asked, reply)
    if request.received is not None and before is None:
        tx.projects.add_received(project.id, request.received)
    known_by = [key.key for key in keys]
    return Answered(reply, manifests, receipts, told, no_work, members_keys=known_by)


def _note(context: RequestContext, asked: Asked, reply: bytes) -> None:
    """Store when and where the host was seen, and what it was answered."""
    host, request, given = context.host, asked.request, context.changes.shards
    seen = Seen(
        sequence=request.sequence,
        request_digest=asked.digest,
        reply=reply,
        network=asked.network,
        agent=request.agent,
        at=context.now,
        asked=request.max_units > 0,
        refuses=request.refuses,
        memory_bytes=request.memory_bytes,
        shards=None if given is None else " ".join(map(str, given)),
        paced_until=context.changes.paced_until,
    )
    context.tx.hosts.saw(host.id, seen)
    if (
        asked.network != host.network
        or context.now // _DAY_SECONDS != host.last_seen // _DAY_SECONDS
    ):
        context.tx.hosts.note_network(host.id, asked.network, context.now)


def _members_keys(deps: Deps, project: Project, now: float) -> list[LanKey]:
    """Return the keys by which the project's hosts know each other, of today and yesterday."""
    day, number = lan_period(now), max(project.keys, default=0)
    return [lan_key(deps.secret, project.name, one, number) for one in (day, day - 1)]


def _peers(
    tx: Transaction, candidates: Sequence[Candidate], manifests: Sequence[Manifest], now: float
) -> list[Peer]:
    """Return the hosts that share, of those that are still here and not banned."""
    shards = tx.hosts.sharing([one.host for one in candidates], now)
    return choose(candidates, shards, [manifest.unit.shards.first for manifest in manifests])


def _by_row(request: WorkRequest, numbers: AssignmentNumbers) -> WorkRequest:
    """Return the request with the rows of the assignments that it names."""
    if not request.reports and not request.in_hand:
        return request
    return msgspec.structs.replace(
        request,
        in_hand=[numbers.row(shown) for shown in request.in_hand],
        reports=[
            msgspec.structs.replace(report, assignment=numbers.row(report.assignment))
            for report in request.reports
        ],
    )


def _shown(statement: Named, numbers: AssignmentNumbers) -> Named:
    """Return the statement with the number by which its host knows the assignment."""
    shown = numbers.shown(statement.assignment)
    return msgspec.structs.replace(statement, assignment=shown)
