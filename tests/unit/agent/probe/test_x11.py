"""The X11 client against a server that speaks byte by byte what the standard says."""

from __future__ import annotations

import select
import struct
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pleb_agent.dbus.stream import ServiceError, ServiceLost, ServiceMissing
from pleb_agent.probe.x11 import X11Backend, refuse_xwayland
from pleb_agent.probe.x11_place import (
    NO_COOKIE,
    Cookie,
    authority_file,
    find_cookie,
    parse_display,
)
from pleb_agent.probe.x11_wire import X11Connection
from tests.unit.agent.probe.fake_x import (
    ALARM_EVENT,
    IDLE_COUNTER,
    PROPERTY_NOTIFY,
    ROOT,
    SYNC,
    XWAYLAND,
    FakeX,
    fake_x,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACTIVE, STATE, FULLSCREEN = "_NET_ACTIVE_WINDOW", "_NET_WM_STATE", "_NET_WM_STATE_FULLSCREEN"
CREATE_ALARM, ATTRIBUTES, PROPERTY_CHANGE = 8, 2, 1 << 22


@pytest.fixture
def server() -> Iterator[FakeX]:
    with fake_x() as running:
        yield running


def connect(server: FakeX, cookie: Cookie = NO_COOKIE) -> X11Connection:
    server.start()
    return X11Connection(server.place, cookie)


def property_notice(server: FakeX, window: int, name: str) -> bytes:
    return struct.pack("<BBHII", PROPERTY_NOTIFY, 0, 0, window, server.atoms[name])


def take(backend: X11Backend) -> None:
    assert select.select([backend], [], [], 5)[0], "nothing comes"
    backend.take()


def test_the_cookie_is_shown_and_the_root_is_found(server: FakeX) -> None:
    with closing(connect(server, Cookie("MIT-MAGIC-COOKIE-1", b"0123456789abcdef"))) as x:
        assert server.cookie == b"0123456789abcdef"
        assert x.root == ROOT
        assert [x.new_id(), x.new_id()] == [0x200001, 0x200002]


def test_a_refusal_says_why(server: FakeX) -> None:
    server.refuses_with = "Authorization required"
    with pytest.raises(
        ServiceError, match=r"refused the connection: Authorization required\."
    ) as raised:
        connect(server)
    assert not isinstance(raised.value, ServiceMissing)


def test_idle_time_and_its_alarm(server: FakeX) -> None:
    server.idle_milliseconds = 90_000
    with closing(X11Backend(connect(server))) as backend:
        assert backend.idle_seconds() == 90
        server.idle_milliseconds = (1 << 32) + 500  # after 49.7 days
        assert backend.idle_seconds() == pytest.approx((1 << 32) / 1000 + 0.5)
        alarms = [sent for sent in server.sent if sent[:2] == bytes([SYNC, CREATE_ALARM])]
        (alarm,) = alarms
        _, mask, counter, kind, high, low, test, *delta, events = struct.unpack(
            "<IIIIiIIiII", alarm[2:]
        )
        assert (mask, counter, kind) == (0b111111, IDLE_COUNTER, 0)
        assert (high, low, test, delta, events) == (0, 5000, 1, [0, 0], 1)


def test_news_that_come_along_with_an_answer_are_not_lost(server: FakeX) -> None:
    with closing(X11Backend(connect(server))) as backend:
        name, state = server.atoms[ACTIVE], server.atoms[STATE]
        server.properties[ROOT, name] = (7,)
        server.properties[7, state] = (server.atoms[FULLSCREEN],)
        server.before_answer.append(property_notice(server, ROOT, ACTIVE))
        backend.idle_seconds()
        assert backend.fullscreen


def test_an_alarm_wakes(server: FakeX) -> None:
    server.idle_milliseconds = 60_000
    with closing(X11Backend(connect(server))) as backend:
        assert backend.idle_seconds() == 60
        server.idle_milliseconds = 0
        server.say(bytes([ALARM_EVENT]))
        take(backend)
        assert backend.idle_seconds() == 0


def test_full_screen_follows_the_active_window(server: FakeX) -> None:
    with closing(X11Backend(connect(server))) as backend:
        name, state = server.atoms[ACTIVE], server.atoms[STATE]
        fills, other = server.atoms[FULLSCREEN], 99
        server.properties |= {(7, state): (other, fills), (8, state): (other,)}
        for active, expected in [(7, True), (8, False), (7, True), (9, False), (0, False)]:
            server.properties[ROOT, name] = (active,)
            server.say(property_notice(server, ROOT, ACTIVE))
            take(backend)
            assert backend.fullscreen is expected, active
        backend.idle_seconds()  # everything before it has been heard
        masks = dict(
            struct.unpack_from("<I4xI", sent, 2) for sent in server.sent if sent[0] == ATTRIBUTES
        )
        assert masks == {ROOT: PROPERTY_CHANGE, 7: 0, 8: 0, 9: 0}


def test_an_active_window_that_has_just_closed_is_no_full_screen(server: FakeX) -> None:
    with closing(X11Backend(connect(server))) as backend:
        server.properties[ROOT, server.atoms[ACTIVE]] = (7,)
        server.bad_windows.add(7)
        server.say(property_notice(server, ROOT, ACTIVE))
        take(backend)
        assert not backend.fullscreen


def test_a_server_without_the_counter_cannot_be_read(server: FakeX) -> None:
    del server.counters["IDLETIME"]
    with closing(connect(server)) as x, pytest.raises(ServiceError, match="IDLETIME"):
        X11Backend(x)


def test_xwayland_is_refused_by_its_extension(server: FakeX) -> None:
    server.extensions["XWAYLAND"] = XWAYLAND
    with closing(connect(server)) as x, pytest.raises(ServiceError, match="belongs to a Wayland"):
        refuse_xwayland(x)


def test_an_older_xwayland_is_refused_by_the_name_of_its_output(server: FakeX) -> None:
    server.output_name = "XWAYLAND0"
    with closing(connect(server)) as x, pytest.raises(ServiceError, match="belongs to a Wayland"):
        refuse_xwayland(x)


@pytest.mark.parametrize("extensions", [{"SYNC": SYNC}, {"SYNC": SYNC, "RANDR": 140}])
def test_a_real_server_is_not_refused(server: FakeX, extensions: dict[str, int]) -> None:
    server.extensions = extensions
    with closing(connect(server)) as x:
        refuse_xwayland(x)


def test_a_server_that_ends_is_lost(server: FakeX) -> None:
    with closing(X11Backend(connect(server))) as backend:
        server.hang_up()
        with pytest.raises(ServiceLost, match="has ended"):
            take(backend)


def test_a_server_that_sends_invalid_data_is_lost(server: FakeX) -> None:
    with closing(X11Backend(connect(server))) as backend:
        server.say(struct.pack("<BBHI", 1, 0, 0, 0xFFFFFFFF))  # a reply of 16 GiB
        with pytest.raises(ServiceLost, match="invalid data"):
            take(backend)


@pytest.mark.parametrize(
    ("name", "number"),
    [(":0", 0), (":1.0", 1), ("unix:3", 3), ("unix/:4.1", 4), (":12", 12)],
)
def test_displays_on_this_pc(name: str, number: int) -> None:
    place = parse_display(name)
    assert place.number == number
    assert place.addresses == (f"\0/tmp/.X11-unix/X{number}", f"/tmp/.X11-unix/X{number}")


@pytest.mark.parametrize("name", ["localhost:10.0", "host:0", "[::1]:0", "", ":", ":x", ":0.0.0"])
def test_displays_elsewhere_are_not_ours(name: str) -> None:
    with pytest.raises(ServiceMissing, match="not on this PC"):
        parse_display(name)


def entry(family: int, address: bytes, number: bytes, name: bytes, secret: bytes) -> bytes:
    fields = (address, number, name, secret)
    return struct.pack(">H", family) + b"".join(
        struct.pack(">H", len(field)) + field for field in fields
    )


COOKIE = b"MIT-MAGIC-COOKIE-1"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (entry(256, b"me", b"1", COOKIE, b"right"), b"right"),
        (entry(256, b"me", b"", COOKIE, b"right"), b"right"),
        (entry(65535, b"", b"1", COOKIE, b"right"), b"right"),
        (entry(256, b"other", b"1", COOKIE, b"wrong"), b""),
        (entry(256, b"me", b"2", COOKIE, b"wrong"), b""),
        (entry(0, b"\x7f\0\0\x01", b"1", COOKIE, b"wrong"), b""),
        (entry(256, b"me", b"1", b"XDM-AUTHORIZATION-1", b"wrong"), b""),
        (
            entry(256, b"me", b"2", COOKIE, b"no") + entry(256, b"me", b"1", COOKIE, b"right"),
            b"right",
        ),
        (entry(256, b"me", b"1", COOKIE, b"torn")[:-1], b""),
        (b"\x01", b""),
        (b"\x01\x00\xff\xff", b""),
        (b"", b""),
    ],
)
def test_the_cookie_of_the_display(tmp_path: Path, content: bytes, expected: bytes) -> None:
    file = tmp_path / "authority"
    file.write_bytes(content)
    found = find_cookie(str(file), parse_display(":1"), host="me")
    assert found == (Cookie(COOKIE.decode(), expected) if expected else NO_COOKIE)


def test_where_the_cookies_are(tmp_path: Path) -> None:
    assert authority_file({"XAUTHORITY": "/run/x", "HOME": "/home/me"}) == "/run/x"
    assert authority_file({"HOME": "/home/me"}) == "/home/me/.Xauthority"
    assert find_cookie(str(tmp_path / "none"), parse_display(":1")) == NO_COOKIE
