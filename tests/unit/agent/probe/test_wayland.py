"""The Wayland client against a compositor that speaks byte by byte what the standard says."""

from __future__ import annotations

import select
import struct
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from pleb_agent.dbus import stream
from pleb_agent.dbus.stream import ServiceError, ServiceLost, ServiceMissing
from pleb_agent.probe import wayland_wire
from pleb_agent.probe.backend import QUIET_SECONDS
from pleb_agent.probe.wayland import WaylandBackend
from pleb_agent.probe.wayland_wire import WaylandConnection, read_string, read_words, write_string
from tests.unit.agent.probe.fake_compositor import FakeCompositor, fake_compositor

if TYPE_CHECKING:
    from collections.abc import Iterator

SEAT, EXT, KWIN = ("wl_seat", 7), "ext_idle_notifier_v1", "org_kde_kwin_idle"
TOPLEVELS = ("zwlr_foreign_toplevel_manager_v1", 3)
MILLISECONDS = int(QUIET_SECONDS * 1000)
WINDOW = 0xFF000000
IDLED, RESUMED, STATE, CLOSED, DESTROY = 0, 1, 4, 6, 7


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def watching(compositor: FakeCompositor, clock: Clock) -> Iterator[WaylandBackend]:
    with closing(WaylandBackend(WaylandConnection(compositor.path), clock)) as backend:
        yield backend


def take(backend: WaylandBackend) -> None:
    assert select.select([backend], [], [], 5)[0], "nothing comes"
    backend.take()


@pytest.mark.parametrize(
    ("offer", "opcode", "arguments"),
    [
        ((EXT, 1), 1, "tn"),  # get_idle_notification(id, timeout, seat)
        ((EXT, 2), 2, "tn"),  # get_input_idle_notification(id, timeout, seat)
        ((EXT, 9), 2, "tn"),
        ((KWIN, 1), 0, "nt"),  # get_idle_timeout(id, seat, timeout)
    ],
)
def test_each_protocol_is_asked_in_its_own_words(
    offer: tuple[str, int], opcode: int, arguments: str
) -> None:
    with fake_compositor(SEAT, offer) as compositor, watching(compositor, Clock()):
        ((target, asked, body),) = compositor.wait_for(1)
        ((seat, _),) = compositor.bound["wl_seat"]
        ((notifier, version),) = compositor.bound[offer[0]]
        assert (target, asked) == (notifier, opcode)
        assert version <= min(offer[1], 2)
        words = struct.unpack("=III", body)[1:]
        assert words == ((MILLISECONDS, seat) if arguments == "tn" else (seat, MILLISECONDS))


def test_the_newer_protocol_goes_first() -> None:
    with fake_compositor(SEAT, (KWIN, 1), (EXT, 1)) as compositor, watching(compositor, Clock()):
        compositor.wait_for(1)
        assert EXT in compositor.bound
        assert KWIN not in compositor.bound


def test_idle_time_runs_from_the_last_input_until_the_next() -> None:
    clock = Clock()
    with fake_compositor(SEAT, (EXT, 2)) as compositor, watching(compositor, clock) as backend:
        ((_, _, body),) = compositor.wait_for(1)
        notification = struct.unpack_from("=I", body)[0]
        assert backend.idle_seconds() == 0
        compositor.say(notification, IDLED)
        take(backend)
        assert backend.idle_seconds() == QUIET_SECONDS
        clock.now += 60
        assert backend.idle_seconds() == QUIET_SECONDS + 60
        compositor.say(notification, RESUMED)
        take(backend)
        assert backend.idle_seconds() == 0


def test_a_pc_with_two_seats_is_idle_when_both_are() -> None:
    clock = Clock()
    with (
        fake_compositor(SEAT, SEAT, (EXT, 2)) as compositor,
        watching(compositor, clock) as backend,
    ):
        requests = compositor.wait_for(2)
        first, second = (struct.unpack_from("=I", body)[0] for _, _, body in requests)
        compositor.say(first, IDLED)
        take(backend)
        assert backend.idle_seconds() == 0
        clock.now += 3
        compositor.say(second, IDLED)
        take(backend)
        assert backend.idle_seconds() == QUIET_SECONDS


