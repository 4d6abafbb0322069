"""Which way of watching is taken where."""

from __future__ import annotations

import pytest

from pleb_agent.probe.backend import CannotRead, NotHere, SessionLost
from pleb_agent.probe.choice import WAYS, Way, choose, look_around
from pleb_agent.probe.lines import NOBODY_LINE, Line
from pleb_agent.probe.linux import look_around_linux
from pleb_agent.probe.surroundings import GraphicalSession, Surroundings
from tests.unit.agent.probe.fake_compositor import fake_compositor
from tests.unit.agent.probe.test_watch import Clock, FakeBackend

CLOCK = Clock()
NO_BUS = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent/bus"}


def way(method: str, outcome: CannotRead | None) -> Way:
    def open_(_around: Surroundings, _clock: object) -> FakeBackend:
        if outcome is not None:
            raise outcome
        backend = FakeBackend(CLOCK)
        backend.method = method
        return backend

    return Way(method, "because", open_)


HERE, ABSENT = None, NotHere("not here")
REFUSED, LOST = CannotRead("refused."), SessionLost("lost.")
X11 = Surroundings("linux", display=":0")
EMPTY = Surroundings("linux")
LOGGED_OUT = Surroundings("linux", display=":0", sessions=())
LOGGED_IN = Surroundings("linux", sessions=(GraphicalSession("wayland", ""),))


@pytest.mark.parametrize(
    ("around", "outcomes", "expected"),
    [
        (X11, [HERE, HERE], "A"),
        (X11, [ABSENT, HERE], "B"),
        (X11, [REFUSED, HERE], "B"),
        (X11, [REFUSED, ABSENT], Line("unreadable", "A", problem="refused.")),
        (X11, [ABSENT, LOST], Line("unreadable", "B", problem="lost.")),
        (X11, [ABSENT, ABSENT], "unreadable"),
        (LOGGED_IN, [ABSENT, ABSENT], "unreadable"),
        (LOGGED_OUT, [ABSENT, ABSENT], NOBODY_LINE),
        (LOGGED_OUT, [ABSENT, REFUSED], Line("unreadable", "B", problem="refused.")),
        (EMPTY, [ABSENT, ABSENT], NOBODY_LINE),
    ],
)
def test_the_first_way_that_works_is_taken(
    around: Surroundings, outcomes: list[CannotRead | None], expected: str | Line
) -> None:
    ways = tuple(way(name, outcome) for name, outcome in zip("AB", outcomes, strict=True))
    choice = choose(around, CLOCK, ways)
    if isinstance(choice.result, Line):
        assert expected in (choice.result, choice.result.kind)
        assert choice.result == NOBODY_LINE or choice.result.problem.endswith((".", "?"))
        assert len(choice.tried) == 2
    else:
        assert choice.result.method == expected
        assert choice.tried[-1][1] == "works"


@pytest.mark.parametrize(
    ("around", "method", "sentence"),
    [
        (Surroundings("linux", display=":0", compositor="/run/wayland-0"), "X11", "only part"),
        (EMPTY, "X11", "no X11 session"),
        (EMPTY, "Wayland", "no Wayland session"),
        (EMPTY, "GNOME", "no session"),
        (EMPTY, "Windows", "not Windows"),
        (EMPTY, "macOS", "not macOS"),
    ],
)
def test_ways_that_have_nothing_to_watch_say_so(
    around: Surroundings, method: str, sentence: str
) -> None:
    (asked,) = [each for each in WAYS if each.method == method]
    with pytest.raises(NotHere, match=sentence):
        asked.open(around, CLOCK)


def test_a_wayland_compositor_is_found_by_the_whole_table() -> None:
    with fake_compositor(("wl_seat", 1), ("ext_idle_notifier_v1", 1)) as compositor:
        around = Surroundings("linux", display=":0", compositor=compositor.path)
        choice = choose(around, CLOCK)
        assert not isinstance(choice.result, Line)
        assert choice.result.method == "Wayland"
        choice.result.close()
        assert [tried.method for tried, _ in choice.tried][-1] == "Wayland"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"DISPLAY": ":1"}, {"display": ":1", "compositor": ""}),
        ({"DISPLAY": "localhost:10.0"}, {"display": ""}),  # ssh -X
        ({"WAYLAND_DISPLAY": "wayland-7"}, {"compositor": "{folder}/wayland-7"}),
        ({"WAYLAND_DISPLAY": "/elsewhere/w"}, {"compositor": "/elsewhere/w"}),
        ({"XDG_SESSION_TYPE": "wayland"}, {"compositor": "{folder}/wayland-0"}),
        ({}, {"compositor": "", "display": "", "session_bus": "unix:path={folder}/bus"}),
        ({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/b"}, {"session_bus": "unix:path=/b"}),
        ({"XAUTHORITY": "/a"}, {"authority": "/a", "sessions": None}),
    ],
)
def test_what_the_environment_tells(
    variables: dict[str, str], expected: dict[str, str | None]
) -> None:
    with fake_compositor() as compositor:
        folder = compositor.path.rpartition("/")[0]
        around = look_around_linux(NO_BUS | {"XDG_RUNTIME_DIR": folder} | variables, "linux")
        wanted = {
            name: value.format(folder=folder) if value else value
            for name, value in expected.items()
        }
        assert {name: getattr(around, name) for name in wanted} == wanted


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_windows_and_macos_have_no_buses(platform: str) -> None:
    assert look_around({"DISPLAY": ":0"}, platform) == Surroundings(platform)
    assert not Surroundings(platform).has_buses
