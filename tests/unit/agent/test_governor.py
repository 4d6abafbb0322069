"""The governor: what it tells the engine, in which order, and how fast."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from pleb_agent.core.override import NO_OVERRIDE, Override, OverrideKind
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readiness import Action, PolicyReason, WorkerLimits
from pleb_agent.loop.governor import Governor
from pleb_agent.loop.services import Listener
from pleb_agent.loop.status import History
from tests.unit.agent.policy_moments import FREE, GIB, NOW, someone

if TYPE_CHECKING:
    from pleb_agent.loop.services import Engine

IN_USE = replace(FREE, presence=someone(0.0))
FULL = replace(FREE, free_disk_bytes=0)
FREE_LIMITS = WorkerLimits(memory_bytes=4 * GIB)


class Recorder:
    """An engine that writes down what it is told; `pause` takes as long as a step may."""

    pid = None

    def __init__(self, calls, pause_seconds=0.0) -> None:
        self.calls = calls
        self.pause_seconds = pause_seconds

    def limit(self, limits) -> None:
        self.calls.append(limits)

    async def pause(self) -> None:
        self.calls.append("pause")
        await asyncio.sleep(self.pause_seconds)

    async def resume(self) -> None:
        self.calls.append("resume")

    async def request_checkpoint_and_stop(self) -> None:
        self.calls.append("stop")


class Decisions(History):
    """A history that keeps the reasons of decisions among the world's calls."""

    def __init__(self, world: World) -> None:
        self.world = world

    def note(self, kind, sentence, project="") -> None:
        decision = self.world.governor.decision
        assert (kind.value, sentence) == (decision.action.value, decision.sentence)
        self.world.calls.append(decision.reason)


class World(Listener):
    """A governor, what it reads, and everything that it calls, in order."""

    def __init__(self, readings=FREE, preferences=None) -> None:
        self.calls: list[Any] = []
        self.readings = readings
        self.looks = 0
        self.preferences = preferences or Preferences()
        self.governor = Governor(lambda: self.preferences, self.read, Decisions(self), self)
        self.engine = Recorder(self.calls)

    def changed(self) -> None:
        """Hear of a change that people see."""
        self.calls.append("change")

    def read(self):
        self.looks += 1
        return self.readings

    async def settle(self, rounds=10):
        """Let everything that is ready run; no time passes."""
        for _ in range(rounds):
            await asyncio.sleep(0)

    async def see(self, readings):
        """Return the calls that these readings lead to."""
        self.readings = readings
        self.calls.clear()
        self.governor.look_again()
        await self.settle()
        return list(self.calls)


@asynccontextmanager
async def governed(world, *, engine=True):
    task = asyncio.create_task(world.governor.run())
    await world.settle()
    if engine:
        world.governor.control(world.engine)
        await world.settle()
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _may_run(world: World) -> bool:
    return world.governor.may_run


def test_a_free_pc_runs_with_the_limits_of_an_idle_one():
    async def story():
        world = World()
        assert _may_run(world) is False
        assert world.governor.decision.reason is PolicyReason.STARTING
        async with governed(world):
            assert _may_run(world) is True
            assert world.calls == [PolicyReason.READY, "change", FREE_LIMITS, "resume"]
            assert world.governor.next_look_at == NOW + 60

    asyncio.run(story())


def test_input_pauses_at_once_and_before_it_is_reported():
    async def story():
        world = World()
        async with governed(world):
            world.readings = IN_USE
            world.calls.clear()
            world.governor.look_again()
            rounds = 0
            while "pause" not in world.calls:
                await asyncio.sleep(0)
                rounds += 1
            assert rounds <= 5, "turns of the event loop, none of which waits"
            assert not world.governor.may_run
            await world.settle()
            assert world.calls == ["pause", PolicyReason.IN_USE, "change"]
            assert world.governor.next_look_at == NOW + 180

    asyncio.run(story())


def test_work_that_is_not_allowed_waits_until_it_is():
    async def story():
        world = World(IN_USE)
        async with governed(world):
            waiting = asyncio.create_task(world.governor.until_allowed())
            await world.settle()
            assert not waiting.done()
            await world.see(replace(FREE, now=NOW + 300))
            assert waiting.done()

    asyncio.run(story())


def test_a_stop_lets_a_paused_engine_write_its_checkpoint_and_holds_what_comes_next():
    async def story():
        world = World(IN_USE)
        async with governed(world):
            assert await world.see(FULL) == [
                "resume",
                "stop",
                "pause",
                PolicyReason.DISK_FULL,
                "change",
            ]
            assert await world.see(FULL) == []

    asyncio.run(story())


