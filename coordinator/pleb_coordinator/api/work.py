"""`POST /projects/P/work`: the busiest route. Cheap checks first, then one transaction.

    body length -> envelope -> host known, not banned -> sequence -> times -> Ed25519
    -> [host known, not banned, sequence; steps.serve: accept -> issue -> verdicts -> sign -> store]

What is in brackets commits together, in one commit with other requests of the same moment. Of a
host whose key this process has seen, nothing is read before: a fingerprint has one key for ever. A
host that can wait is served again as soon as there is work; until then its first reply is the
stored one, so a repetition after a crash gets every receipt.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from pleb_coordinator.api.known_hosts import KnownHost
from pleb_coordinator.api.requests import (
    address_of,
    check_statement,
    choose_protocol,
    read_body,
)
from pleb_coordinator.api.waiting import LONGEST_PAUSE_SECONDS
from pleb_coordinator.core.access import is_private, unknown_project
from pleb_coordinator.core.sequence import Order, check_sequence
from pleb_coordinator.core.voices import holders, network_of
from pleb_coordinator.steps.serve import Answered, Asked, serve
from pleb_coordinator.steps.tell import why_banned
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType, WorkRequest
from pleb_shared.protocol.report import DeltaResult
from pleb_shared.protocol.signing import read_envelope

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from pleb_coordinator.api.context import Api
    from pleb_coordinator.core.records import Host, Project
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["answer", "work"]

_JSON: Final = "application/json"
_BANNED_SECONDS: Final = 300.0
"""After which a banned host asks again: `host unban` should not have to wait for the ban's end."""
_FIRST_PAUSE_SECONDS: Final = 0.05
"""Between two tries of one waiting host, unless something is kept for it; each time twice as long,
up to `LONGEST_PAUSE_SECONDS`."""
_NO_HOST: Final = frozenset({
    RefusalCode.BANNED, RefusalCode.UNKNOWN_HOST, RefusalCode.UNKNOWN_PROJECT,
})  # fmt: skip


async def work(api: Api, request: Request) -> Response:
    """Answer a work request with a signed reply."""
    body = await read_body(request, LIMITS.request_bytes, api.counters)
    envelope, _, deltas = body.partition(b"\n")
    signed = read_envelope(envelope, PayloadType.WORK)
    statement = strict_json.decode(signed.payload, WorkRequest)
    if statement.project != request.path_params["project"]:
        message = f"The request is for project {statement.project!r}: send it to that one."
        raise Refusal(RefusalCode.WRONG_AUDIENCE, message)
    asked = Asked(
        request=statement,
        digest=digest_of(envelope),
        attached=_split(statement, deltas),
        protocol=choose_protocol(statement),
        network=network_of(address_of(request), api.deps.networks.own_networks),
    )
    now = api.deps.clock()
    known = api.known_hosts.find(statement.project, statement.host)
    if known is None or not _is_timely(statement, now):
        with api.store.read() as tx:
            admitted = _admit(tx, asked, now)
            if admitted.reply is not None:
                return Response(admitted.reply, media_type=_JSON)
        known = KnownHost(admitted.host.key, admitted.host.id, admitted.host.account)
    api.clock_watch.note(address_of(request), statement.issued_at, now)
    check_statement(statement, now)
    signed.verify(known.key)
    api.known_hosts.keep(statement.project, statement.host, known)
    place = (statement.project, known.id, address_of(request), statement.sharing)
    named = api.peers.near(*place)
    asked = replace(asked, peers=named.candidates, reached=named.reached)
    waits = statement.wait_seconds > 0 and statement.max_units > 0
    try:
        function = partial(answer, deps=api.deps, asked=asked, known=known)
        host, answered = await api.commits.run(function)
    except Refusal as refusal:
        if refusal.code in _NO_HOST:  # from now on that costs no signature and no transaction
            api.known_hosts.forget(statement.project, statement.host)
            api.peers.forget(statement.project, known.id)
        raise
    if not answered.repeated:
        api.peers.seen(*place, answered.members_keys)
    if waits and not answered.is_worth_sending and not answered.repeated:
        answered = await _wait(api, request, asked, answered, host)
    api.counters.units_issued += len(answered.manifests)
    api.counters.reports += len(answered.receipts)
    return Response(answered.reply, media_type=_JSON)


