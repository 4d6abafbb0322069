"""agentd's side of the probe: it believes a good one and outlives every bad one."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from functools import wraps
from itertools import pairwise
from typing import TYPE_CHECKING

import psutil
import pytest

from pleb_agent.core.readings import NO_SESSION, Presence, PresenceKind
from pleb_agent.probe.lines import NO_SESSION_LINE, Line, unreadable
from pleb_agent.sensors.presence import PresenceSensor, ProbeProcess, ProbeTimeouts
from pleb_system.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

NOW = 1_000_000.0
AT_ONCE = Backoff(first_seconds=0.01, longest_seconds=0.02)
PATIENT = ProbeTimeouts(silence_seconds=60, answer_seconds=60, restart=AT_ONCE)
HASTY = ProbeTimeouts(silence_seconds=0.05, answer_seconds=0.5, restart=AT_ONCE)
ACTIVE = Line("readable", "X11", 0.0)

PRELUDE = """
import sys, time
def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()
def wait():
    sys.stdin.read()
"""


def in_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Run an asynchronous test in an event loop of its own."""

    @wraps(test)
    def run(**values: object) -> None:
        asyncio.run(test(**values))

    return run


class World:
    def __init__(
        self, script: str, timeouts: ProbeTimeouts, command: list[str] | None = None
    ) -> None:
        self.now = NOW
        self.awake = 77.0
        self.news: list[Presence] = []
        self.sensor = PresenceSensor(
            lambda: self.news.append(self.sensor.presence),
            command=command or [sys.executable, "-I", "-S", "-c", PRELUDE + script],
            clock=lambda: self.now,
            steady=lambda: self.awake,
            timeouts=timeouts,
        )

    async def until(self, happens: Callable[[], object], what: str) -> None:
        try:
            async with asyncio.timeout(60):
                while not happens():  # noqa: ASYNC110 - on_change is what is being tested
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"{what} did not happen; news: {self.news}")

    async def until_news(self, count: int) -> list[Presence]:
        await self.until(lambda: len(self.news) >= count, f"{count} news")
        return self.news


