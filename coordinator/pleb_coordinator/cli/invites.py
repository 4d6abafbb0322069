"""`invite`: tokens for hosts (trusted, proven, of a team), publishers and administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.access import now
from pleb_coordinator.admin.command import MOST_DAYS
from pleb_coordinator.admin.invites import ListInvites, MakeInvite, RevokeInvite
from pleb_shared.errors import InputError
from pleb_shared.protocol.messages import Role
from pleb_system.command_line import table
from pleb_system.durations import shown_day

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.cli.desk import Asker
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]

_DAY_SECONDS: Final = 86_400.0


def new(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Create an invite; its token is shown only now."""
    days: float = options.days
    if options.until is not None:
        days = (options.until - now()) / _DAY_SECONDS
        if not 0 < days <= MOST_DAYS:
            raise InputError("--until is for a day to come, at most a hundred years from now.")
    command = MakeInvite(
        role=Role(options.role),
        note=options.note,
        team=options.team,
        proven=options.proven,
        uses=options.uses,
        days=days,
        project=options.project,
    )
    found = asker.ask(command)
    output.result(found, [found.link or found.token])
    if not output.as_json:
        what = f"one {found.role}" if found.uses == 1 else f"{found.uses} times {found.role}"
        what += " of team " + found.team if found.team else ""
        what += ", proven from the start" if found.proven else ""
        what += f" in {found.project}" if found.project else ""
        output.progress(f"For {what}, valid for {found.days:.3g} days. It is not shown again.")
    return 0


def list_invites(asker: Asker, _: argparse.Namespace, output: Output) -> int:
    """List all invites, without their tokens, which are not stored."""
    found = asker.ask(ListInvites())
    rows = [
        (
            one.invite,
            "proven host" if one.proven else one.role,
            one.state,
            f"{one.used}/{one.uses}",
            shown_day(one.expires_at),
            one.project,
            one.team,
            one.note,
        )
        for one in found
    ]
    head = ("INVITE", "ROLE", "STATE", "USED", "UNTIL", "PROJECT", "TEAM", "NOTE")
    output.result(found, table(head, rows, "No invite yet: `pleb-coordinator invite new`."))
    return 0


def revoke(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Revoke an unused invite, by its token or its number."""
    output.result(asker.ask(RevokeInvite(invite=options.invite)), ["Revoked."])
    return 0


COMMANDS: Final = {
    "new": new,
    "list": list_invites,
    "revoke": revoke,
}
