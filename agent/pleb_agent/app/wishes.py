"""The user's wish, which outlives the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.wish import NO_WISH, UserWish, WishKind

if TYPE_CHECKING:
    from pleb_agent.journal.journal import Journal

__all__ = ["Wishes"]

_NAME: Final = "wish"


class Wishes:
    """Reads and writes the wish in the journal; keeps a copy in memory."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        text = journal.setting(_NAME)
        self._wish = msgspec.json.decode(text, type=UserWish) if text else NO_WISH

    @property
    def current(self) -> UserWish:
        """The last wish; it may have ended."""
        return self._wish

    def pause(self, until: float | None) -> None:
        """Hold still until a time, or until resumed."""
        self._set(UserWish(WishKind.PAUSE, until))

    def boost(self, until: float) -> None:
        """Run now, until a time."""
        self._set(UserWish(WishKind.BOOST, until))

    def resume(self) -> None:
        """End the wish."""
        self._set(NO_WISH)

    def _set(self, wish: UserWish) -> None:
        self._journal.set_setting(_NAME, msgspec.json.encode(wish).decode())
        self._wish = wish
