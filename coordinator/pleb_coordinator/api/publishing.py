"""`POST /publish` and `GET /coordinator`: how a researcher publishes a project."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.responses import Response

from pleb_coordinator.api.access import is_way_private, readable_project
from pleb_coordinator.api.requests import check_statement, choose_protocol, read_body
from pleb_coordinator.steps.access import brought_keys, public_projects
from pleb_coordinator.steps.files import look_at_tombstones
from pleb_coordinator.steps.fleet_records import check_root_key, signed_records
from pleb_coordinator.steps.publish import admit, admit_handed_in, answer_question, leads_away
from pleb_coordinator.steps.publish import hand_in as hand_in_metadata
from pleb_coordinator.steps.publish import publish as publish_project
from pleb_coordinator.steps.published import (
    NO_KEYS,
    Findings,
    examine,
    open_metadata,
    open_publication,
)
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import parse_attach_link
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.messages import (
    CoordinatorInfo,
    PayloadType,
    PublishQuestion,
    PublishReply,
    RecordsRequest,
)
from pleb_shared.protocol.signing import peek_payload, sign_payload, verify_bytes

if TYPE_CHECKING:
    from starlette.requests import Request

    from pleb_coordinator.api.context import Api
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["ask_to_publish", "coordinator", "hand_in", "publish", "records", "software"]

_NEEDS_HTTPS: Final = (
    "A private project needs HTTPS, which this coordinator does not have: its operator can start "
    "it with `serve --tls self-signed`, or put a proxy before it and set its address (`url`)."
)
_DISTRIBUTION: Final = "pleb-cluster"


def software() -> str:
    """Return this program's name and version."""
    try:
        return f"{_DISTRIBUTION}/{version(_DISTRIBUTION)}"
    except PackageNotFoundError:  # run from a source tree
        return _DISTRIBUTION


async def coordinator(api: Api, _: Request) -> Response:
    """Return the coordinator's name, protocols, online key; for people, and for publishing."""
    with api.store.read() as tx:
        names = [project.name for project in public_projects(tx)]
    info = CoordinatorInfo(
        software=software(),
        protocols=list(PROTOCOLS),
        online_key=api.deps.online_keys.newest().public,
        projects=names,
    )
    return Response(strict_json.encode(info), media_type="application/json")


async def ask_to_publish(api: Api, request: Request) -> Response:
    """Say whether a researcher's key may publish a project, before anything is computed for it."""
    body = await read_body(request, LIMITS.message_bytes, api.counters)
    question = strict_json.decode(peek_payload(body, PayloadType.PUBLISH_QUESTION), PublishQuestion)
    choose_protocol(question)
    check_statement(question, api.deps.clock())
    verify_bytes(body, PayloadType.PUBLISH_QUESTION, question.root_key)
    with api.store.read() as tx:
        answer = answer_question(tx, api.deps, question)
    online_key = api.deps.online_keys.newest()
    signed = sign_payload(strict_json.encode(answer), PayloadType.PUBLISH_ANSWER, online_key)
    return Response(signed, media_type="application/json")


async def publish(api: Api, request: Request) -> Response:
    """Take root-signed metadata: list the blobs that are missing, or put it in force."""
    body = await read_body(request, LIMITS.metadata_bytes, api.counters)
    publication = await asyncio.to_thread(open_publication, body)
    if publication.request is not None:  # `open_publication` gives one
        choose_protocol(publication.request)
        check_statement(publication.request, api.deps.clock())
    if publication.metadata.access == "invited" and not is_way_private(api, request):
        raise Refusal(RefusalCode.NOT_PERMITTED, _NEEDS_HTTPS)
    with api.store.read() as tx:
        known = admit(tx, api.deps, publication)
        seen = look_at_tombstones(tx, api.deps)
    keys = NO_KEYS if known is None else brought_keys(api.deps, known)
    findings = await asyncio.to_thread(examine, api.deps, publication, seen, keys)

    def carry_out(tx: Transaction) -> PublishReply:
        return publish_project(tx, api.deps, publication, findings, api.links.url)

    reply = await api.commits.run(carry_out)
    link = replace(parse_attach_link(reply.attach_link), certificate=api.links.certificate)
    reply = msgspec.structs.replace(reply, attach_link=str(link))
    online_key = api.deps.online_keys.of(publication.metadata.delegation.online_key)
    signed = sign_payload(strict_json.encode(reply), PayloadType.PUBLISH_REPLY, online_key)
    return Response(signed, media_type="application/json")


async def records(api: Api, request: Request) -> Response:
    """Tell who has the root key what this coordinator knows of the project's hosts, signed."""
    with api.store.read() as tx:
        readable_project(tx, api, request)
    body = await read_body(request, LIMITS.message_bytes, api.counters)
    asked = strict_json.decode(peek_payload(body, PayloadType.RECORDS_REQUEST), RecordsRequest)
    choose_protocol(asked)
    check_statement(asked, api.deps.clock())
    if asked.project != request.path_params["project"]:
        message = f"The request is for project {asked.project!r}: send it to that project."
        raise Refusal(RefusalCode.WRONG_AUDIENCE, message)
    verify_bytes(body, PayloadType.RECORDS_REQUEST, asked.root_key)
    with api.store.read() as tx:
        project = tx.projects.find(asked.project)
        check_root_key(tx, project, asked.root_key)
        told = tx.views.fleet_records(project.id)
    signed = await asyncio.to_thread(signed_records, api.deps, project, told)
    return Response(signed, media_type="application/jsonl")


async def hand_in(api: Api, request: Request) -> Response:
    """Take root-signed metadata from a host, which this coordinator lost with its last hours."""
    with api.store.read() as tx:
        readable_project(tx, api, request)
    body = await read_body(request, LIMITS.metadata_bytes, api.counters)
    publication = await asyncio.to_thread(open_metadata, body)
    if publication.metadata.project != request.path_params["project"]:
        message = f"The metadata is of project {publication.metadata.project!r}: send it there."
        raise Refusal(RefusalCode.WRONG_AUDIENCE, message)
    with api.store.read() as tx:
        newer = admit_handed_in(tx, api.deps, publication)
        keys = brought_keys(api.deps, tx.projects.find(publication.metadata.project))
        seen = look_at_tombstones(tx, api.deps)
    if newer and leads_away(api.deps, publication.metadata):
        nothing = Findings((), None)
        await api.commits.run(lambda tx: hand_in_metadata(tx, api.deps, publication, nothing))
    elif newer:
        findings = await asyncio.to_thread(examine, api.deps, publication, seen, keys)
        await api.commits.run(lambda tx: hand_in_metadata(tx, api.deps, publication, findings))
    return Response(status_code=204)