def test_full_screen_is_that_of_the_active_window() -> None:
    with (
        fake_compositor(SEAT, (EXT, 1), TOPLEVELS) as compositor,
        watching(compositor, Clock()) as backend,
    ):
        manager, version = compositor.wait_for_binding(TOPLEVELS[0])
        assert version == 2
        compositor.say(manager, 0, struct.pack("=I", WINDOW))
        take(backend)  # or the window and its first state may come in one read or in two
        for states, fills in [((3,), False), ((2, 3), True), ((2,), False), ((0, 2, 3), True)]:
            array = struct.pack(f"=I{len(states)}I", 4 * len(states), *states)
            compositor.say(WINDOW, STATE, array)
            take(backend)
            assert backend.fullscreen is fills, states
        compositor.say(WINDOW, CLOSED)
        take(backend)
        assert not backend.fullscreen
        assert compositor.wait_for(2)[1] == (WINDOW, DESTROY, b"")


@pytest.mark.parametrize(
    ("offers", "sentence"),
    [
        ([SEAT], "does not report"),
        ([(EXT, 1)], "no seat"),
        ([SEAT, ("org_kde_kwin_idle_something", 1)], "does not report"),
    ],
)
def test_a_compositor_that_offers_nothing_cannot_be_read(
    offers: list[tuple[str, int]], sentence: str
) -> None:
    with fake_compositor(*offers) as compositor:
        connection = WaylandConnection(compositor.path)
        with closing(connection), pytest.raises(ServiceError, match=sentence) as raised:
            WaylandBackend(connection, Clock())
        assert not isinstance(raised.value, ServiceMissing)


def test_nothing_listens(tmp_path) -> None:
    with pytest.raises(ServiceMissing):
        WaylandConnection(str(tmp_path / "wayland-0"))


def test_a_silent_compositor_is_lost(monkeypatch) -> None:
    monkeypatch.setattr(wayland_wire, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(stream, "ANSWER_SECONDS", 0.05)
    with fake_compositor(SEAT) as compositor:
        compositor.answers_sync = False
        with pytest.raises(ServiceLost, match="does not answer"):
            WaylandConnection(compositor.path)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (b"", "has ended"),
        (struct.pack("=II", 1, 4 << 16), "invalid data"),  # shorter than its own header
        (struct.pack("=II", 1, 10 << 16) + b"..", "invalid data"),  # no whole words
        (struct.pack("=II", WINDOW, 12 << 16 | STATE) + struct.pack("=I", 400), "invalid data"),
        (
            struct.pack("=IIII", 1, 28 << 16, 9, 3) + write_string("no, no!"),
            "error: no, no!",
        ),
        (struct.pack("=II", 1, 8 << 16), "error: it does not say"),
    ],
)
def test_what_breaks_the_protocol_ends_the_watch(said: bytes, sentence: str) -> None:
    with (
        fake_compositor(SEAT, (EXT, 1)) as compositor,
        watching(compositor, Clock()) as backend,
    ):
        compositor.wait_for(1)
        if said:
            compositor.say_raw(said)
        else:
            compositor.hang_up()
        with pytest.raises(ServiceLost, match=sentence):
            take(backend)


def test_a_message_may_come_in_pieces() -> None:
    clock = Clock()
    with fake_compositor(SEAT, (EXT, 2)) as compositor, watching(compositor, clock) as backend:
        ((_, _, body),) = compositor.wait_for(1)
        message = body[:4] + struct.pack("=I", 8 << 16 | IDLED)
        compositor.say_raw(message[:3])
        take(backend)
        assert backend.idle_seconds() == 0
        compositor.say_raw(message[3:])
        take(backend)
        assert backend.idle_seconds() == QUIET_SECONDS


def test_strings_and_arrays_are_padded_to_words() -> None:
    assert write_string("wl_seat") == b"\x08\0\0\0wl_seat\0"
    assert write_string("seat0") == b"\x06\0\0\0seat0\0\0\0"
    assert read_string(b"\x06\0\0\0seat0\0\0\0rest", 0) == ("seat0", 12)
    assert read_string(b"\0\0\0\0", 0) == ("", 4)
    assert read_words(struct.pack("=III", 8, 2, 3)) == (2, 3)
    for torn in (b"", b"\x06\0", b"\x06\0\0\0sea"):
        with pytest.raises(ServiceLost):
            read_string(torn, 0)
    for torn in (b"", b"\x08\0\0\0\x01\0\0\0", b"\x03\0\0\0\x01\0\0\0"):
        with pytest.raises(ServiceLost):
            read_words(torn)