@asynccontextmanager
async def probe(script: str, timeouts: ProbeTimeouts = PATIENT) -> AsyncIterator[World]:
    world = World(script, timeouts)
    task = asyncio.create_task(world.sensor.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert world.sensor.pid is None


def texts(*lines: Line) -> list[str]:
    return [line.encode().decode() for line in lines]


def says(*lines: Line) -> str:
    return f"say({''.join(texts(*lines))!r})\n"


@in_loop
async def test_before_the_first_line_the_pc_counts_as_in_use() -> None:
    async with probe("wait()") as world:
        assert world.sensor.presence.kind is PresenceKind.UNREADABLE
        assert world.sensor.presence.problem
        assert world.news == []


@in_loop
async def test_the_last_input_is_on_our_clock() -> None:
    script = says(Line("readable", "X11", 90.0, locked=True, fullscreen=True)) + "wait()"
    async with probe(script) as world:
        (presence,) = await world.until_news(1)
        assert presence == Presence(
            PresenceKind.READABLE, NOW - 90, locked=True, fullscreen=True, method="X11"
        )


@pytest.mark.parametrize("set_by", [8 * 3600.0, -8 * 3600.0, 50 * 365 * 86_400.0])
@in_loop
async def test_setting_the_clock_changes_no_idle_time(set_by: float) -> None:
    """A PC without a battery for its clock begins in 1970; a network gives it the time later."""
    async with probe(says(Line("readable", "X11", 5.0)) + "wait()") as world:
        await world.until_news(1)
        world.now += set_by
        assert world.now - world.sensor.presence.last_input_at == 5.0
        world.now, world.awake = world.now + 60, world.awake + 60
        assert world.now - world.sensor.presence.last_input_at == 65.0


@in_loop
async def test_sleep_does_not_count_as_idle_time() -> None:
    async with probe(says(Line("readable", "X11", 5.0)) + "wait()") as world:
        await world.until_news(1)
        world.now += 8 * 3600  # asleep: no second of it was spent awake
        assert world.now - world.sensor.presence.last_input_at == 5.0


@in_loop
async def test_a_drifting_clock_changes_nothing() -> None:
    async with probe(says(Line("readable", "X11", 5.0)) + "wait()") as world:
        (first,) = await world.until_news(1)
        world.now, world.awake = world.now + 600.5, world.awake + 600
        assert world.sensor.presence == first


@in_loop
async def test_a_probe_that_floods_takes_neither_memory_nor_time() -> None:
    flood = (
        "for idle in range(10**9):\n"
        f"    sys.stdout.write({ACTIVE.encode().decode()!r}.replace('0.0', str(idle)))\n"
    )
    async with probe(flood) as world:
        await world.until(lambda: any(one.problem for one in world.news), "an end of it")
        told = next(index for index, one in enumerate(world.news) if one.problem)
        assert "floods" in world.news[told].problem
        assert told < 1000


@in_loop
async def test_a_flood_is_read_no_faster_than_it_is_taken(tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"""
import sys
for number in range(10**6):
    print('x' * 4000, flush=True)
    open({str(count)!r}, 'w').write(str(number))
"""
    process = ProbeProcess([sys.executable, "-c", script], None)
    await asyncio.sleep(1)
    written = int(count.read_text() or 0)
    assert written <= 16 + 40  # those that wait, and what a pipe and a buffer hold
    process.end()
    await _ended(process.pid)


async def _ended(pid: int) -> None:
    async with asyncio.timeout(60):
        while psutil.pid_exists(pid):  # noqa: ASYNC110 - only the kernel knows
            await asyncio.sleep(0.01)


@in_loop
async def test_the_same_input_seen_twice_is_no_news() -> None:
    seen = [Line("readable", "X11", idle) for idle in (90.0, 90.3, 89.8)]
    script = says(*seen, Line("readable", "X11", 30.0)) + "wait()"
    async with probe(script) as world:
        first, second = await world.until_news(2)
        assert (first.last_input_at, second.last_input_at) == (NOW - 90, NOW - 30)


@in_loop
async def test_no_session_and_unreadable_are_different() -> None:
    script = says(NO_SESSION_LINE, unreadable("The X server refuses.", "X11")) + "wait()"
    async with probe(script) as world:
        nobody, refused = await world.until_news(2)
        assert nobody == NO_SESSION
        assert refused == Presence(
            PresenceKind.UNREADABLE, problem="The X server refuses.", method="X11"
        )


@in_loop
async def test_a_late_first_line_is_waited_for() -> None:
    async with probe("time.sleep(0.3)\n" + says(ACTIVE) + "wait()") as world:
        (presence,) = await world.until_news(1)
        assert presence.kind is PresenceKind.READABLE


@in_loop
async def test_a_silent_probe_is_asked_and_may_answer() -> None:
    answers = texts(ACTIVE, ACTIVE, Line("readable", "X11", 7.0), ACTIVE)
    script = says(ACTIVE) + (
        f"answers = {answers!r}\n"
        "for command in sys.stdin:\n"
        "    assert command == 'ask\\n'\n"
        "    say(answers.pop(0))\n"
    )
    timeouts = ProbeTimeouts(silence_seconds=0.05, answer_seconds=60, restart=AT_ONCE)
    async with probe(script, timeouts) as world:
        await world.until_news(1)
        pid = world.sensor.pid
        await world.until_news(2)
        assert [presence.last_input_at for presence in world.news[:2]] == [NOW, NOW - 7]
        assert world.sensor.pid == pid


@in_loop
async def test_a_probe_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    script = (
        f"lives = open({str(lives)!r}, 'a'); lives.write('x'); lives.close()\n"
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    )
    script += says(ACTIVE) + "time.sleep(600)\n"
    async with probe(script, HASTY) as world:
        await world.until_news(2)
        pid = world.sensor.pid
        assert [presence.kind for presence in world.news[:2]] == [
            PresenceKind.READABLE,
            PresenceKind.UNREADABLE,
        ]
        assert "hangs" in world.news[1].problem
        await world.until(lambda: len(lives.read_text()) >= 3, "a third life")
        await world.until(lambda: not pid or not psutil.pid_exists(pid), "the end of the first")


@pytest.mark.parametrize(
    ("last_words", "sentence"),
    [
        ("say('rubbish\\n'); wait()", "invalid"),
        ("say('[\"maybe\"]\\n'); wait()", "invalid"),
        ('say(\'{"kind": "readable"}\\n\'); wait()', "invalid"),
        ('say(\'["readable", "X11", "1"]\\n\'); wait()', "invalid"),
        ('say(\'["readable", "X11", 1e300]\\n\'); wait()', "impossible"),
        ('say(\'["readable", "X11", NaN]\\n\'); wait()', "invalid"),
        ('say(\'["readable", "X11", 1, false, false, "", 1]\\n\'); wait()', "invalid"),
        ("sys.stdout.buffer.write(b'\\xff\\n'); sys.stdout.flush(); wait()", "invalid"),
        ("say('x' * 1000000); wait()", "invalid"),
        ("sys.exit(3)", "ended"),
        ("sys.exit(0)", "ended"),
    ],
)
@in_loop
async def test_a_bad_probe_is_reported_and_started_again(last_words: str, sentence: str) -> None:
    async with probe(says(ACTIVE) + last_words) as world:
        news = await world.until_news(4)
        kinds = [presence.kind for presence in news[:4]]
        assert kinds == [PresenceKind.READABLE, PresenceKind.UNREADABLE] * 2
        assert sentence in news[1].problem


@in_loop
async def test_whenever_it_is_cancelled_no_process_is_left() -> None:
    pids: set[int] = set()
    for moment in range(20):
        async with probe(says(unreadable("Gone.", "X11")) + "sys.exit(1)") as world:
            await world.until_news(1)
            pids.add(world.sensor.pid or os.getpid())
            await asyncio.sleep(moment / 1000)
    async with asyncio.timeout(60):
        while any(map(psutil.pid_exists, pids - {os.getpid()})):  # noqa: ASYNC110 - only the kernel knows
            await asyncio.sleep(0.01)


@in_loop
async def test_what_a_probe_said_of_its_session_stays_when_it_ends() -> None:
    script = says(ACTIVE, unreadable("The X server has ended.", "X11")) + "sys.exit(1)"
    async with probe(script) as world:
        await world.until_news(4)
        problems = {presence.problem for presence in world.news}
        assert problems == {"", "The X server has ended."}


@in_loop
async def test_a_probe_that_cannot_start_is_reported() -> None:
    world = World("", PATIENT, ["/nonexistent/python"])
    task = asyncio.create_task(world.sensor.run())
    (presence,) = await world.until_news(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert presence.kind is PresenceKind.UNREADABLE
    assert "does not start" in presence.problem


@in_loop
async def test_the_waits_between_failures_grow(tmp_path: Path) -> None:
    births = tmp_path / "births"
    script = (
        f"births = open({str(births)!r}, 'a'); births.write(str(time.monotonic()) + '\\n')\n"
        "births.close(); sys.exit(1)"
    )
    slow = ProbeTimeouts(restart=Backoff(first_seconds=0.1, longest_seconds=100))
    async with probe(script, slow) as world:
        await world.until(
            lambda: births.exists() and births.read_text().count("\n") >= 4, "four lives"
        )
    times = [float(line) for line in births.read_text().split()]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert all(wait > at_least for wait, at_least in zip(waits, (0.1, 0.2, 0.4), strict=False))


@in_loop
async def test_quick_reports_are_asked_of_the_next_probe_too() -> None:
    line = Line("readable", "{command}").encode().decode()
    script = (
        "for command in sys.stdin:\n"
        f"    say({line!r}.replace('{{command}}', command.strip()))\n"
        "    if command == 'relax\\n': sys.exit(0)\n"
    )
    async with probe(script) as world:
        world.sensor.watch_closely(True)
        await world.until_news(1)
        world.sensor.watch_closely(True)  # no news
        world.sensor.watch_closely(False)
        await world.until_news(2)
        world.sensor.watch_closely(True)
        await world.until(lambda: world.sensor.presence.method == "watch", "the next probe")
        assert [presence.method for presence in world.news[:2]] == ["watch", "relax"]
