"""`POST /projects/P/enrol` and `GET /projects/P/metadata`: how a host joins a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from pleb_coordinator.api.access import is_way_private, readable_project
from pleb_coordinator.api.requests import (
    address_of,
    check_statement,
    choose_protocol,
    read_body,
)
from pleb_coordinator.core.access import is_private, unknown_project
from pleb_coordinator.core.records import ProjectState
from pleb_coordinator.core.voices import network_of
from pleb_coordinator.steps.enrol import enrol as enrol_host
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import EnrolReply, EnrolRequest, PayloadType
from pleb_shared.protocol.signing import read_envelope, sign_payload

if TYPE_CHECKING:
    from starlette.requests import Request

    from pleb_coordinator.api.context import Api
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.signing import SigningKey, Unverified

__all__ = ["enrol", "metadata"]


async def enrol(api: Api, request: Request) -> Response:
    """Enrol a host; the request is signed by the host's and the account's keys."""
    body = await read_body(request, LIMITS.message_bytes, api.counters)
    signed = read_envelope(body, PayloadType.ENROL)
    statement = strict_json.decode(signed.payload, EnrolRequest)
    if statement.project != request.path_params["project"]:
        message = f"The request is for project {statement.project!r}: send it to that project."
        raise Refusal(RefusalCode.WRONG_AUDIENCE, message)
    choose_protocol(statement)
    check_statement(statement, api.deps.clock())
    with api.store.read() as tx:
        known = tx.projects.find(statement.project)
    if is_private(known):
        _check_unseen(api, request, signed, statement)
    signed.verify(statement.host_key, statement.account_key)
    network = network_of(address_of(request), api.deps.networks.own_networks)

    def carry_out(tx: Transaction) -> tuple[EnrolReply, SigningKey]:
        project = tx.projects.find(statement.project)
        online_key = api.deps.online_keys.of(project.metadata.delegation.online_key)
        return enrol_host(tx, api.deps, project, statement, network), online_key

    reply, online_key = await api.commits.run(carry_out)
    answer = sign_payload(strict_json.encode(reply), PayloadType.ENROL_REPLY, online_key)
    return Response(answer, media_type="application/json")


def _check_unseen(api: Api, request: Request, signed: Unverified, statement: EnrolRequest) -> None:
    """Refuse what would be refused otherwise than at a project that does not exist.

    Raises:
        Refusal: `unknown_project`.
    """
    try:
        signed.verify(statement.host_key, statement.account_key)
    except Refusal as refusal:
        raise unknown_project(statement.project) from refusal
    if not is_way_private(api, request):
        raise unknown_project(statement.project)


async def metadata(api: Api, request: Request) -> Response:
    """Return the metadata's envelope, exactly as the root key signed it."""
    with api.store.read() as tx:
        project = readable_project(tx, api, request, invited=True)
        if project.state is ProjectState.MOVED:
            _, envelope = tx.projects.newest_envelope(project.id)
        else:
            envelope = tx.projects.envelope(project.id, project.metadata_number)
    return Response(envelope, media_type="application/json", headers={"Cache-Control": "no-cache"})
