"""Whether an invite can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol.messages import Role

if TYPE_CHECKING:
    from collections.abc import Collection

    from pleb_coordinator.core.records import Invite

__all__ = ["check_invite", "check_team"]

_LONGEST_TEAM: Final = 40
_OPERATORS: Final = frozenset({Role.TRUSTED, Role.ADMIN})


def check_invite(
    invite: Invite | None,
    roles: Collection[Role],
    now: float,
    project: str = "",
    *,
    private: bool = False,
) -> Invite:
    """Return the invite if it can be used now for one of the roles, in `project` where it is named.

    Into a private project lead only its own invites, and those by which the operator's own
    machines join all.

    Raises:
        Refusal: `invalid_invite`, with the reason.
    """
    if invite is None:
        reason = "is not known here"
    elif invite.revoked:
        reason = "was revoked"
    elif invite.used >= invite.uses:
        reason = "was used already"
    elif invite.expires_at <= now:
        reason = "has run out"
    elif invite.role not in roles:
        reason = f"is for the role {invite.role!s}"
    elif invite.project not in {"", project} or (
        private and not invite.project and invite.role not in _OPERATORS
    ):
        reason = "is for another project"
    else:
        return invite
    message = f"The invite {reason}: ask the operator for a new one."
    raise Refusal(RefusalCode.INVALID_INVITE, message)


def check_team(name: str) -> str:
    """Return the name of a team without space around it; an empty one is no team.

    Raises:
        InputError: it is too long, or cannot be printed.
    """
    name = name.strip()
    if len(name) > _LONGEST_TEAM or not name.isprintable():
        raise InputError(f"{name!r} is no name for a team: use at most {_LONGEST_TEAM} characters.")
    return name
