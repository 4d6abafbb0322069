"""`POST /projects/P/work`: the hot path. Cheap checks before dear ones, then one transaction.

    body length -> envelope -> host known, not banned -> sequence -> times -> Ed25519
    -> [accept reports -> issue units -> tell verdicts -> sign -> remember the reply]

What stands in brackets commits together, shared with other requests of the same moment. A
request that may wait is answered in the same way as soon as there is work; until then its
first reply is the stored one, so a repetition after a crash gets every receipt.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from pleb_coordinator.api.requests import (
    address_of,
    check_statement,
    choose_protocol,
    read_body,
)
from pleb_coordinator.core.assignment import network_of
from pleb_coordinator.core.records import Purpose
from pleb_coordinator.core.sequence import Order, check_sequence
from pleb_coordinator.steps.accept import accept_reports
from pleb_coordinator.steps.issue import issue_work
from pleb_coordinator.steps.tell import take_verdicts
from pleb_coordinator.store.interface import Seen, Transaction
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import NoWork, PayloadType, WorkReply, WorkRequest
from pleb_shared.protocol.report import DeltaResult
from pleb_shared.protocol.signing import peek_payload, sign_payload, verify_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from pleb_coordinator.api.context import Api
    from pleb_coordinator.core.records import Host, Project
    from pleb_shared.protocol.manifest import Manifest
    from pleb_shared.protocol.messages import Receipt, UnitVerdict

__all__ = ["work"]

_JSON: Final = "application/json"
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 2.0
"""Between two tries of one waiting host, however often the store changes."""


@dataclass(frozen=True)
class _Asked:
    """A work request whose form and addressee are right."""

    request: WorkRequest
    envelope: bytes
    digest: str
    attached: list[bytes]
    protocol: int
    network: str


@dataclass(frozen=True)
class _Answered:
    """A reply as it was stored, and what a later one to the same request repeats."""

    reply: bytes
    manifests: Sequence[Manifest]
    receipts: Sequence[Receipt]
    verdicts: Sequence[UnitVerdict]


async def work(api: Api, request: Request) -> Response:
    """Answer a work request with a signed reply."""
    body = await read_body(request, LIMITS.request_bytes, api.counters)
    asked = _read(body, request)
    now = api.deps.clock()
    with api.store.read() as tx:
        project = tx.projects.find(asked.request.project)
        host = tx.hosts.find(project.id, asked.request.host)
        _check_not_banned(host, now)
        order = _order(host, asked)
        if order is Order.REPEATED:
            return Response(tx.hosts.reply(host.id), media_type=_JSON)
    check_statement(asked.request, now)
    verify_bytes(asked.envelope, PayloadType.WORK, host.key)
    waits = asked.request.wait_seconds > 0 and asked.request.max_units > 0
    seen = api.changes.now() if waits else 0
    answered = await api.commits.run(lambda tx: _serve(tx, api, asked))
    if waits and not answered.manifests:
        answered = await _wait(api, request, asked, answered, seen)
    api.counters.units_issued += len(answered.manifests)
    api.counters.reports += len(answered.receipts)
    return Response(answered.reply, media_type=_JSON)


def _read(body: bytes, request: Request) -> _Asked:
    """Return the request and its attached deltas; no signature is checked yet."""
    envelope, _, rest = body.partition(b"\n")
    payload = peek_payload(envelope, PayloadType.WORK)
    statement = strict_json.decode(payload, WorkRequest)
    if statement.project != request.path_params["project"]:
        message = f"The request is for project {statement.project!r}: send it to that one."
        raise Refusal(RefusalCode.WRONG_AUDIENCE, message)
    return _Asked(
        request=statement,
        envelope=envelope,
        digest=digest_of(envelope),
        attached=_parts(statement, rest),
        protocol=choose_protocol(statement),
        network=network_of(address_of(request)),
    )


def _parts(statement: WorkRequest, rest: bytes) -> list[bytes]:
    """Cut the attached deltas apart, by the sizes that their reports tell."""
    sizes = [
        report.result.size
        for report in statement.reports
        if isinstance(report.result, DeltaResult) and report.result.attached
    ]
    if any(size > LIMITS.attached_delta_bytes for size in sizes):
        most = LIMITS.attached_delta_bytes
        message = f"A delta of more than {most} bytes is uploaded, not attached."
        raise Refusal(RefusalCode.MALFORMED, message)
    if sum(sizes) != len(rest):
        message = f"{len(rest)} bytes are attached; the reports announce {sum(sizes)}."
        raise Refusal(RefusalCode.MALFORMED, message)
    parts, start = [], 0
    for size in sizes:
        parts.append(rest[start : start + size])
        start += size
    return parts


def _check_not_banned(host: Host, now: float) -> None:
    if host.banned_until > now:
        message = f"This host is banned: {host.ban_reason}. Ask the project's operator."
        wait = min(host.banned_until - now, 7 * 24 * 3600)
        raise Refusal(RefusalCode.BANNED, message, retry_after_seconds=wait)


def _order(host: Host, asked: _Asked) -> Order:
    return check_sequence(host.sequence, host.request_digest, asked.request.sequence, asked.digest)


def _serve(tx: Transaction, api: Api, asked: _Asked) -> _Answered:
    """Do what the request asks for, in the caller's transaction."""
    project = tx.projects.find(asked.request.project)
    host = tx.hosts.find(project.id, asked.request.host)
    if _order(host, asked) is Order.REPEATED:  # the same bytes came twice at the same moment
        return _Answered(tx.hosts.reply(host.id), (), (), ())
    reports = asked.request.reports
    receipts = (
        accept_reports(tx, api.deps, project, host, reports, asked.attached) if reports else []
    )
    manifests, no_work = issue_work(tx, api.deps, project, host, asked.request)
    verdicts = take_verdicts(tx, host)
    reply = _sign(api, asked, project, (manifests, receipts, verdicts), no_work)
    _remember(tx, api, asked, host, reply)
    return _Answered(reply, manifests, receipts, verdicts)


