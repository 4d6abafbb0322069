"""What the agent wants of its worker now: on the flag page while there is one, and with a term."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pleb_agent.worker.flags import FlagPage, State, Wish, flag_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Orders"]


class Orders:
    """The wish that holds, written on the page at once, and at most one timer about it."""

    def __init__(self) -> None:
        self.wish = Wish.RUN
        self._share_percent = 100
        self._page: FlagPage | None = None
        self._not_paused = asyncio.Event()
        self._not_paused.set()
        self._timer: asyncio.TimerHandle | None = None

    def prepare(self, work_dir: Path) -> None:
        """Write what a child that starts now finds; to get warm is to compute too."""
        work_dir.mkdir(parents=True, exist_ok=True)
        if self._page is None:
            self._page = FlagPage.create(flag_file(work_dir))
        self._page.state, self._page.wish = State.COMPUTING, self.wish
        self._page.share_percent = self._share_percent

    @property
    def child_computes(self) -> bool:
        """Whether the child says that it computes."""
        return self._page is not None and self._page.state is State.COMPUTING

    async def not_paused(self) -> None:
        """Return when no pause is wanted."""
        await self._not_paused.wait()

    def set(self, wish: Wish) -> None:
        """Want this from now on, without a term."""
        self.disarm()
        self.wish = wish
        self.tell(wish)
        if wish is Wish.PAUSE:
            self._not_paused.clear()
        else:
            self._not_paused.set()

    def tell(self, wish: Wish) -> None:
        """Tell the child this, whatever is wanted."""
        if self._page is not None:
            self._page.wish = wish

    def share(self, percent: int) -> bool:
        """Let the child use this much of its threads' time; returns whether that is new."""
        changed = percent != self._share_percent
        self._share_percent = percent
        if self._page is not None:
            self._page.share_percent = percent
        return changed

    def arm(self, seconds: float, act: Callable[[], None]) -> None:
        """Do `act` after this time, unless something else is wanted before."""
        self.disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, act)

    def disarm(self) -> None:
        """Let the timer rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Unmap the page."""
        self.set(Wish.RUN)
        if self._page is not None:
            self._page.close()
            self._page = None
