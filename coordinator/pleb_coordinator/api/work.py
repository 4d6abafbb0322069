"""`POST /projects/P/work`: the busiest route. Cheap checks first, then one transaction.

    body length -> envelope -> host known, not banned -> sequence -> times -> Ed25519
    -> [steps.serve: accept -> issue -> verdicts -> sign -> store]

What is in brackets commits together, in one commit with other requests of the same moment. A
host that can wait is served again as soon as there is work; until then its first reply is the
stored one, so a repetition after a crash gets every receipt.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from pleb_coordinator.api.requests import (
    address_of,
    check_statement,
    choose_protocol,
    read_body,
)
from pleb_coordinator.core.sequence import Order, check_sequence
from pleb_coordinator.core.voices import network_of
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

__all__ = ["work"]

_JSON: Final = "application/json"
_BANNED_SECONDS: Final = 300.0
"""After which a banned host asks again: `host unban` should not have to wait for the ban's end."""
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 2.0
"""Between two tries of one waiting host, however often the store changes."""


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
    with api.store.read() as tx:
        project = tx.projects.find(asked.request.project)
        host = tx.hosts.find(project.id, asked.request.host)
        if host.banned_until > now:
            wait = min(host.banned_until - now, _BANNED_SECONDS)
            message = why_banned(tx, project, host)
            raise Refusal(RefusalCode.BANNED, message, retry_after_seconds=wait)
        last = (host.sequence, host.request_digest)
        if check_sequence(*last, asked.request.sequence, asked.digest) is Order.REPEATED:
            return Response(tx.hosts.reply(host.id), media_type=_JSON)
    api.clock_watch.note(address_of(request), asked.request.issued_at, now)
    check_statement(asked.request, now)
    signed.verify(host.key)
    waits = asked.request.wait_seconds > 0 and asked.request.max_units > 0
    seen = api.changes.now() if waits else 0
    answered = await api.commits.run(partial(serve, deps=api.deps, asked=asked))
    if waits and not answered.manifests and not answered.repeated:
        answered = await _wait(api, request, asked, answered, seen)
    api.counters.units_issued += len(answered.manifests)
    api.counters.reports += len(answered.receipts)
    return Response(answered.reply, media_type=_JSON)


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
    api: Api, request: Request, asked: Asked, answered: Answered, seen: int
) -> Answered:
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
    api: Api, asked: Asked, answered: Answered, seen: int, gone: Callable[[], bool]
) -> Answered:
    """Look for work after each change, ever less often."""
    loop = asyncio.get_running_loop()
    end = loop.time() + asked.request.wait_seconds
    pause = _FIRST_PAUSE_SECONDS
    while (left := end - loop.time()) > 0:
        # Some work becomes free by time alone: what is given out at a host's pace.
        await api.changes.after(seen, min(left, _LONGEST_PAUSE_SECONDS))
        if gone() or api.closing.is_set():
            break
        seen = api.changes.now()
        if not _any_unsent(api, asked):
            continue
        again = partial(serve, deps=api.deps, asked=asked, before=answered)
        answered = await api.commits.run(again)
        if answered.manifests:
            break
        await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
        pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)
    return answered


def _any_unsent(api: Api, asked: Asked) -> bool:
    """Whether the project has anything to give out: looking costs less than trying."""
    with api.store.read() as tx:
        project = tx.projects.find(asked.request.project)
        place = (project.id, project.epoch, project.version)
        return bool(tx.assignments.unsent_purposes(project.id) or tx.units.exams(*place))


async def _disconnected(request: Request) -> None:
    """Return when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