def _serve_again(tx: Transaction, api: Api, asked: _Asked, before: _Answered) -> _Answered:
    """Look for work once more; the reply takes the place of the one before."""
    project = tx.projects.find(asked.request.project)
    host = tx.hosts.find(project.id, asked.request.host)
    if (host.sequence, host.request_digest) != (asked.request.sequence, asked.digest):
        return before  # the host has asked anew meanwhile
    manifests, no_work = issue_work(tx, api.deps, project, host, asked.request)
    if not manifests:
        return before
    verdicts = [*before.verdicts, *take_verdicts(tx, host)]
    reply = _sign(api, asked, project, (manifests, before.receipts, verdicts), no_work)
    _remember(tx, api, asked, host, reply)
    return _Answered(reply, manifests, before.receipts, verdicts)


def _sign(
    api: Api,
    asked: _Asked,
    project: Project,
    content: tuple[Sequence[Manifest], Sequence[Receipt], Sequence[UnitVerdict]],
    no_work: NoWork | None,
) -> bytes:
    now = int(api.deps.clock())
    manifests, receipts, verdicts = content
    reply = WorkReply(
        protocol=asked.protocol,
        project=project.name,
        host=asked.request.host,
        in_reply_to=asked.request.sequence,
        issued_at=now,
        expires_at=now + LIMITS.request_lifetime_seconds,
        metadata_number=project.metadata_number,
        epoch=project.epoch,
        latest_version=project.version,
        manifests=list(manifests),
        receipts=list(receipts),
        verdicts=list(verdicts),
        no_work=no_work,
    )
    return sign_payload(strict_json.encode(reply), PayloadType.WORK_REPLY, api.online_key)


def _remember(tx: Transaction, api: Api, asked: _Asked, host: Host, reply: bytes) -> None:
    request = asked.request
    seen = Seen(
        sequence=request.sequence,
        request_digest=asked.digest,
        reply=reply,
        network=asked.network,
        agent=request.agent,
        at=api.deps.clock(),
        asked=request.max_units > 0,
    )
    tx.hosts.saw(host.id, seen)


async def _wait(
    api: Api, request: Request, asked: _Asked, answered: _Answered, seen: int
) -> _Answered:
    """Hold the request until there is work, its time is over, or its sender has gone."""
    with api.changes.place() as has_place:
        if not has_place:
            return answered
        gone = asyncio.create_task(_disconnected(request))
        try:
            return await _tries(api, asked, answered, seen, gone.done)
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone


async def _tries(
    api: Api, asked: _Asked, answered: _Answered, seen: int, gone: Callable[[], bool]
) -> _Answered:
    """Look for work after each change, ever less often."""
    loop = asyncio.get_running_loop()
    end = loop.time() + asked.request.wait_seconds
    pause = _FIRST_PAUSE_SECONDS
    while (left := end - loop.time()) > 0:
        # Some work becomes free by time alone: a replica that trusted hosts may take from now on.
        await api.changes.after(seen, min(left, _LONGEST_PAUSE_SECONDS))
        if gone() or api.closing.is_set():
            break
        seen = api.changes.now()
        if not _any_unsent(api, asked):
            continue
        before = answered
        answered = await api.commits.run(partial(_serve_again, api=api, asked=asked, before=before))
        if answered.manifests:
            break
        await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
        pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)
    return answered


def _any_unsent(api: Api, asked: _Asked) -> bool:
    """Whether the project has anything to give out: looking costs less than trying."""
    with api.store.read() as tx:
        project = tx.projects.find(asked.request.project).id
        return any(tx.assignments.unsent(project, purpose) for purpose in Purpose)


async def _disconnected(request: Request) -> None:
    """Return when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