def test_what_stays_the_same_is_not_reported():
    async def story():
        world = World(IN_USE)
        async with governed(world):
            typing = replace(IN_USE, now=NOW + 1, presence=someone(-1.0))
            assert await world.see(typing) == []
            assert world.governor.next_look_at == NOW + 181

    asyncio.run(story())


def test_another_reason_is_reported_but_the_engine_is_left_alone():
    async def story():
        world = World(IN_USE)
        async with governed(world):
            paused = replace(IN_USE, override=Override(OverrideKind.PAUSE))
            assert await world.see(paused) == [PolicyReason.PAUSED_BY_USER, "change"]

    asyncio.run(story())


def test_a_sentence_that_changes_is_shown_but_is_no_event():
    async def story():
        world = World(replace(FREE, override=Override(OverrideKind.PAUSE, NOW + 600)))
        async with governed(world):
            assert await world.see(replace(world.readings, now=NOW + 60)) == ["change"]

    asyncio.run(story())


def test_limits_follow_the_user_while_work_goes_on():
    async def story():
        world = World(preferences=Preferences(while_in_use=True, cpu_percent_in_use=30))
        in_use = WorkerLimits(share_percent=30, memory_bytes=2 * GIB)
        async with governed(world):
            assert await world.see(IN_USE) == [in_use, "change"]
            assert await world.see(IN_USE) == []
            assert await world.see(FREE) == [FREE_LIMITS, "change"]
            world.preferences = Preferences(cpu_percent_idle=70)
            assert (await world.see(FREE))[0] == replace(FREE_LIMITS, share_percent=70)

    asyncio.run(story())


def test_a_restarted_engine_is_paused_like_the_one_before():
    async def story():
        world = World(IN_USE)
        async with governed(world):
            world.calls.clear()
            world.governor.control(cast("Engine", world.engine))
            await world.settle()
            assert world.calls == [WorkerLimits(), "pause"]

    asyncio.run(story())


def test_a_new_engine_has_its_limits_before_it_runs():
    async def story():
        world = World(preferences=Preferences(cpu_percent_idle=10))
        async with governed(world, engine=False):
            world.calls.clear()
            world.governor.control(cast("Engine", world.engine))
            assert world.calls == [replace(FREE_LIMITS, share_percent=10)]

    asyncio.run(story())


def test_a_wish_during_a_slow_pause_holds_after_it():
    async def story():
        world = World()
        world.engine.pause_seconds = 0.05
        async with governed(world):
            await world.see(replace(FREE, override=Override(OverrideKind.PAUSE)))
            assert world.calls == ["pause"]
            world.readings = replace(FREE, override=NO_OVERRIDE)
            world.governor.look_again()
            async with asyncio.timeout(30):
                await world.governor.until_allowed()
            told = [
                "pause",
                PolicyReason.PAUSED_BY_USER,
                "change",
                "resume",
                PolicyReason.READY,
                "change",
            ]
            assert world.calls == told
            assert world.governor.decision.action is Action.RUN

    asyncio.run(story())


def test_it_looks_by_itself_when_time_changes_the_answer():
    async def story():
        world = World(replace(FREE, override=Override(OverrideKind.PAUSE, NOW + 0.1)))
        async with governed(world):
            world.readings = replace(world.readings, now=NOW + 0.2)
            async with asyncio.timeout(30):
                await world.governor.until_allowed()
            assert world.looks == 3, "at the start, for the engine, and at the wish's end"

    asyncio.run(story())


class TimersLoop(asyncio.SelectorEventLoop):
    """An event loop that remembers its timers."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[asyncio.TimerHandle] = []

    def call_at(self, when, callback, *args, context=None) -> asyncio.TimerHandle:  # type: ignore[override]
        self.timers.append(super().call_at(when, callback, *args, context=context))
        return self.timers[-1]


def test_it_does_not_tick():
    async def story(loop):
        world = World(replace(FREE, override=Override(OverrideKind.PAUSE, NOW + 36_000)))
        async with governed(world):
            due = [timer.when() - loop.time() for timer in loop.timers if not timer.cancelled()]
            assert len(due) == 1
            assert 59 < due[0] <= 60, "once a minute, however far the change is"

    with asyncio.Runner(loop_factory=TimersLoop) as runner:
        runner.run(story(runner.get_loop()))
