"""`host`: the hosts of a project, and banning them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_coordinator.cli.access import now, numbers_of, opened
from pleb_coordinator.core.chunks import why_chunk
from pleb_coordinator.core.invites import check_team
from pleb_coordinator.core.reputation import audit_rate, standing_of
from pleb_shared.errors import InputError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.reasons import ReasonCode, because, reason_sentence
from pleb_system.command_line import table

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.core.records import Host, Project
    from pleb_coordinator.home.layout import Home
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.reasons import Reason
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]

_EVENTS: Final = 20_000
"""How far back what a host's results meant for it is looked for; see `unit show` for each."""
_SEVERAL: Final = 20
_DAY_SECONDS: Final = 86_400.0


def list_hosts(home: Home, options: argparse.Namespace, output: Output) -> int:
    """List the hosts of a project, most recently seen first."""
    with opened(home) as store, store.read() as tx:
        project = tx.projects.find(options.project)
        hosts = tx.hosts.of_project(project.id, limit=options.limit)
        total = tx.hosts.count(project.id)
        values = [_value(host, project) for host in hosts]
    names = ("display_name", "role", "state", "units_valid", "refused", "agent")
    rows = [(v["host"][:12], *(v[name] for name in names)) for v in values]
    head = ("HOST", "NAME", "ROLE", "STATE", "VALID", "REFUSED", "AGENT")
    lines = list(table(head, rows, "No host is attached yet."))
    if total > len(hosts):
        lines.append(f"{len(hosts)} of {total} hosts, those seen last: --limit N shows more.")
    output.result(values, lines)
    return 0


def show(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Show one host with the assignments that it holds, by the numbers that it knows."""
    numbers = numbers_of(home)
    with opened(home) as store, store.read() as tx:
        project = tx.projects.find(options.project)
        host = _find(tx, project, options.host)
        held = [numbers.shown(found.id) for found, _ in tx.assignments.in_hand(host.id)]
        networks = sorted(tx.hosts.party(host, now()).networks)
        rules = project.metadata.verification
        rate = audit_rate(host.record, tx.hosts.alarm(project.id), rules) if host.proven else 1.0
        cases = [
            {"at": event.at, "case": event.kind, "unit": event.unit}
            for event in tx.events.cases_of(project.id, host.id, _EVENTS)
        ]
    value = _value(host, project) | {
        "in_hand": held,
        "networks": networks,
        "check_rate": 0.0 if host.trusted else rate,
        "chunk": why_chunk(project.metadata, project.facts, host),
        "cases": cases,
    }
    shown = value | {"ban_reason": host.ban_reason and reason_sentence(host.ban_reason)}
    output.result(value, (f"{name:<20} {found}" for name, found in shown.items()))
    return 0


def ban(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Refuse a host's requests for some days."""
    until = now() + options.days * _DAY_SECONDS
    reason = because(ReasonCode.BANNED_BY_OPERATOR, text=options.reason)
    return _set_ban(home, options, output, until, reason)


def unban(home: Home, options: argparse.Namespace, output: Output) -> int:
    """End a ban; the host's record starts again from zero."""
    return _set_ban(home, options, output, 0.0, None)


def team(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Let the account of a host join a team, with all its hosts, or leave its team."""
    name = check_team(options.team)
    with opened(home) as store, store.write() as tx:
        project = tx.projects.find(options.project)
        host = _find(tx, project, options.host)
        tx.hosts.set_team(project.id, host.account, name)
        tx.events.add(project.id, now(), "team", host=host.id, team=name)
    shown = host.display_name or f"Host {host.fingerprint[:12]}"
    said = f"is in team {name}" if name else "is in no team"
    output.result({"host": host.fingerprint, "team": name}, [f"The account of {shown} {said}."])
    return 0


def delete(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Forget a host; should its agent still run, it enrols again as a new one."""
    with opened(home) as store, store.write() as tx:
        project = tx.projects.find(options.project)
        host = _find(tx, project, options.host)
        oldest = project.version - LIMITS.version_lag
        if host.suspended_by is not None or not tx.retention.is_settled(
            host.id, project.epoch, oldest
        ):
            raise InputError(
                f"{host.display_name or host.fingerprint[:12]} has results that may still be "
                f"compared with others: ban it now, and delete it {LIMITS.version_lag + 1} "
                "versions later."
            )
        tx.retention.remove_hosts(project.id, [host.id])
        tx.events.add(project.id, now(), "host_deleted", host=host.id, fingerprint=host.fingerprint)
    name = host.display_name or f"Host {host.fingerprint[:12]}"
    output.result({"host": host.fingerprint, "deleted": True}, [f"{name} is deleted."])
    return 0


def _set_ban(
    home: Home, options: argparse.Namespace, output: Output, until: float, reason: Reason | None
) -> int:
    with opened(home) as store, store.write() as tx:
        project = tx.projects.find(options.project)
        host = _find(tx, project, options.host)
        standing = msgspec.structs.replace(
            standing_of(host), banned_until=until, ban_reason=reason, record=0, proven=False
        )
        tx.hosts.set_standing(host.id, standing)
        if until > now():
            tx.assignments.end_leases(host.id, now())
        kind = "banned" if until else "unbanned"
        tx.events.add(project.id, now(), kind, host=host.id, until=until, reason=reason)
    name = host.display_name or f"Host {host.fingerprint[:12]}"
    value = {"host": host.fingerprint, "banned_until": until, "reason": reason}
    output.result(value, [f"{name} is {kind}."])
    return 0


def _find(tx: Transaction, project: Project, given: str) -> Host:
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


def _value(host: Host, project: Project) -> dict[str, Any]:
    """Return a host's fields, without its key; `refused` as on the page, where bans end nothing."""
    value = msgspec.structs.asdict(host)
    value["host"] = value.pop("fingerprint")
    for name in ("key", "project", "request_digest", "ban_reason", "banned_until"):
        del value[name]
    return value | {
        "state": _state(host),
        "refused": host.refused + host.bans * project.metadata.verification.ban_after,
        "banned_until": host.banned_until,
        "ban_reason": host.ban_reason,
    }


def _state(host: Host) -> str:
    if host.banned_until > now():
        return "banned"
    if host.trusted:
        return "trusted"
    if host.suspended_by is not None:
        return "suspended"
    return "proven" if host.proven else "new"


COMMANDS: Final = {
    "list": list_hosts,
    "show": show,
    "ban": ban,
    "unban": unban,
    "team": team,
    "delete": delete,
}
