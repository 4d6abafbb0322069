"""enrol: register a host with a project, with the role and team that its invite gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.invites import check_invite
from pleb_coordinator.core.newcomers import DAY_SECONDS, check_newcomer
from pleb_coordinator.steps.family import hosts_elsewhere
from pleb_coordinator.store.hosts import NewHost
from pleb_shared.errors import Refusal
from pleb_shared.protocol.ids import digest_of, fingerprint_of
from pleb_shared.protocol.limits import PROTOCOLS
from pleb_shared.protocol.messages import EnrolReply, EnrolRequest, Role

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Host, Invite, Project
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["enrol"]

_HOST_ROLES: Final = frozenset({Role.HOST, Role.TRUSTED, Role.ADMIN})


def enrol(
    tx: Transaction, deps: Deps, project: Project, request: EnrolRequest, network: str
) -> EnrolReply:
    """Return the host's role and the last sequence that was seen of it.

    Enrolling again is harmless, also with the invite that was used the first time. Both
    signatures of the request must have been checked.

    Raises:
        Refusal: `invalid_invite`; `rate_limited`: too many new hosts came from its network.
    """
    now = deps.clock()
    fingerprint = fingerprint_of(request.host_key)
    known = _known(tx, project, fingerprint)
    invite = None
    if request.invite is not None and (known is None or not known.trusted):
        invite = _redeem(tx, project, request, known, now)
    if known is None and invite is None and network:
        _check_newcomer(tx, deps, project, network, now)
    new = NewHost(
        project=project.id,
        fingerprint=fingerprint,
        key=request.host_key,
        account=fingerprint_of(request.account_key),
        role=invite.role if invite else Role.HOST,
        network=network,
        display_name=request.display_name,
        agent=request.agent,
        team=invite.team if invite else "",
        proven=not project.metadata.verification.new_host_units
        or (invite is not None and invite.proven),
        invite=invite.token_hash if invite else "",
    )
    host = tx.hosts.enrol(new, now)
    if known is None or invite is not None:
        tx.events.add(project.id, now, "enrolled", host=host.id, role=host.role, team=host.team)
    return EnrolReply(
        protocol=max(set(request.protocols) & set(PROTOCOLS)),
        project=project.name,
        host=host.fingerprint,
        account=host.account,
        role=host.role,
        sequence=host.sequence,
        issued_at=int(now),
    )


def _known(tx: Transaction, project: Project, fingerprint: str) -> Host | None:
    try:
        return tx.hosts.find(project.id, fingerprint)
    except Refusal:
        return None


def _redeem(
    tx: Transaction, project: Project, request: EnrolRequest, known: Host | None, now: float
) -> Invite | None:
    """Return the invite, used once more; None: the host has used it already.

    With one use of it a host enrols with all members of a family.
    """
    token_hash = digest_of((request.invite or "").encode())
    if known is not None and known.invite == token_hash:
        return None
    host, account = fingerprint_of(request.host_key), fingerprint_of(request.account_key)
    used = tx.invites.find(token_hash)
    if used is not None and not used.revoked and used.role in _HOST_ROLES:
        elsewhere = hosts_elsewhere(tx, project, host, account)
        if any(one.invite == token_hash for one in elsewhere):
            return used
    invite = check_invite(tx.invites.find(token_hash), _HOST_ROLES, now)
    tx.invites.use(token_hash, now)
    return invite


def _check_newcomer(
    tx: Transaction, deps: Deps, project: Project, network: str, now: float
) -> None:
    check_newcomer(
        deps.networks.bounds(network),
        lambda number: tx.hosts.nth_newcomer(project.id, network, number),
        tx.hosts.unproven_from(project.id, network, now - DAY_SECONDS),
        now,
    )
