"""`invite`: tokens for hosts (trusted, proven, of a team), publishers and administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pleb_coordinator.cli.access import now, opened
from pleb_coordinator.core.invites import check_team
from pleb_coordinator.home.config import read_config
from pleb_coordinator.steps import deps_of
from pleb_coordinator.steps.invite import new_invite
from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role
from pleb_system.command_line import table
from pleb_system.durations import shown_day

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.core.records import Invite
    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]

_DAY_SECONDS: Final = 86_400.0
_NUMBER: Final = 12
"""Digits of an invite's hash that name it in the list."""


def new(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Create an invite; its token is shown only now."""
    role, team = Role(options.role), check_team(options.team)
    hosts = role in {Role.HOST, Role.TRUSTED}
    if (team or options.uses != 1) and not hosts:
        raise InputError("--team and --uses are for hosts: leave them out, or use --role host.")
    if options.proven and role is not Role.HOST:
        raise InputError("--proven is for --role host: a trusted host needs no record.")
    with opened(home) as store, store.write() as tx:
        token = new_invite(
            tx,
            deps_of(home, now, read_config(home.config_file)),
            role,
            note=options.note,
            lifetime_seconds=options.days * _DAY_SECONDS,
            team=team,
            proven=options.proven,
            uses=options.uses,
        )
    value = {"token": token, "role": role, "days": options.days, "note": options.note}
    value |= {"team": team, "proven": options.proven, "uses": options.uses}
    output.result(value, [token])
    if not output.as_json:
        what = f"one {role}" if options.uses == 1 else f"{options.uses} times {role}"
        what += " of team " + team if team else ""
        what += ", proven from the start" if options.proven else ""
        output.progress(f"For {what}, valid for {options.days:g} days. It is not shown again.")
    return 0


def list_invites(home: Home, _: argparse.Namespace, output: Output) -> int:
    """List all invites, without their tokens, which are not stored."""
    with opened(home) as store, store.read() as tx:
        found = tx.invites.all()
    values = [_value(invite) for invite in found]
    rows = [
        (
            v["invite"],
            _role_shown(v),
            v["state"],
            f"{v['used']}/{v['uses']}",
            shown_day(v["expires_at"]),
            v["team"],
            v["note"],
        )
        for v in values
    ]
    head = ("INVITE", "ROLE", "STATE", "USED", "UNTIL", "TEAM", "NOTE")
    output.result(values, table(head, rows, "No invite yet: `pleb-coordinator invite new`."))
    return 0


def revoke(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Revoke an unused invite, by its token or its number."""
    given = options.invite
    with opened(home) as store, store.write() as tx:
        hashes = [found.token_hash for found in tx.invites.all()]
        wanted = {digest_of(given.encode())} & set(hashes) or {
            found for found in hashes if found.startswith(given)
        }
        if len(wanted) != 1:
            what = "no invite" if not wanted else f"{len(wanted)} invites"
            raise InputError(f"{given!r} matches {what}: see `pleb-coordinator invite list`.")
        if not tx.invites.revoke(wanted.pop()):
            raise InputError("That invite is used up: ban the host instead.")
    output.result({"revoked": True}, ["Revoked."])
    return 0


def _value(invite: Invite) -> dict[str, Any]:
    state = "expired" if invite.expires_at <= now() else "open"
    if invite.revoked:
        state = "revoked"
    elif invite.used >= invite.uses:
        state = "used"
    return {
        "invite": invite.token_hash[:_NUMBER],
        "role": invite.role,
        "state": state,
        "note": invite.note,
        "created_at": invite.created_at,
        "expires_at": invite.expires_at,
        "used_at": invite.used_at,
        "team": invite.team,
        "proven": invite.proven,
        "uses": invite.uses,
        "used": invite.used,
    }


def _role_shown(value: dict[str, Any]) -> str:
    return "proven host" if value["proven"] else str(value["role"])


COMMANDS: Final = {
    "new": new,
    "list": list_invites,
    "revoke": revoke,
}
