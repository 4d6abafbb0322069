"""Whether an invite can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_shared.errors import Refusal, RefusalCode

if TYPE_CHECKING:
    from collections.abc import Collection

    from pleb_coordinator.core.records import Invite
    from pleb_shared.protocol.messages import Role

__all__ = ["check_invite"]


def check_invite(invite: Invite | None, roles: Collection[Role], now: float) -> Role:
    """Return the role that the invite gives.

    Raises:
        Refusal: `invalid_invite`, with the reason.
    """
    if invite is None:
        reason = "is not known here"
    elif invite.revoked:
        reason = "was revoked"
    elif invite.used_at is not None:
        reason = "was used already"
    elif invite.expires_at <= now:
        reason = "has run out"
    elif invite.role not in roles:
        reason = f"is for the role {invite.role!s}"
    else:
        return invite.role
    message = f"The invite {reason}: ask the operator for a new one."
    raise Refusal(RefusalCode.INVALID_INVITE, message)
