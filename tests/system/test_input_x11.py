"""The user's input on a real X server."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from pleb_agent.core.readings import NO_SESSION, PresenceKind
from pleb_agent.probe.x11_place import NO_COOKIE, parse_display
from pleb_agent.probe.x11_wire import X11Connection
from pleb_agent.sensors.presence import ProbeTimeouts
from pleb_system.backoff import Backoff
from tests.system.desktop import XServer, clean_environment, started, until, x_server
from tests.system.watched import watched
from tests.system.x_window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

QUICK = ProbeTimeouts(restart=Backoff(first_seconds=0.2, longest_seconds=1.0))
MOST_PROBE_BYTES = 16 << 20

AGENTD = """
import pathlib, subprocess, sys, time
from pleb_agent.program.command import module_command
from pleb_agent.sensors.presence import PROBE
probe = subprocess.Popen(module_command(PROBE), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
probe.stdout.readline()
new = pathlib.Path(sys.argv[1] + ".new")
new.write_text(str(probe.pid))
new.rename(sys.argv[1])
time.sleep(60)
"""
"""Starts a probe as agentd does, prints its number, and waits to be killed."""


@pytest.fixture
def server() -> Iterator[XServer]:
    with x_server() as running:
        yield running


@pytest.mark.parametrize("touch", [("mousemove_relative", "3", "3"), ("key", "a"), ("click", "1")])
def test_first_input_after_an_idle_time_is_reported_at_once(
    server: XServer, touch: tuple[str, ...]
) -> None:
    with watched(clean_environment(**server.environment)) as seen:
        seen.until_quiet()
        before = time.time()
        server.xdotool(*touch)
        after = time.time()
        told_at = seen.until_input_since(before)
        assert told_at < after + 0.5
        assert before - 0.05 < seen.presence.last_input_at < after + 0.05
        assert seen.presence.method == "X11"


def test_idle_time_is_right_to_half_a_second(server: XServer) -> None:
    with watched(clean_environment(**server.environment)) as seen:
        seen.until_kind(PresenceKind.READABLE)
        for _ in range(3):  # input that goes on is told every few seconds
            time.sleep(0.7)
            server.xdotool("mousemove_relative", "3", "3")
        last = time.time()
        until(lambda: abs(seen.presence.last_input_at - last) < 0.5, "the last input", 8)
        time.sleep(7)
        assert abs(seen.presence.last_input_at - last) < 0.5


def test_a_server_that_dies_is_unreadable_until_the_next_one_is_there() -> None:
    with x_server() as first:
        environment = clean_environment(**first.environment)
        with watched(environment, timeouts=QUICK) as seen:
            seen.until_kind(PresenceKind.READABLE)
            first.process.kill()
            lost = seen.until_kind(PresenceKind.UNREADABLE)
            assert "X server" in lost.problem or first.display in lost.problem
            first.process.wait()
            with x_server(first.display) as second:
                seen.until_kind(PresenceKind.READABLE)
                seen.until_quiet()
                before = time.time()
                second.xdotool("mousemove_relative", "3", "3")
                seen.until_input_since(before)


def test_a_server_that_hangs_is_unreadable(server: XServer) -> None:
    with watched(clean_environment(**server.environment), timeouts=QUICK) as seen:
        seen.until_kind(PresenceKind.READABLE)
        server.process.send_signal(signal.SIGSTOP)
        try:
            assert "does not answer" in seen.until_kind(PresenceKind.UNREADABLE).problem
        finally:
            server.process.send_signal(signal.SIGCONT)
        seen.until_kind(PresenceKind.READABLE)


def test_a_server_that_refuses_is_unreadable(tmp_path: Path) -> None:
    authority, other = tmp_path / "server", tmp_path / "other"
    for file, cookie in ((authority, "11" * 16), (other, "22" * 16)):
        add = ["xauth", "-f", str(file), "add", ":77", "MIT-MAGIC-COOKIE-1", cookie]
        subprocess.run(add, check=True, capture_output=True)
    with x_server(":77", options=["-auth", str(authority)]) as server:
        wrong = clean_environment(**server.environment, XAUTHORITY=str(other))
        with watched(wrong) as seen:
            until(lambda: seen.news, "the refusal")
            assert seen.presence.kind is PresenceKind.UNREADABLE
            assert "refused the connection" in seen.presence.problem
        with watched(clean_environment(**server.environment, XAUTHORITY=str(authority))) as seen:
            seen.until_kind(PresenceKind.READABLE)


def test_a_window_that_fills_the_screen_is_seen_while_it_is_in_front(server: XServer) -> None:
    with watched(clean_environment(**server.environment)) as seen:
        seen.until_kind(PresenceKind.READABLE)
        with open_window(server) as window:
            window.fill(True)
            assert not seen.presence.fullscreen
            window.come_to_the_front()
            until(lambda: seen.presence.fullscreen, "the full screen")
            window.fill(False)
            until(lambda: not seen.presence.fullscreen, "the full screen's end")
            window.fill(True)
            until(lambda: seen.presence.fullscreen, "the full screen once more")
            window.close()
            until(lambda: not seen.presence.fullscreen, "the window's end")


@contextmanager
def open_window(server: XServer) -> Iterator[Window]:
    connection = X11Connection(parse_display(server.display), NO_COOKIE)
    try:
        yield Window(connection)
    finally:
        connection.close()


def test_without_a_session_that_is_reported(tmp_path: Path) -> None:
    with watched(clean_environment(XDG_RUNTIME_DIR=str(tmp_path))) as seen:
        seen.until_kind(PresenceKind.NO_SESSION)
        assert seen.presence == NO_SESSION


def test_the_probe_ends_with_agentd_however_it_ends(server: XServer, tmp_path: Path) -> None:
    environment = clean_environment(**server.environment)
    place = tmp_path / "pid"
    with started([sys.executable, "-c", AGENTD, str(place)], environment) as agentd:
        probe = int(until(lambda: place.exists() and place.read_text(), "the probe"))
        agentd.kill()
        until(lambda: not psutil.pid_exists(probe), "the probe's end", 5)


def test_the_probe_is_small_and_sleeps_while_nothing_happens(server: XServer) -> None:
    with watched(clean_environment(**server.environment)) as seen:
        seen.until_quiet()
        probe = psutil.Process(seen.sensor.pid)
        before = sum(probe.cpu_times()[:2]), probe.num_ctx_switches().voluntary
        time.sleep(10)
        after = sum(probe.cpu_times()[:2]), probe.num_ctx_switches().voluntary
        assert probe.memory_info().rss < MOST_PROBE_BYTES
        assert after[0] - before[0] <= 0.02  # seconds
        assert after[1] - before[1] <= 5
