"""The user's input in KDE: a real KWin in a window of a virtual X server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pleb_agent.core.readings import PresenceKind
from tests.system.desktop import (
    Compositor,
    XServer,
    clean_environment,
    kwin,
    session_bus,
    until,
    x_server,
)
from tests.system.services import service
from tests.system.watched import watched

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

POLICY = "org.kde.Solid.PowerManagement.PolicyAgent"
POLICY_PATH = "/org/kde/Solid/PowerManagement/PolicyAgent"


@pytest.fixture
def server() -> Iterator[XServer]:
    with x_server(options=["-ac"]) as running:
        yield running


@pytest.fixture
def compositor(server: XServer) -> Iterator[Compositor]:
    with kwin(server) as running:
        yield running


def test_every_first_input_is_reported_at_once_and_the_idle_time_is_right(
    server: XServer, compositor: Compositor
) -> None:
    with watched(clean_environment(**compositor.environment)) as seen:
        seen.until_kind(PresenceKind.READABLE)
        for place in ("100", "200"):
            server.xdotool("mousemove", place, "100")
            last = time.time()
            seen.until_quiet()
            assert abs(seen.presence.last_input_at - last) < 0.6
            before = time.time()
            server.xdotool("mousemove", place, "150")
            after = time.time()
            assert seen.until_input_since(before) < after + 0.5
        assert seen.presence.method == "Wayland"


def test_a_program_that_keeps_the_screen_on_counts_as_full_screen(
    compositor: Compositor,
) -> None:
    with session_bus() as bus, service(bus.address, POLICY) as policy:
        policy.answers[POLICY_PATH, "HasInhibition"] = "b", (True,)
        with watched(clean_environment(**compositor.environment, **bus.environment)) as seen:
            until(lambda: seen.presence.fullscreen, "the film")
            policy.answers[POLICY_PATH, "HasInhibition"] = "b", (False,)
            policy.emit(POLICY_PATH, POLICY, "InhibitionsChanged", "a(ss)as", [], ["player"])
            until(lambda: not seen.presence.fullscreen, "the film's end")
