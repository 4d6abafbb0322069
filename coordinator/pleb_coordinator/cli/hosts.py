"""`host`: the hosts of a project, and banning them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.admin.hosts import (
    BanHost,
    DeleteHost,
    DetachHost,
    ListHosts,
    SetTeam,
    ShowHost,
    UnbanHost,
)
from pleb_shared.protocol.reasons import reason_sentence
from pleb_system.command_line import table

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from pleb_coordinator.admin.hosts import HostShown
    from pleb_coordinator.cli.desk import Asker
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]

_OMITTED: Final = ("fingerprint", "key", "project", "request_digest")
"""What of a host's row tells people nothing, or is there twice."""


def list_hosts(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """List the hosts of a project, most recently seen first."""
    found = asker.ask(ListHosts(project=options.project, limit=options.limit))
    rows = [
        (h.host[:12], h.display_name, h.role, h.state, h.units_valid, h.refused, h.agent)
        for h in found.hosts
    ]
    head = ("HOST", "NAME", "ROLE", "STATE", "VALID", "REFUSED", "AGENT")
    lines = list(table(head, rows, "No host is attached yet."))
    if found.total > len(found.hosts):
        lines.append(
            f"{len(found.hosts)} of {found.total} hosts, those seen last: --limit N shows more."
        )
    output.result([_value(host) for host in found.hosts], lines)
    return 0


def show(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Show one host with the assignments that it holds, by the numbers that it knows."""
    found = asker.ask(ShowHost(project=options.project, host=options.host))
    value = _value(found)
    cases = [msgspec.structs.asdict(case) for case in found.cases]
    reason = found.ban_reason and reason_sentence(found.ban_reason)
    shown = value | {"cases": cases, "ban_reason": reason}
    output.result(value, (f"{name:<20} {line}" for name, line in shown.items()))
    return 0


def ban(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Refuse a host's requests for some days."""
    command = BanHost(
        project=options.project, host=options.host, days=options.days, reason=options.reason
    )
    found = asker.ask(command)
    said = f"{found.name} is banned."
    if found.key_replaced:
        said = (
            f"{found.name} and all of its account are removed. The project has a new key: what is "
            "made from now on they cannot read; what they have they keep."
        )
        if found.invites_revoked:
            said += f" The invite that they used is revoked ({found.invites_revoked})."
    output.result(found, [said])
    return 0


def unban(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """End a ban; the host's record starts again from zero."""
    found = asker.ask(UnbanHost(project=options.project, host=options.host))
    output.result(found, [f"{found.name} is unbanned."])
    return 0


def team(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Let the account of a host join a team, with all its hosts, or leave its team."""
    command = SetTeam(project=options.project, host=options.host, team=options.team)
    found = asker.ask(command)
    said = f"is in team {found.team}" if found.team else "is in no team"
    output.result(found, [f"The account of {found.name} {said}."])
    return 0


def detach(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Give what a host has in hand to others at once."""
    found = asker.ask(DetachHost(project=options.project, host=options.host))
    units = (
        "no unit" if not found.units else f"{found.units} units" if found.units > 1 else "1 unit"
    )
    output.result(found, [f"{found.name} had {units} in hand, for others now."])
    return 0


def delete(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Forget a host; should its agent still run, it enrols again as a new one."""
    found = asker.ask(DeleteHost(project=options.project, host=options.host))
    output.result(found, [f"{found.name} is deleted."])
    return 0


def _value(host: HostShown) -> dict[str, Any]:
    value = msgspec.structs.asdict(host)
    for name in _OMITTED:
        del value[name]
    return value


COMMANDS: Final = {
    "list": list_hosts,
    "show": show,
    "ban": ban,
    "unban": unban,
    "team": team,
    "detach": detach,
    "delete": delete,
}
