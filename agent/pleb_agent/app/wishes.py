"""The user's wish, which outlives the process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.app.clock import system_clock
from pleb_agent.core.wish import NO_WISH, UserWish, WishKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.journal.journal import Journal

__all__ = ["Wishes"]

_NAME: Final = "wish"
_LONGEST_BOOST_SECONDS: Final = 31 * 86_400.0


class Wishes:
    """Reads and writes the wish in the journal; keeps a copy in memory.

    `clock`: seconds since 1970; `steady`: seconds that no setting of a clock changes.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], float] = system_clock,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._steady = steady
        text = journal.setting(_NAME)
        self._keep(msgspec.json.decode(text, type=UserWish) if text else NO_WISH)

    @property
    def current(self) -> UserWish:
        """The last wish; it may have ended.

        A boost of an hour is one of an hour, also when the clock is set back meanwhile: nobody
        shall work beside the user for longer than he said.
        """
        if self._wish.kind is WishKind.BOOST and self._steady() >= self._ends_at:
            return NO_WISH
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
        self._keep(wish)

    def _keep(self, wish: UserWish) -> None:
        self._wish = wish
        left_seconds = 0.0 if wish.until is None else wish.until - self._clock()
        self._ends_at = self._steady() + min(left_seconds, _LONGEST_BOOST_SECONDS)
