"""An icon in an old tray, on a display that the test plays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pleb_agent.tray.look import Command, look_of
from pleb_agent.tray.words import words_in
from pleb_agent.tray.x_display import Event, Happening, event_of, over
from pleb_agent.tray.xembed import OldTray

if TYPE_CHECKING:
    from collections.abc import Callable

SAY = words_in("en")
WORKING = look_of({"activity": "working", "sentence": "So."}, SAY)
PAUSED = look_of({"activity": "paused", "wish": {"kind": "pause"}}, SAY)
TRAY = 77


class Display:
    """As much of `XDisplay` as an old tray uses; atoms are numbered as they are asked for."""

    screen = 0
    root = 1

    def __init__(self, owner: int = TRAY) -> None:
        self.owner = owner
        self.atoms: list[str] = []
        self.windows: list[int] = []
        self.room = (30, 24)
        self.sent: list[tuple[int, tuple[int, ...]]] = []
        self.painted: list[tuple[int, int, int]] = []
        self.names: list[str] = []
        self.waiting: list[Event] = []
        self.closed = False

    def atom(self, name: str) -> int:
        if name not in self.atoms:
            self.atoms.append(name)
        return 100 + self.atoms.index(name)

    def selection_owner(self, atom: int) -> int:
        return self.owner if self.atoms[atom - 100] == "_NET_SYSTEM_TRAY_S0" else 0

    def make_window(self, size: int) -> int:
        self.windows.append(1000 + len(self.windows))
        return self.windows[-1]

    def send(self, window: int, kind: int, numbers: tuple[int, ...]) -> None:
        self.sent.append((window, numbers))

    def size(self, window: int) -> tuple[int, int]:
        return self.room

    def blend(self, window: int, rgba: bytes, width: int, height: int) -> None:
        assert len(rgba) == 4 * width * height
        self.painted.append((window, width, height))

    def set_name(self, window: int, name: str) -> None:
        self.names.append(name)

    def events(self) -> list[Event]:
        taken, self.waiting = self.waiting, []
        return taken

    def close(self) -> None:
        self.closed = True

    def fileno(self) -> int:
        return 5

    def watch(self, window: int, mask: int) -> None: ...

    def set_numbers(self, window: int, name: str, kind: str, numbers: Any) -> None: ...

    def destroy(self, window: int) -> None: ...


def tray_on(display: Display, on_command: Callable[[Command], None] = lambda _: None) -> OldTray:
    return OldTray(display, WORKING, on_command)  # type: ignore[arg-type]


def press(window: int, button: int) -> Event:
    return Event(Happening.BUTTON_PRESS, window, button)


def happen(display: Display, tray: OldTray, *events: Event) -> None:
    display.waiting = list(events)
    tray.turn()


def announcement(display: Display, selection: str = "_NET_SYSTEM_TRAY_S0") -> Event:
    numbers = (display.atom("MANAGER"), 0, display.atom(selection), 0, 0, 0)
    return Event(Happening.CLIENT_MESSAGE, display.root, numbers=numbers)


def test_it_asks_the_tray_to_take_its_window() -> None:
    display = Display()
    tray_on(display)
    assert display.sent == [(TRAY, (0, 0, 1000, 0, 0))]


def test_it_paints_when_it_is_shown_or_resized() -> None:
    display = Display()
    tray = tray_on(display)
    happen(display, tray, Event(Happening.EXPOSE, 1000))
    display.room = (60, 60)
    happen(display, tray, Event(Happening.CONFIGURE, 1000))
    display.room = (8, 8)
    happen(display, tray, Event(Happening.EXPOSE, 1000))

    assert display.painted == [(1000, 24, 24), (1000, 48, 48), (1000, 16, 16)]
    assert display.names[-1] == "Pleb-Cluster: So."


@pytest.mark.parametrize(
    ("button", "command"), [(1, Command.OPEN), (2, Command.PAUSE), (3, Command.OPEN)]
)
def test_clicks(button: int, command: Command) -> None:
    display, clicks = Display(), list[Command]()
    happen(display, tray_on(display, clicks.append), press(1000, button))
    assert clicks == [command]


def test_another_look_is_painted_and_clicked() -> None:
    display, clicks = Display(), list[Command]()
    tray = tray_on(display, clicks.append)
    tray.show(PAUSED)
    happen(display, tray, press(1000, 2))
    assert len(display.painted) == 1
    assert clicks == [Command.RESUME]


def test_windows_of_others_are_nothing_to_us() -> None:
    display, clicks = Display(), list[Command]()
    tray = tray_on(display, clicks.append)
    others = [press(999, 1), *(Event(kind, 999) for kind in (12, 17, 22))]
    happen(display, tray, *others, announcement(display, "WM_S0"))
    assert (clicks, display.painted, display.windows) == ([], [], [1000])


def test_without_a_tray_it_waits_for_one() -> None:
    display = Display(owner=0)
    tray = tray_on(display)
    tray.show(PAUSED)
    assert (display.sent, display.painted) == ([], [])

    display.owner = TRAY
    happen(display, tray, announcement(display))
    assert display.sent == [(TRAY, (0, 0, 1000, 0, 0))]


@pytest.mark.parametrize("gone", [TRAY, 1000])
def test_a_tray_that_goes_is_replaced_by_the_next(gone: int) -> None:
    display = Display()
    tray = tray_on(display)
    display.owner = 78
    happen(display, tray, Event(Happening.DESTROY, gone))
    assert display.sent[1:] == [(78, (0, 0, 1001, 0, 0))]


def test_closing_leaves_the_display() -> None:
    display = Display()
    tray_on(display).close()
    assert display.closed


def test_what_comes_while_it_paints_is_not_missed() -> None:
    """Asking for the size reads from the socket, so `select` would not tell of it."""
    display = Display()
    tray = tray_on(display)
    display.waiting = [Event(Happening.CONFIGURE, 1000)]
    tray.show(PAUSED)
    assert len(display.painted) == 2


@pytest.mark.parametrize(
    ("packet", "event"),
    [
        (
            bytes([4, 3, 1, 0]) + bytes(8) + (1000).to_bytes(4, "little") + bytes(16),
            Event(Happening.BUTTON_PRESS, 1000, button=3),
        ),
        (
            bytes([12, 0, 1, 0]) + (1000).to_bytes(4, "little") + bytes(24),
            Event(Happening.EXPOSE, 1000),
        ),
        (
            bytes([0x80 | 33, 32, 1, 0])
            + b"".join(n.to_bytes(4, "little") for n in (1, 305, 0, 290, 77, 0, 0)),
            Event(Happening.CLIENT_MESSAGE, 1, numbers=(305, 0, 290, 77, 0, 0)),
        ),
        (bytes([28]) + bytes(31), Event(28, 0)),
    ],
)
def test_events_are_read_as_the_protocol_says(packet: bytes, event: Event) -> None:
    assert event_of(packet) == event


@pytest.mark.parametrize(
    ("rgba", "below", "pixel"),
    [
        ((255, 0, 0, 255), (0, 255, 0, 9), (0, 0, 255, 9)),
        ((255, 0, 0, 0), (0, 255, 0, 9), (0, 255, 0, 9)),
        ((255, 255, 255, 51), (0, 0, 0, 0), (51, 51, 51, 0)),
        ((0, 0, 0, 51), (255, 255, 255, 255), (204, 204, 204, 255)),
    ],
)
def test_one_pixel_over_another(
    rgba: tuple[int, ...], below: tuple[int, ...], pixel: tuple[int, ...]
) -> None:
    """The display's channels are blue, green, red, and one that is not used."""
    assert over(bytes(rgba) * 2, bytes(below) * 2) == bytes(pixel) * 2