@dataclass(frozen=True)
class _Admitted:
    """A request that may be answered."""

    host: Host
    reply: bytes | None = None
    """What it was answered with before; None: it is new."""


def _admit(tx: Transaction, asked: Asked, now: float) -> _Admitted:
    """Check what costs little: who asks, and in which order.

    Raises:
        Refusal: `unknown_project`, `unknown_host`, `banned`, `stale_sequence`, `sequence_reused`.
    """
    tx.expect_request(asked.request.project, asked.request.host)
    project = tx.projects.find(asked.request.project)
    host = _host_of(tx, project, asked.request.host)
    if host.banned_until > now:
        wait = min(host.banned_until - now, _BANNED_SECONDS)
        message = why_banned(tx, project, host)
        raise Refusal(RefusalCode.BANNED, message, retry_after_seconds=wait)
    last = (host.sequence, host.request_digest)
    if check_sequence(*last, asked.request.sequence, asked.digest) is Order.REPEATED:
        return _Admitted(host, tx.hosts.reply(host.id))
    return _Admitted(host)


def _is_timely(statement: WorkRequest, now: float) -> bool:
    """Whether `check_statement` lets it pass; a late one may still be a repetition."""
    try:
        check_statement(statement, now)
    except Refusal:
        return False
    return True


def answer(tx: Transaction, deps: Deps, asked: Asked, known: KnownHost) -> tuple[Host, Answered]:
    """Answer a request whose signature is good; return its host, too."""
    if not asked.request.reports:
        shares = holders(known.account, asked.network)
        tx.expect_issue(asked.request.project, known.id, shares)
    admitted = _admit(tx, asked, deps.clock())
    if admitted.reply is not None:
        return admitted.host, Answered(admitted.reply, repeated=True)
    return admitted.host, serve(tx, deps, asked)


def _host_of(tx: Transaction, project: Project, fingerprint: str) -> Host:
    """Return the host; a stranger hears of a private project what it would hear of none."""
    try:
        return tx.hosts.find_of(project.name, fingerprint)
    except Refusal as refusal:
        if is_private(project):
            raise unknown_project(project.name) from refusal
        raise


def _split(statement: WorkRequest, deltas: bytes) -> list[bytes]:
    """Return the attached deltas one by one; their reports say how long each is."""
    sizes = [
        report.result.size
        for report in statement.reports
        if isinstance(report.result, DeltaResult) and report.result.attached
    ]
    if any(size > LIMITS.attached_delta_bytes for size in sizes):
        most = LIMITS.attached_delta_bytes
        message = f"A delta of more than {most} bytes is uploaded, not attached."
        raise Refusal(RefusalCode.MALFORMED, message)
    if sum(sizes) != len(deltas):
        message = f"{len(deltas)} bytes are attached; the reports announce {sum(sizes)}."
        raise Refusal(RefusalCode.MALFORMED, message)
    parts, start = [], 0
    for size in sizes:
        parts.append(deltas[start : start + size])
        start += size
    return parts


async def _wait(
    api: Api, request: Request, asked: Asked, answered: Answered, host: Host
) -> Answered:
    """Hold the request until there is work, its time is over, or its sender has gone."""
    with api.changes.place() as has_place:
        if not has_place:
            return answered
        gone = asyncio.create_task(_disconnected(request))
        try:
            return await _tries(api, asked, answered, host, gone.done)
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone


async def _tries(
    api: Api, asked: Asked, answered: Answered, host: Host, gone: Callable[[], bool]
) -> Answered:
    """Try when there is something that the host might get, after failures ever less often."""
    loop = asyncio.get_running_loop()
    end, project = loop.time() + asked.request.wait_seconds, asked.request.project
    pause, patience = _FIRST_PAUSE_SECONDS, 0.0
    while (left := end - loop.time()) > 0:
        seconds = min(left, patience or LONGEST_PAUSE_SECONDS)
        chance = await api.waiters.chance(project, host, seconds, patient=patience > 0)
        patience = 0.0
        if gone() or api.closing.is_set():
            break
        if not chance:
            continue
        again = partial(serve, deps=api.deps, asked=asked, before=answered)
        answered = await api.commits.run(again)
        if answered.is_worth_sending:
            break
        patience, pause = pause, min(LONGEST_PAUSE_SECONDS, 2 * pause)
    return answered


async def _disconnected(request: Request) -> None:
    """Return when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
