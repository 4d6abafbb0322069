"""invite: the operator creates a token for a trusted host, a publisher or an administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_coordinator.core.records import Invite
from pleb_shared.protocol.ids import digest_of

if TYPE_CHECKING:
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.messages import Role

__all__ = ["new_invite"]


def new_invite(
    tx: Transaction, deps: Deps, role: Role, *, note: str = "", lifetime_seconds: float
) -> str:
    """Return the token of a new invite; it works once. Only its hash is kept."""
    token = deps.random_bytes(24).hex()
    now = deps.clock()
    tx.invites.add(
        Invite(
            token_hash=digest_of(token.encode()),
            role=role,
            note=note,
            created_at=now,
            expires_at=now + lifetime_seconds,
            used_at=None,
            revoked=False,
        )
    )
    return token
