"""The hosts of a project: who they are, banning them, their teams, forgetting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeVar

import msgspec
from typing_extensions import override

from pleb_coordinator.admin.command import Command, Days, Desk, Limit, Text, Value
from pleb_coordinator.core.access import is_private
from pleb_coordinator.core.chunks import why_chunk
from pleb_coordinator.core.invites import check_team
from pleb_coordinator.core.records import Host
from pleb_coordinator.core.reputation import audit_rate, standing_of
from pleb_coordinator.steps.access import remove_member
from pleb_shared.errors import InputError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.reasons import Reason, ReasonCode, because

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "COMMANDS",
    "BanHost",
    "DeleteHost",
    "DetachHost",
    "HostBan",
    "HostCase",
    "HostDeleted",
    "HostDetached",
    "HostDetails",
    "HostList",
    "HostShown",
    "HostTeam",
    "ListHosts",
    "SetTeam",
    "ShowHost",
    "UnbanHost",
]

_EVENTS: Final = 20_000
"""How far back what a host's results meant for it is looked for; see `unit show` for each."""
_SEVERAL: Final = 20
_DAY_SECONDS: Final = 86_400.0


class HostShown(Host, frozen=True, kw_only=True):
    """A host; `refused` is as on the project's page, where a ban ends nothing."""

    host: str
    """The fingerprint of its key."""
    state: str
    """`new`, `proven`, `trusted`, `suspended` or `banned`."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.display_name or f"Host {self.host[:12]}"


class HostList(Value, frozen=True):
    """The hosts that were seen last, of `total`."""

    hosts: list[HostShown]
    total: int


class HostCase(Value, frozen=True):
    """What a result meant for its host."""

    at: float
    case: str
    unit: int | None


class HostDetails(HostShown, frozen=True, kw_only=True):
    """One host with the assignments that it holds, by the numbers that it knows."""

    in_hand: list[int]
    networks: list[str]
    check_rate: float
    """How likely its next result is computed by another host, too."""
    chunk: str
    """The part of the model that its units are about, and why."""
    cases: list[HostCase]


class HostDone(Value, frozen=True):
    """What something was done to."""

    host: str
    """The fingerprint of its key."""
    name: str


class HostBan(HostDone, frozen=True):
    """Until when a host is banned; 0: it is not any more."""

    banned_until: float
    reason: Reason | None
    key_replaced: bool = False
    """Whether a private project has a new key, which the host's account does not get."""
    invites_revoked: int = 0


class HostTeam(HostDone, frozen=True):
    """The team that a host's account belongs to; empty: none."""

    team: str


class HostDetached(HostDone, frozen=True):
    """A host has nothing in hand any more."""

    units: int
    """How many units go to others."""


class HostDeleted(HostDone, frozen=True):
    """A host is forgotten."""

    deleted: bool


Done = TypeVar("Done", bound=HostDone)


class ListHosts(Command[HostList], frozen=True):
    """The hosts of a project, most recently seen first."""

    words: ClassVar[str] = "host list"
    project: Text
    limit: Limit = 200

    def carry_out(self, desk: Desk) -> HostList:
        """Read them. Raises `Refusal` unknown_project."""
        with desk.opened() as store, store.read() as tx:
            project = tx.projects.find(self.project)
            hosts = tx.hosts.of_project(project.id, limit=self.limit)
            total = tx.hosts.count(project.id)
        now = desk.clock()
        return HostList([HostShown(**_values(host, project, now)) for host in hosts], total)


class ShowHost(Command[HostDetails], frozen=True):
    """One host."""

    words: ClassVar[str] = "host show"
    project: Text
    host: Text
    """Its name, or the first digits of its fingerprint."""

    def carry_out(self, desk: Desk) -> HostDetails:
        """Raises `InputError`: no host is called so, or several."""
        now = desk.clock()
        with desk.opened() as store, store.read() as tx:
            project = tx.projects.find(self.project)
            host = find_host(tx, project, self.host)
            held = [found.id for found, _ in tx.assignments.in_hand(host.id)]
            rules, alarm = project.metadata.verification, tx.hosts.alarm(project.id)
            rate = audit_rate(host.record, alarm, rules) if host.proven else 1.0
            cases = tx.events.cases_of(project.id, host.id, _EVENTS)
            networks = tx.hosts.party(host, now).networks
        return HostDetails(
            **_values(host, project, now),
            in_hand=[desk.numbers.shown(assignment) for assignment in held],
            networks=sorted(networks),
            check_rate=0.0 if host.trusted else rate,
            chunk=why_chunk(project.metadata, project.facts, host),
            cases=[HostCase(event.at, event.kind, event.unit) for event in cases],
        )


class HostCommand(Command[Done], frozen=True):
    """Something that is done to a host."""

    project: Text
    host: Text
    """Its name, or the first digits of its fingerprint."""

    @override
    def told(self, answer: Done) -> dict[str, Any]:
        """Return what was asked for, with the whole fingerprint."""
        return super().told(answer) | {"host": answer.host}


class BanHost(HostCommand[HostBan], frozen=True):
    """Refuse a host's requests for some days.

    Of a private project its account is removed: all its hosts, and what it could read from now on.
    """

    words: ClassVar[str] = "host ban"
    days: Days = 3650.0
    reason: Annotated[str, msgspec.Meta(max_length=200)] = "no reason given."
    """Shown to the host."""

    def carry_out(self, desk: Desk) -> HostBan:
        """Raises `InputError`: no host is called so, or several."""
        reason = because(ReasonCode.BANNED_BY_OPERATOR, text=self.reason)
        until = desk.clock() + self.days * _DAY_SECONDS
        return _set_ban(desk, self.project, self.host, until, reason)


