"""Following signals: what is read when, what wakes the agent, what happens as rules change."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress

from pleb_agent.core.schedule import LocalTime
from pleb_agent.core.signals import NO_RULES, Row, Signal, SignalRules, Test
from pleb_agent.signals.history import SignalHistory
from pleb_agent.signals.watch import SignalWatch


class World:
    """A watch over files, with a clock that the test moves."""

    def __init__(self, folder):
        self.folder = folder
        self.rules = NO_RULES
        self.now = time.time()  # files are as old as they were written
        self.changes = 0
        self.watch = SignalWatch(
            lambda: self.rules,
            SignalHistory(folder / "history.json"),
            self.changed,
            proxy=str,
            clock=lambda: self.now,
            local_time=lambda _: LocalTime(0, 0),
        )

    def changed(self):
        self.changes += 1

    def write(self, name, value):
        (self.folder / name).write_text(str(value))

    def signal(self, name, **more):
        return Signal(name=name, address=str(self.folder / name), every_seconds=2, **more)

    def rule(self, *signals, rows):
        self.rules = SignalRules(signals=signals, rows=tuple(rows))
        self.watch.rules_changed()

    def value(self, name):
        reading = self.watch.latest.get(name)
        return None if reading is None else reading.value


@asynccontextmanager
async def watching(world):
    task = asyncio.create_task(world.watch.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(seen, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not seen():  # noqa: ASYNC110 - what is seen sets no event
            await asyncio.sleep(0.01)


def test_only_what_changes_a_row_wakes_the_agent(tmp_path):
    async def story():
        world = World(tmp_path)
        world.write("price", 0.2)
        async with watching(world):
            world.rule(world.signal("price"), rows=[Row("price", Test.BELOW, 0.25)])
            await until(lambda: world.value("price") == 0.2)
            await until(lambda: world.changes >= 2)
            before = world.changes
            world.write("price", 0.21)
            await until(lambda: world.value("price") == 0.21)
            assert world.changes == before, "the row still says yes"
            world.write("price", 0.3)
            await until(lambda: world.value("price") == 0.3)
            assert world.changes == before + 1
            world.write("price", 0.249)
            await until(lambda: world.value("price") == 0.249)
            assert world.changes == before + 1, "not far enough below to resume"

    asyncio.run(story())


def test_rules_that_change_end_what_they_no_longer_need(tmp_path):
    async def story():
        world = World(tmp_path)
        for name in ("a", "b"):
            world.write(name, 1)
        async with watching(world):
            assert world.watch.latest == {}, "without signals nothing is read"
            world.rule(world.signal("a"), world.signal("b"), rows=[])
            await until(lambda: world.value("a") == world.value("b") == 1.0)
            assert set(world.watch.history) == {"a", "b"}
            world.rule(world.signal("b", unit="W"), rows=[])
            await until(lambda: set(world.watch.latest) == {"b"} and world.value("b") == 1.0)
            assert set(world.watch.history) == {"b"}, "what is forgotten leaves no history"
        assert (tmp_path / "history.json").exists()

    asyncio.run(story())


def test_a_signal_that_comes_back_is_known_again(tmp_path):
    async def story():
        world = World(tmp_path)
        async with watching(world):
            world.rule(world.signal("late"), rows=[Row("late", Test.ABOVE, 1)])
            await until(lambda: "late" in world.watch.latest)
            reading = world.watch.latest["late"]
            assert reading.value is None
            assert "cannot be read" in str(reading.problem)
            assert reading.next_at == world.now + 2
            world.write("late", 5)
            await until(lambda: world.value("late") == 5.0)

    asyncio.run(story())
