"""invite: the operator creates a token for hosts, a publisher or an administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_coordinator.core.records import Invite
from pleb_shared.protocol.ids import digest_of

if TYPE_CHECKING:
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.messages import Role

__all__ = ["new_invite"]


def new_invite(  # noqa: PLR0913 - each is a column of the invite
    tx: Transaction,
    deps: Deps,
    role: Role,
    *,
    note: str = "",
    lifetime_seconds: float,
    team: str = "",
    proven: bool = False,
    uses: int = 1,
    project: str = "",
) -> str:
    """Return the token of a new invite; it works `uses` times. Only its hash is kept.

    Hosts that enrol with it join `team`; with `proven` they need no exams. `project`: the only one
    that it is for.
    """
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
            team=team,
            proven=proven,
            uses=uses,
            used=0,
            project=project,
        )
    )
    return token
