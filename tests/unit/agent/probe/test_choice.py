"""Which method of watching is taken where."""

from __future__ import annotations

import pytest

from pleb_agent.dbus.stream import ServiceError, ServiceLost, ServiceMissing
from pleb_agent.probe.choice import METHODS, Method, choose, find_session
from pleb_agent.probe.lines import NO_SESSION_LINE, Line
from pleb_agent.probe.linux import find_linux_session
from pleb_agent.probe.session import DesktopSession, LogindSession
from tests.unit.agent.probe.fake_compositor import fake_compositor
from tests.unit.agent.probe.test_watch import Clock, FakeBackend

CLOCK = Clock()
NO_BUS = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent/bus"}


def method(name: str, outcome: ServiceError | None) -> Method:
    def open_(_session: DesktopSession, _clock: object) -> FakeBackend:
        if outcome is not None:
            raise outcome
        backend = FakeBackend(CLOCK)
        backend.method = name
        return backend

    return Method(name, open_)


HERE, ABSENT = None, ServiceMissing("not here")
REFUSED, LOST = ServiceError("refused."), ServiceLost("lost.")
X11 = DesktopSession("linux", display=":0")
EMPTY = DesktopSession("linux")
LOGGED_OUT = DesktopSession("linux", display=":0", of_logind=())
LOGGED_IN = DesktopSession("linux", of_logind=(LogindSession("wayland", ""),))


@pytest.mark.parametrize(
    ("session", "outcomes", "expected"),
    [
        (X11, [HERE, HERE], "A"),
        (X11, [ABSENT, HERE], "B"),
        (X11, [REFUSED, HERE], "B"),
        (X11, [REFUSED, ABSENT], Line("unreadable", "A", problem="refused.")),
        (X11, [ABSENT, LOST], Line("unreadable", "B", problem="lost.")),
        (X11, [ABSENT, ABSENT], "unreadable"),
        (LOGGED_IN, [ABSENT, ABSENT], "unreadable"),
        (LOGGED_OUT, [ABSENT, ABSENT], NO_SESSION_LINE),
        (LOGGED_OUT, [ABSENT, REFUSED], Line("unreadable", "B", problem="refused.")),
        (EMPTY, [ABSENT, ABSENT], NO_SESSION_LINE),
    ],
)
def test_the_first_method_that_works_is_taken(
    session: DesktopSession, outcomes: list[ServiceError | None], expected: str | Line
) -> None:
    methods = tuple(method(name, outcome) for name, outcome in zip("AB", outcomes, strict=True))
    chosen = choose(session, CLOCK, methods)
    if isinstance(chosen, Line):
        assert expected in (chosen, chosen.kind)
        assert chosen == NO_SESSION_LINE or chosen.problem.endswith((".", "?"))
    else:
        assert chosen.method == expected


@pytest.mark.parametrize(
    ("session", "method", "sentence"),
    [
        (DesktopSession("linux", display=":0", compositor="/run/wayland-0"), "X11", "only part"),
        (EMPTY, "X11", "no X11 session"),
        (EMPTY, "Wayland", "no Wayland session"),
        (EMPTY, "GNOME", "no session"),
        (EMPTY, "Windows", "not Windows"),
        (EMPTY, "macOS", "not macOS"),
    ],
)
def test_ways_that_have_nothing_to_watch_say_so(
    session: DesktopSession, method: str, sentence: str
) -> None:
    (asked,) = [each for each in METHODS if each.name == method]
    with pytest.raises(ServiceMissing, match=sentence):
        asked.open(session, CLOCK)


def test_a_wayland_compositor_is_found_by_the_whole_table() -> None:
    with fake_compositor(("wl_seat", 1), ("ext_idle_notifier_v1", 1)) as compositor:
        session = DesktopSession("linux", display=":0", compositor=compositor.path)
        chosen = choose(session, CLOCK)
        assert not isinstance(chosen, Line)
        assert chosen.method == "Wayland"
        chosen.close()


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
        ({"XAUTHORITY": "/a"}, {"authority": "/a", "of_logind": None}),
    ],
)
def test_what_the_environment_says(
    variables: dict[str, str], expected: dict[str, str | None]
) -> None:
    with fake_compositor() as compositor:
        folder = compositor.path.rpartition("/")[0]
        session = find_linux_session(NO_BUS | {"XDG_RUNTIME_DIR": folder} | variables, "linux")
        wanted = {
            name: value.format(folder=folder) if value else value
            for name, value in expected.items()
        }
        assert {name: getattr(session, name) for name in wanted} == wanted


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_windows_and_macos_have_no_buses(platform: str) -> None:
    assert find_session({"DISPLAY": ":0"}, platform) == DesktopSession(platform)
    assert not DesktopSession(platform).has_buses
