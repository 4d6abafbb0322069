"""Invites: tokens for hosts (trusted, proven, of a team), publishers and administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

import msgspec
from typing_extensions import override

from pleb_coordinator.admin.command import Command, Days, Desk, Text, Value
from pleb_coordinator.core.invites import check_team
from pleb_coordinator.steps.invite import new_invite
from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Invite

__all__ = [
    "COMMANDS",
    "INVITE_DIGITS",
    "InviteMade",
    "InviteRevoked",
    "InviteShown",
    "ListInvites",
    "MakeInvite",
    "RevokeInvite",
]

INVITE_DIGITS: Final = 12
"""Digits of an invite's hash that name it in the list."""
_DAY_SECONDS: Final = 86_400.0


class InviteMade(Value, frozen=True):
    """A new invite; its token is not kept."""

    token: str
    role: Role
    days: float
    note: str
    team: str
    proven: bool
    uses: int
    project: str = ""
    link: str = ""
    """The link that joins `project` by this invite; it is as secret as the token."""


class InviteShown(Value, frozen=True):
    """An invite, without its token."""

    invite: str
    role: Role
    state: str
    """`open`, `used`, `expired` or `revoked`."""
    note: str
    created_at: float
    expires_at: float
    used_at: float | None
    team: str
    proven: bool
    uses: int
    used: int
    project: str = ""


class InviteRevoked(Value, frozen=True):
    """An invite cannot be used any more."""

    revoked: bool


class MakeInvite(Command[InviteMade], frozen=True):
    """Create an invite."""

    words: ClassVar[str] = "invite new"
    role: Role = Role.HOST
    note: Text = ""
    team: Text = ""
    proven: bool = False
    uses: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    days: Days = 7.0
    project: Text = ""
    """The one project that it is for; a private one needs an invite of its own."""

    @override
    def told(self, answer: InviteMade) -> dict[str, Any]:
        """Return what was asked for, and the new invite's number."""
        return super().told(answer) | {"invite": _number(digest_of(answer.token.encode()))}

    def carry_out(self, desk: Desk) -> InviteMade:
        """Raises `InputError`: what is asked for is for other roles; `Refusal` unknown_project."""
        team = check_team(self.team)
        hosts = self.role in {Role.HOST, Role.TRUSTED}
        if (team or self.uses != 1) and not hosts:
            raise InputError("--team and --uses are for hosts: leave them out, or use --role host.")
        if self.project and not hosts:
            raise InputError("--project is for hosts: leave it out, or use --role host.")
        if self.proven and self.role is not Role.HOST:
            raise InputError("--proven is for --role host: a trusted host needs no record.")
        with desk.opened() as store, store.write() as tx:
            project = tx.projects.find(self.project) if self.project else None
            token = new_invite(
                tx,
                desk.deps,
                self.role,
                note=self.note,
                lifetime_seconds=self.days * _DAY_SECONDS,
                team=team,
                proven=self.proven,
                uses=self.uses,
                project=self.project,
            )
        return InviteMade(
            token,
            self.role,
            self.days,
            self.note,
            team,
            self.proven,
            self.uses,
            self.project,
            "" if project is None else desk.links.attach_link(project).with_invite(token),
        )


class ListInvites(Command[list[InviteShown]], frozen=True):
    """All invites, newest first."""

    words: ClassVar[str] = "invite list"

    def carry_out(self, desk: Desk) -> list[InviteShown]:
        """Read them."""
        with desk.opened() as store, store.read() as tx:
            return [_shown(invite, desk.clock()) for invite in tx.invites.all()]


class RevokeInvite(Command[InviteRevoked], frozen=True):
    """Revoke an invite that is not used up."""

    words: ClassVar[str] = "invite revoke"
    invite: Text
    """Its token, or its number from the list."""

    @override
    def told(self, answer: InviteRevoked) -> dict[str, Any]:
        """Return its number: a token is a secret."""
        is_token = len(self.invite) > INVITE_DIGITS
        return {"invite": _number(digest_of(self.invite.encode()) if is_token else self.invite)}

    def carry_out(self, desk: Desk) -> InviteRevoked:
        """Raises `InputError`: no invite is called so, or several; it is used up."""
        given = self.invite
        with desk.opened() as store, store.write() as tx:
            hashes = [found.token_hash for found in tx.invites.all()]
            wanted = {digest_of(given.encode())} & set(hashes) or {
                found for found in hashes if found.startswith(given)
            }
            if len(wanted) != 1:
                what = "no invite" if not wanted else f"{len(wanted)} invites"
                raise InputError(f"{given!r} matches {what}: see `pleb-coordinator invite list`.")
            if not tx.invites.revoke(wanted.pop()):
                raise InputError("That invite is used up: ban the host instead.")
        return InviteRevoked(revoked=True)


def _number(token_hash: str) -> str:
    return token_hash[:INVITE_DIGITS]


def _shown(invite: Invite, now: float) -> InviteShown:
    state = "expired" if invite.expires_at <= now else "open"
    if invite.revoked:
        state = "revoked"
    elif invite.used >= invite.uses:
        state = "used"
    return InviteShown(
        invite=_number(invite.token_hash),
        role=invite.role,
        state=state,
        note=invite.note,
        created_at=invite.created_at,
        expires_at=invite.expires_at,
        used_at=invite.used_at,
        team=invite.team,
        proven=invite.proven,
        uses=invite.uses,
        used=invite.used,
        project=invite.project,
    )


COMMANDS: Final = (MakeInvite, ListInvites, RevokeInvite)