class UnbanHost(HostCommand[HostBan], frozen=True):
    """End a ban; the host's record starts again from zero."""

    words: ClassVar[str] = "host unban"

    def carry_out(self, desk: Desk) -> HostBan:
        """Raises `InputError`: no host is called so, or several."""
        return _set_ban(desk, self.project, self.host, 0.0, None)


class SetTeam(HostCommand[HostTeam], frozen=True):
    """Let the account of a host join a team, with all its hosts; empty: leave its team."""

    words: ClassVar[str] = "host team"
    team: Text

    def carry_out(self, desk: Desk) -> HostTeam:
        """Raises `InputError`: no host is called so, or several; it is no name for a team."""
        name = check_team(self.team)
        with desk.opened() as store, store.write() as tx:
            project = tx.projects.find(self.project)
            host = find_host(tx, project, self.host)
            tx.hosts.set_team(project.id, host.account, name)
            tx.events.add(project.id, desk.clock(), "team", host=host.id, team=name)
        return HostTeam(host.fingerprint, _name(host), name)


class DetachHost(HostCommand[HostDetached], frozen=True):
    """Give what a host has in hand to others at once: for a PC that went without a word.

    Should its agent come back, it goes on where it was, with other units.
    """

    words: ClassVar[str] = "host detach"

    def carry_out(self, desk: Desk) -> HostDetached:
        """Raises `InputError`: no host is called so, or several."""
        now = desk.clock()
        with desk.opened() as store, store.write() as tx:
            project = tx.projects.find(self.project)
            host = find_host(tx, project, self.host)
            units = tx.assignments.end_leases(host.id, now)
            tx.events.add(project.id, now, "detached", host=host.id, units=units)
        return HostDetached(host.fingerprint, _name(host), units)


class DeleteHost(HostCommand[HostDeleted], frozen=True):
    """Forget a host; should its agent still run, it enrols again as a new one."""

    words: ClassVar[str] = "host delete"

    def carry_out(self, desk: Desk) -> HostDeleted:
        """Raises `InputError`: as above; its results may still be compared with others."""
        with desk.opened() as store, store.write() as tx:
            project = tx.projects.find(self.project)
            host = find_host(tx, project, self.host)
            oldest = project.oldest_accepted
            if host.suspended_by is not None or not tx.retention.is_settled(
                host.id, project.epoch, oldest
            ):
                raise InputError(
                    f"{host.display_name or host.fingerprint[:12]} has results that may still be "
                    f"compared with others: ban it now, and delete it {LIMITS.version_lag + 1} "
                    "versions later."
                )
            tx.retention.remove_hosts(project.id, [host.id])
            at, key = desk.clock(), host.fingerprint
            tx.events.add(project.id, at, "host_deleted", host=host.id, fingerprint=key)
        return HostDeleted(host.fingerprint, _name(host), deleted=True)


def _set_ban(desk: Desk, name: str, given: str, until: float, reason: Reason | None) -> HostBan:
    now = desk.clock()
    with desk.opened() as store, store.write() as tx:
        project = tx.projects.find(name)
        host = find_host(tx, project, given)
        private = is_private(project)
        hosts = tx.hosts.of_account(project.id, host.account) if private else [host]
        for one in hosts:
            standing = msgspec.structs.replace(
                standing_of(one), banned_until=until, ban_reason=reason, record=0, proven=False
            )
            tx.hosts.set_standing(one.id, standing)
            if until > now:
                tx.assignments.end_leases(one.id, now)
            kind = "banned" if until else "unbanned"
            tx.events.add(project.id, now, kind, host=one.id, until=until, reason=reason)
        removed = private and until > now
        revoked = remove_member(tx, desk.deps, project, host.account) if removed else 0
    return HostBan(host.fingerprint, _name(host), until, reason, removed, revoked)


def find_host(tx: Transaction, project: Project, given: str) -> Host:
    """Return the host whose fingerprint starts with `given`, or that has this name.

    Raises:
        InputError: no host, or several.
    """
    found = tx.hosts.named(project.id, given, limit=_SEVERAL)
    if len(found) != 1 or not given:
        many = "several" if len(found) == _SEVERAL else len(found)
        what = "no host" if not found else f"{many} hosts"
        raise InputError(
            f"{given!r} matches {what} of {project.name}: give more digits of its fingerprint "
            f"(`pleb-coordinator host list {project.name}`)."
        )
    return found[0]


def _name(host: Host) -> str:
    return host.display_name or f"Host {host.fingerprint[:12]}"


def _values(host: Host, project: Project, now: float) -> dict[str, Any]:
    """Return the fields of a `HostShown`."""
    refused = host.refused + host.bans * project.metadata.verification.ban_after
    more = {"host": host.fingerprint, "state": _state(host, now), "refused": refused}
    return msgspec.structs.asdict(host) | more


def _state(host: Host, now: float) -> str:
    if host.banned_until > now:
        return "banned"
    if host.trusted:
        return "trusted"
    if host.suspended_by is not None:
        return "suspended"
    return "proven" if host.proven else "new"


COMMANDS: Final = (ListHosts, ShowHost, BanHost, UnbanHost, SetTeam, DetachHost, DeleteHost)
