"""enrol: register a host with a project, as a trusted one if it has an invite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_coordinator.core.invites import check_invite
from pleb_coordinator.store.hosts import NewHost
from pleb_shared.errors import Refusal
from pleb_shared.protocol.ids import digest_of, fingerprint_of
from pleb_shared.protocol.limits import PROTOCOLS
from pleb_shared.protocol.messages import EnrolReply, EnrolRequest, Role

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["enrol"]

_HOST_ROLES = frozenset({Role.HOST, Role.TRUSTED, Role.ADMIN})


def enrol(
    tx: Transaction, deps: Deps, project: Project, request: EnrolRequest, network: str
) -> EnrolReply:
    """Return the host's role and the last sequence that was seen of it.

    Enrolling again is harmless, also with the invite that was used the first time. Both
    signatures of the request must have been checked.

    Raises:
        Refusal: `invalid_invite`.
    """
    now = deps.clock()
    fingerprint = fingerprint_of(request.host_key)
    role = Role.HOST
    if request.invite is not None and not _is_trusted(tx, project, fingerprint):
        role = _redeem(tx, request.invite, now)
    new = NewHost(
        project=project.id,
        fingerprint=fingerprint,
        key=request.host_key,
        account=fingerprint_of(request.account_key),
        role=role,
        network=network,
        display_name=request.display_name,
        agent=request.agent,
    )
    host = tx.hosts.enrol(new, now)
    tx.events.add(project.id, now, "enrolled", host=host.id, role=host.role)
    return EnrolReply(
        protocol=max(set(request.protocols) & set(PROTOCOLS)),
        project=project.name,
        host=host.fingerprint,
        account=host.account,
        role=host.role,
        sequence=host.sequence,
        issued_at=int(now),
    )


def _is_trusted(tx: Transaction, project: Project, fingerprint: str) -> bool:
    try:
        return tx.hosts.find(project.id, fingerprint).trusted
    except Refusal:
        return False


def _redeem(tx: Transaction, token: str, now: float) -> Role:
    token_hash = digest_of(token.encode())
    role = check_invite(tx.invites.find(token_hash), _HOST_ROLES, now)
    tx.invites.use(token_hash, now)
    return role
