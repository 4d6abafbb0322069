"""The loopback server against strangers: other processes of the machine, pages in a browser."""

from __future__ import annotations

import resource
import socket
import time
from contextlib import ExitStack, suppress

import httpx
import psutil
import pytest

from pleb_agent.program import http_server
from pleb_agent.web.server import MOST_CONNECTIONS
from tests.integration.page_server import TOKEN, PageServer

MANY = 3 * MOST_CONNECTIONS
HALF_A_REQUEST = b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


@pytest.fixture
def server():
    server = PageServer().start()
    try:
        yield server
    finally:
        server.stop()


def status_of(server):
    answer = httpx.get(
        f"{server.url}/api/status", headers={"authorization": f"Bearer {TOKEN}"}, timeout=20
    )
    return answer.status_code


def connect(stack, server, sent=b""):
    one = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
    one.sendall(sent)
    return one


def has_closed(one):
    one.settimeout(20)
    try:
        return one.recv(65536) == b""
    except ConnectionResetError:
        return True


def test_a_flood_of_connections_neither_uses_up_files_nor_locks_the_user_out(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * MANY)), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        held = [connect(stack, server, HALF_A_REQUEST) for _ in range(MANY)]
        assert status_of(server) == 200
        assert psutil.Process().num_fds() < len(held) + MOST_CONNECTIONS + 60
        assert has_closed(held[0])


def test_a_stream_stays_however_many_connect(server):
    with ExitStack() as stack:
        head = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}"
        stream = connect(stack, server, f"{head}\r\n\r\n".encode())
        assert b"data: " in _read_until(stream, b"data: ")
        for _ in range(MANY):
            connect(stack, server)
        assert status_of(server) == 200
        server.do(lambda: server.agent.change(reason="on_battery"))
        assert b"on_battery" in _read_until(stream, b"on_battery")


def test_streams_cannot_take_more_than_all_places(server, monkeypatch):
    """Where no connection is idle, it is the newest that goes."""
    monkeypatch.setattr(http_server.BoundedConnection, "most_connections", 5)
    head = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}"
    with ExitStack() as stack:
        streams = [connect(stack, server, f"{head}\r\n\r\n".encode()) for _ in range(5)]
        for stream in streams:
            assert b"data: " in _read_until(stream, b"data: ")
        assert has_closed(connect(stack, server))
        streams.pop().close()
        assert _eventually(lambda: status_of(server) == 200)


def test_a_head_has_a_bounded_size(server):
    with ExitStack() as stack:
        one, sent = connect(stack, server, HALF_A_REQUEST), 0
        with suppress(OSError):
            while sent < 50 * 2**20:
                one.sendall(b"y" * 65536)
                sent += 65536
        assert sent < 50 * 2**20
        assert status_of(server) == 200


def test_a_slow_request_is_dropped_in_time(server, monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.5)
    with ExitStack() as stack:
        slow = connect(stack, server, HALF_A_REQUEST)
        assert _seconds_until_closed(slow) < 20
        silent = connect(stack, server)
        assert has_closed(silent)
        refused = connect(stack, server, b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"403" in _read_until(refused, b"alone")
        assert has_closed(refused)


def _seconds_until_closed(one):
    """Send a letter now and then for as long as somebody listens."""
    begun = time.monotonic()
    with suppress(OSError):
        while time.monotonic() < begun + 20:
            one.sendall(b"x")
            time.sleep(0.05)
    return time.monotonic() - begun


def _eventually(check):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with suppress(httpx.HTTPError):
            if check():
                return True
        time.sleep(0.05)
    return False


def _read_until(one, wanted):
    got, one_end = b"", time.monotonic() + 20
    while wanted not in got and time.monotonic() < one_end:
        got += one.recv(65536)
    return got


@pytest.mark.parametrize(
    "body",
    [
        b'{"changes": {"language": "\xff"}}',
        b'{"changes": {"pause_programs": ' + b"[" * 30_000,
        b"\x00",
        b"[]",
    ],
)
def test_an_invalid_body_gets_a_sentence(server, body):
    answer = httpx.post(
        f"{server.url}/api/preferences", content=body, headers={"authorization": f"Bearer {TOKEN}"}
    )
    assert answer.status_code == 400
    assert "not understood" in answer.json()["message"]


def test_every_origin_counts(server):
    """A browser sends one; whoever sends two wants one of them to be overlooked."""
    with ExitStack() as stack:
        lines = [
            *("GET /api/status HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {TOKEN}"),
            *("Origin: http://127.0.0.1", "Origin: http://evil.example", "Connection: close"),
        ]
        asked = connect(stack, server, "\r\n".join([*lines, "", ""]).encode())
        assert b"403" in _read_until(asked, b"alone")
