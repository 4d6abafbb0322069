"""agentd's small components: listeners, the session's end, notifications, the tray's restarts."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from pleb_agent.app.companions import (
    UserNotifier,
    is_wanted,
    keep_tray,
    watch_clock,
    watch_session,
)
from pleb_agent.control.notifier import ChangeNotifier
from pleb_agent.core.history import Event, EventKind
from pleb_agent.core.preferences import Notifications, Preferences
from pleb_agent.core.readings import NO_SESSION, Presence, PresenceKind
from pleb_agent.core.sentence import say
from pleb_agent.desktop.display import display_address, display_is_there

GONE = Presence(PresenceKind.UNREADABLE, problem="The display is gone.")


def test_a_listener_gets_the_last_value_and_no_value_twice():
    async def story():
        notifier, value, received = ChangeNotifier(), [1], []

        async def listen():
            async for one in notifier.values(lambda: value[0]):
                received.append(one)  # noqa: PERF401 - it is read meanwhile

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0.01)
        for number in (2, 3, 4):  # faster than a listener is woken
            value[0] = number
            notifier.notify()
            await asyncio.sleep(0)
        await asyncio.sleep(0.4)
        notifier.notify()
        await asyncio.sleep(0.4)
        assert received == [1, 4]
        notifier.close()
        await asyncio.wait_for(listening, 30)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, None),
        ({"DISPLAY": ":1"}, "/tmp/.X11-unix/X1"),
        ({"DISPLAY": "unix:1.0"}, "/tmp/.X11-unix/X1"),
        ({"DISPLAY": "localhost:10.0"}, ("localhost", 6010)),
        ({"DISPLAY": "nonsense"}, None),
        ({"WAYLAND_DISPLAY": "wayland-0"}, None),
        (
            {"WAYLAND_DISPLAY": "wayland-0", "XDG_RUNTIME_DIR": "/run/user/1", "DISPLAY": ":0"},
            "/run/user/1/wayland-0",
        ),
        ({"WAYLAND_DISPLAY": "/run/wl", "DISPLAY": ":0"}, "/run/wl"),
    ],
)
def test_where_the_display_listens(environment, address):
    assert display_address(environment) == address


def test_a_display_exists_while_it_accepts_connections(tmp_path):
    path = str(tmp_path / "X1")
    assert not display_is_there(path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert display_is_there(path)
    assert not display_is_there(path)


@pytest.mark.parametrize(
    ("presence", "there", "ends"),
    [(GONE, False, True), (GONE, True, False), (NO_SESSION, False, False)],
)
def test_the_agent_stops_when_its_display_is_gone_for_good(presence, there, ends):
    async def story():
        ended = asyncio.Event()
        watching = asyncio.create_task(
            watch_session(":1", lambda: presence, ended.set, seconds=0.01, is_there=lambda _: there)
        )
        await asyncio.wait({watching}, timeout=5 if ends else 0.3)
        assert ended.is_set() is ends
        watching.cancel()

    asyncio.run(story())


class Shown:
    def __init__(self):
        self.texts = []

    def show(self, title, body):
        self.texts.append(body)
        if body == "broken":
            raise OSError("no server")


def event(kind, text):
    return Event(0.0, kind, "words", say(text))


def test_the_first_accepted_unit_and_what_needs_the_user_are_notified_by_default():
    wanted = [kind for kind in EventKind if is_wanted(kind, Notifications())]
    assert wanted == [EventKind.FIRST_ACCEPTED, EventKind.PROBLEM]

    async def story():
        shown, preferences = Shown(), [Preferences(notifications=Notifications(problem=False))]
        notifier = UserNotifier(lambda: preferences[0], lambda: "en", shown)
        showing = asyncio.create_task(notifier.run())
        notifier.consider(event(EventKind.FIRST_ACCEPTED, "first"))
        notifier.consider(event(EventKind.PROBLEM, "not asked for"))
        preferences[0] = Preferences(
            notifications=Notifications(first_accepted=False, problem=True)
        )
        notifier.consider(event(EventKind.FIRST_ACCEPTED, "not any more"))
        notifier.consider(event(EventKind.PROBLEM, "broken"))
        notifier.consider(event(EventKind.PROBLEM, "after it"))
        while len(shown.texts) < 3:  # noqa: ASYNC110 - another thread fills it
            await asyncio.sleep(0.01)
        showing.cancel()
        assert shown.texts == ["first", "broken", "after it"]

    asyncio.run(asyncio.wait_for(story(), 10))


def test_a_flood_of_events_is_not_a_flood_of_notifications():
    async def story():
        shown = Shown()
        preferences = Preferences(notifications=Notifications(problem=True))
        notifier = UserNotifier(lambda: preferences, lambda: "en", shown)
        for number in range(100):
            notifier.consider(event(EventKind.PROBLEM, str(number)))
        showing = asyncio.create_task(notifier.run())
        await asyncio.sleep(0.2)
        showing.cancel()
        assert 0 < len(shown.texts) < 10

    asyncio.run(story())


@pytest.mark.parametrize(("chosen", "session"), [("de", "en"), ("", "de")])
def test_notifications_are_in_the_users_language(chosen, session):
    async def story():
        shown = Shown()
        notifier = UserNotifier(lambda: Preferences(language=chosen), lambda: session, shown)
        accepted = say("Unit {unit} of {project} was accepted.", unit=1234, project="words")
        notifier.consider(Event(0.0, EventKind.FIRST_ACCEPTED, "words", accepted))
        showing = asyncio.create_task(notifier.run())
        while not shown.texts:  # noqa: ASYNC110 - another thread fills it
            await asyncio.sleep(0.01)
        showing.cancel()
        assert shown.texts == ["Einheit 1234 von words wurde angenommen."]

    asyncio.run(asyncio.wait_for(story(), 10))


def test_the_tray_is_restarted_until_it_exits_with_zero(tmp_path):
    counter = tmp_path / "starts"
    script = (
        "import pathlib, sys; p = pathlib.Path(sys.argv[1]); "
        "p.write_text(p.read_text() + 'x' if p.exists() else 'x'); sys.exit(len(p.read_text()) < 2)"
    )
    command = [sys.executable, "-c", script, str(counter)]
    asyncio.run(asyncio.wait_for(keep_tray(command), 60))
    assert counter.read_text() == "xx"


@pytest.mark.parametrize(
    ("steps", "calls"),
    [
        ([0, 0, 0], 0),
        ([0, 2, 2, 2], 0),  # corrected bit by bit
        ([0, 7200, 0], 1),
        ([0, -7200, 0], 1),
        ([0, 7200, -7200], 2),
    ],
)
def test_a_clock_that_was_set_is_noticed_once(steps, calls):
    """`steps`: by how many seconds the clock is set before each look."""
    ahead, left = [1000.0], [0.0, *steps]
    changed: list[float] = []

    class StoryEndsError(Exception):
        pass

    def clock() -> float:
        if not left:
            raise StoryEndsError
        ahead[0] += left.pop(0)
        return ahead[0]

    async def story() -> None:
        await watch_clock(lambda: changed.append(ahead[0]), clock, lambda: 0.0, seconds=0.0)

    with pytest.raises(StoryEndsError):
        asyncio.run(story())
    assert len(changed) == calls
