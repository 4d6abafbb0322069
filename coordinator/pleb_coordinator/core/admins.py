"""The roles of admins, and which allows what another does."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["AdminRole"]


class AdminRole(StrEnum):
    """What an admin may do; each may do what those before it may."""

    VIEWER = "viewer"
    """Look at everything but invites, admins, and what operators did."""
    PUBLISHER = "publisher"
    """Also what a researcher needs: pause, resume and archive projects, cancel units, roll back."""
    OPERATOR = "operator"
    """Everything."""

    def allows(self, needed: AdminRole) -> bool:
        """Whether who has this role may do what `needed` is the least role for."""
        return _RANK[self] >= _RANK[needed]


_RANK: Final = {role: rank for rank, role in enumerate(AdminRole)}
