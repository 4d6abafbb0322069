"""Waiting for the store to change: hosts without work (long-poll) and open pages (SSE).

One task polls the store, a few microseconds each time, and only while something waits. After a
change one look for each project says what there is to give out, and only hosts that might get it
try: thousands may wait, and most changes bring nothing for them.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import ProjectState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_coordinator.core.records import Host
    from pleb_coordinator.store.transaction import Store, Transaction

__all__ = ["Changes", "Offers", "Waiters"]

POLL_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 2.0
"""Between two looks, although nothing changes: some work becomes free by time alone."""


class Changes:
    """Wakes all waiters after a commit of any process."""

    def __init__(self, store: Store, *, most_waiters: int) -> None:
        self._store = store
        self._most = most_waiters
        self._waiting: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._changes = 0
        self.places_taken = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[bool]:
        """Take a long-poll's place for the duration of the context; False: all are taken."""
        if self.places_taken >= self._most:
            yield False
            return
        self.places_taken += 1
        try:
            yield True
        finally:
            self.places_taken -= 1

    def now(self) -> int:
        """Return a number that grows with every change; ask for it before looking at the store."""
        if self._store.changed():
            self.wake_all()
        return self._changes

    async def after(self, seen: int, seconds: float) -> bool:
        """Wait for a change after `seen` (of `now`); False: `seconds` went by without one."""
        if self.now() != seen:
            return True
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True

    def wake_all(self) -> None:
        """Wake all waiters: something has changed, or the process is stopping."""
        self._changes += 1
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def _watch(self) -> None:
        while self._waiting:
            await asyncio.sleep(POLL_SECONDS)
            self.now()


@dataclass(frozen=True)
class Offers:
    """What a project has to give out."""

    for_all: bool = False
    for_trusted: bool = False
    exams: bool = False
    drawn: frozenset[int] = frozenset()
    """Hosts that something is kept for."""

    def has_drawn(self, host: Host) -> bool:
        """Whether something is kept for this host."""
        return host.id in self.drawn

    def may_suit(self, host: Host) -> bool:
        """Whether the host could get something: looking costs much less than trying."""
        if host.trusted:
            return self.for_trusted
        return self.for_all or (self.exams and not host.proven) or self.has_drawn(host)


def offers_of(tx: Transaction, name: str) -> Offers:
    """Return what the project of that name has to give out."""
    project = tx.projects.find(name)
    if project.state is ProjectState.MOVED:
        return Offers(for_all=True, for_trusted=True)  # all are told where it is now
    exams = bool(tx.units.exams(project.id, project.epoch, project.version))
    if not tx.assignments.unsent_purposes(project.id):
        return Offers(for_trusted=exams, exams=exams)
    for_all, drawn = tx.assignments.unsent_for_all(project.id), tx.assignments.hosts_drawn()
    return Offers(for_all, for_trusted=True, exams=exams, drawn=frozenset(drawn))


@dataclass(eq=False)
class _Waiter:
    """A host that waits; one that is `patient` is woken only by something that is kept for it."""

    host: Host
    patient: bool
    woken: asyncio.Future[None]

    def is_concerned(self, offers: Offers) -> bool:
        return offers.has_drawn(self.host) if self.patient else offers.may_suit(self.host)


@dataclass
class _Queue:
    """The waiting hosts of one project."""

    waiting: set[_Waiter] = field(default_factory=set)
    offers: Offers = field(default_factory=Offers)
    task: asyncio.Task[None] | None = None


class Waiters:
    """Wakes waiting hosts when there is something that they might get, or `closing` is set."""

    def __init__(self, store: Store, changes: Changes, closing: asyncio.Event) -> None:
        self._store = store
        self._changes = changes
        self._closing = closing
        self._queues: dict[str, _Queue] = {}

    async def chance(self, project: str, host: Host, seconds: float, *, patient: bool) -> bool:
        """Wait for up to `seconds`; return whether the host should try to get work.

        One that is `patient` has just tried in vain, and leaves what is there to others.
        """
        queue = self._queues.setdefault(project, _Queue())
        waiter = _Waiter(host, patient, asyncio.get_running_loop().create_future())
        queue.waiting.add(waiter)
        if queue.task is None or queue.task.done():
            queue.task = asyncio.create_task(self._watch(project, queue))
        elif waiter.is_concerned(queue.offers):
            waiter.woken.set_result(None)
        try:
            async with asyncio.timeout(seconds):
                await waiter.woken
        except TimeoutError:
            pass
        finally:
            queue.waiting.discard(waiter)
        return waiter.is_concerned(queue.offers)

    async def _watch(self, project: str, queue: _Queue) -> None:
        """Look after each change, for as long as hosts wait."""
        while queue.waiting:
            seen = self._changes.now()
            with self._store.read() as tx:
                queue.offers = offers_of(tx, project)
            for waiter in queue.waiting:
                concerned = self._closing.is_set() or waiter.is_concerned(queue.offers)
                if concerned and not waiter.woken.done():
                    waiter.woken.set_result(None)
            await self._changes.after(seen, LONGEST_PAUSE_SECONDS)
