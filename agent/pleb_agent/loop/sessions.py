"""The live sides of all attached projects: opened, followed and left as the journal says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.loop.errands import cancel_errands
from pleb_agent.loop.session import Session
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.parts import Parts

__all__ = ["Sessions"]


class Sessions:
    """`give_back` hands a session's units back, as far as its coordinator can be reached."""

    def __init__(
        self,
        parts: Parts,
        give_back: Callable[[Session], Awaitable[None]],
        on_left: Callable[[ProjectRow], None],
    ) -> None:
        self._parts = parts
        self._give_back = give_back
        self._on_left = on_left
        self.live: dict[int, Session] = {}
        self.unopened: dict[int, str] = {}
        """Projects that cannot be opened, for instance without their key, and why."""

    def problems(self) -> dict[int, str]:
        """Return what is wrong with each project, empty for those that work."""
        return {number: one.problem for number, one in self.live.items()} | self.unopened

    def due(self, now: float) -> list[Session]:
        """Return those whose turn it may be now: none of theirs is under way."""
        return [one for one in self.live.values() if not one.is_busy and one.next_look_at <= now]

    def next_look_at(self) -> float | None:
        """Return when the next one is due by time alone; None: all have something under way."""
        times = [one.next_look_at for one in self.live.values() if not one.is_busy]
        return min(times, default=None)

    async def follow(self) -> None:
        """Open sessions for projects that were attached, leave those that are to be left."""
        rows = {row.id: row for row in self._parts.journal.projects()}
        self.unopened.clear()
        for number, row in rows.items():
            if row.detaching:
                await self._leave(row)
            elif number not in self.live:
                self._try_to_open(row)
        for number in set(self.live) - set(rows):
            await self._end(self.live.pop(number))

    async def close(self) -> None:
        """Break off what is under way and close the connections."""
        await cancel_errands(self.live.values())
        for session in self.live.values():
            await session.client.close()

    def _try_to_open(self, row: ProjectRow) -> None:
        try:
            key = self._parts.keys.load(row.host_key_file)
            client = self._parts.make_client(row.attach_link)
        except InputError as error:
            self.unopened[row.id] = str(error)
        else:
            self.live[row.id] = Session.open(row, key, client)

    async def _leave(self, row: ProjectRow) -> None:
        """Give units back, then forget the project."""
        if row.id not in self.live:
            self._try_to_open(row)
        session = self.live.pop(row.id, None)
        self.unopened.pop(row.id, None)
        if session is not None:
            await cancel_errands([session])
            await self._give_back(session)
            await session.client.close()
            self._parts.cache.discard_all_of(session.cipher)
        self._parts.journal.remove_project(row.id)
        self._parts.keys.forget(row.host_key_file, row.account_key_file)
        self._on_left(row)
        if not self._parts.journal.projects():
            self._parts.cache.clear()

    async def _end(self, session: Session) -> None:
        await cancel_errands([session])
        await session.client.close()
