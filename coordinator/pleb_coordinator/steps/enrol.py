"""enrol: register a host with a project, with the role and team that its invite gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.access import Reader, ReaderKind, is_private, unknown_project
from pleb_coordinator.core.invites import check_invite
from pleb_coordinator.core.newcomers import DAY_SECONDS, check_newcomer
from pleb_coordinator.steps.access import box_for, keys_of
from pleb_coordinator.steps.family import hosts_elsewhere
from pleb_coordinator.store.hosts import NewHost
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of, fingerprint_of
from pleb_shared.protocol.limits import PROTOCOLS
from pleb_shared.protocol.messages import EnrolReply, EnrolRequest, Role

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Host, Invite, Project
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["enrol"]

_BANNED_SECONDS: Final = 300.0
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
    if is_private(project):
        _check_member(tx, project, request, known, invite, now)
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
        box=_box(deps, project, host, request.seal_to),
    )


def _box(deps: Deps, project: Project, host: Host, seal_to: str | None) -> bytes | None:
    """Return by what a member reads a private project; None: it is public, or no key came."""
    if not is_private(project) or seal_to is None:
        return None
    reader = Reader(project.name, ReaderKind.HOST, host.fingerprint)
    return box_for(deps, keys_of(deps, project), reader, seal_to, host.fingerprint)


def _check_member(
    tx: Transaction,
    project: Project,
    request: EnrolRequest,
    known: Host | None,
    invite: Invite | None,
    now: float,
) -> None:
    """Let into a private project who was invited, and other PCs of a member's account.

    Raises:
        Refusal: `banned`; `unknown_project` for everybody else, as if there were none.
    """
    if known is not None and known.banned_until > now:
        message = f"This host is banned from {project.name}: ask who invited you."
        raise Refusal(RefusalCode.BANNED, message, retry_after_seconds=_BANNED_SECONDS)
    if known is not None or invite is not None:
        return
    account = tx.hosts.of_account(project.id, fingerprint_of(request.account_key))
    if not account or any(host.banned_until > now for host in account):
        raise unknown_project(project.name)


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
    private = is_private(project)
    try:
        invite = check_invite(used, _HOST_ROLES, now, project.name, private=private)
    except Refusal as refusal:
        if private and known is None:  # a guess must not show that there is something to guess
            raise unknown_project(project.name) from refusal
        raise
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
