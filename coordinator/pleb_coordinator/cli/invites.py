"""`invite`: tokens that make their bearer a trusted host, a publisher or an administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pleb_coordinator.cli.access import now, opened
from pleb_coordinator.steps import deps_of
from pleb_coordinator.steps.invite import new_invite
from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role
from pleb_system.command_line import table

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
    role = Role(options.role)
    with opened(home) as store, store.write() as tx:
        token = new_invite(
            tx,
            deps_of(home, now),
            role,
            note=options.note,
            lifetime_seconds=options.days * _DAY_SECONDS,
        )
    value = {"token": token, "role": role, "days": options.days, "note": options.note}
    output.result(value, [token])
    if not output.as_json:
        output.progress(f"For one {role}, valid for {options.days:g} days. It is not shown again.")
    return 0


def list_invites(home: Home, _: argparse.Namespace, output: Output) -> int:
    """List all invites, without their tokens, which are not stored."""
    with opened(home) as store, store.read() as tx:
        found = tx.invites.all()
    values = [_value(invite) for invite in found]
    rows = [(v["invite"], v["role"], v["state"], v["note"]) for v in values]
    head = ("INVITE", "ROLE", "STATE", "NOTE")
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
            raise InputError("That invite is already used: ban the host instead.")
    output.result({"revoked": True}, ["Revoked."])
    return 0


def _value(invite: Invite) -> dict[str, Any]:
    state = "expired" if invite.expires_at <= now() else "open"
    if invite.revoked:
        state = "revoked"
    elif invite.used_at is not None:
        state = "used"
    return {
        "invite": invite.token_hash[:_NUMBER],
        "role": invite.role,
        "state": state,
        "note": invite.note,
        "created_at": invite.created_at,
        "expires_at": invite.expires_at,
        "used_at": invite.used_at,
    }


COMMANDS: Final = {
    "new": new,
    "list": list_invites,
    "revoke": revoke,
}
