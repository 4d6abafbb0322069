"""The coordinator's server against strangers: heads without an end, slow ones, too many."""

from __future__ import annotations

import json
import resource
import socket
import ssl
import threading
import time
from contextlib import ExitStack, suppress

import psutil
import pytest

from pleb_coordinator.api import requests
from pleb_coordinator.home.config import CoordinatorConfig
from pleb_coordinator.web_app import connections
from pleb_coordinator.web_app import server as web_server
from pleb_coordinator.web_app.server import allow_files
from tests.certificates import self_signed
from tests.integration.served import WAIT_SECONDS, read_all, served

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "
BEHIND_A_PROXY = CoordinatorConfig(proxies=("127.0.0.1",))
WORK = b"POST /projects/tiny/work HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def server(tmp_path):
    with served(tmp_path) as running:
        yield running


@pytest.fixture
def every_address_counts(monkeypatch):
    """Loopback is exempt; here its addresses stand for strangers'."""
    monkeypatch.setattr(connections, "subscriber", str)


def refusal_in(answer):
    """Return the status and the refusal; a reset may have eaten both."""
    if not answer:
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


def received(one, last):
    """Return what arrives up to `last`: head and body may come apart."""
    found = b""
    while last not in found:
        part = one.recv(65536)
        assert part, f"it ended after {found!r}"
        found += part
    return found


def closes(one, *, within=WAIT_SECONDS):
    """Whether the server ends the connection although more comes, a letter at a time."""
    end = time.monotonic() + within
    one.settimeout(0.05)
    while time.monotonic() < end:
        with suppress(TimeoutError):
            try:
                if one.recv(65536) == b"":
                    return True
            except ConnectionResetError:
                return True
        with suppress(OSError):
            one.sendall(b"x")
    return False


def rss():
    return psutil.Process().memory_info().rss


@pytest.mark.parametrize(
    "piece",
    [b"X-Header: " + b"y" * 8000 + b"\r\n", b"X" * 8000, b"a: b\r\n" * 1000],
    ids=["many headers", "one endless line", "small headers"],
)
def test_fifty_megabytes_of_headers_are_not_kept(server, piece):
    before, sent = rss(), 0
    with server.connect(b"GET /health HTTP/1.1\r\nHost: x\r\n") as one:
        with suppress(OSError):
            while sent < 50 * 2**20:
                one.sendall(piece)
                sent += len(piece)
        answer = read_all(one)
    assert sent < 50 * 2**20
    assert rss() - before < 30 * 2**20
    found = refusal_in(answer)
    assert found is None or (found[0] == 431 and "head of the request" in found[1]["message"])
    assert server.is_healthy()


def test_a_head_that_is_too_large_gets_a_sentence(server):
    answer = server.ask(HALF + b"y" * 40_000)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "too_large"
    lines = b"".join(b"X-%d: y\r\n" % n for n in range(200))
    assert server.ask(b"GET /health HTTP/1.1\r\nHost: x\r\n" + lines).startswith(b"HTTP/1.1 431 ")
    long_path = b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    assert b" 431 " in server.ask(long_path)[:20]


def test_an_ordinary_large_head_passes(server):
    cookies = b"Cookie: " + b"c" * 8000 + b"\r\n"
    asked = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + cookies * 3 + b"\r\n"
    assert server.ask(asked).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "more", [b"X-Trailer: " + b"y" * 60_000 + b"\r\n", b"a: b\r\n" * 9000, b"T" * 60_000]
)
def test_trailers_count_as_head(server, more):
    head = WORK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
    assert b" 200 " not in server.ask(head + more * 3)[:20]
    assert server.is_healthy()


def test_chunks_of_one_byte_end_soon(server):
    head = WORK + b"Transfer-Encoding: chunked\r\n\r\n"
    assert server.ask(head + b"1;ext=aaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 5000)[:13] != b"HTTP/1.1 200 "
    assert server.is_healthy()


@pytest.mark.parametrize("begun", [b"", b"G", HALF, HEALTH, HEALTH + HALF])
def test_a_slow_head_is_dropped_in_time(server, monkeypatch, begun):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with server.connect(begun) as one:
        assert closes(one)
    assert server.is_healthy()


def test_a_connection_that_is_used_is_not_dropped(server, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with server.connect() as one:
        for _ in range(5):
            one.sendall(HEALTH)
            assert received(one, b"ok\n").startswith(b"HTTP/1.1 200 ")
            time.sleep(0.4)
        time.sleep(0.6)  # idle for longer than a head may take
        one.sendall(HEALTH)
        assert received(one, b"ok\n").startswith(b"HTTP/1.1 200 ")


def test_a_slow_body_is_given_up_with_a_sentence(server, monkeypatch):
    monkeypatch.setattr(requests, "_PATIENCE_SECONDS", 0.3)
    with server.connect(WORK + b"Content-Length: 1000000\r\n\r\nx") as one:
        begun = time.monotonic()
        answer = received(one, b"too slowly")
        assert time.monotonic() - begun < 10
    assert answer.startswith(b"HTTP/1.1 429 ")


def test_a_body_at_the_least_rate_is_taken(server, monkeypatch):
    monkeypatch.setattr(requests, "_PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(requests, "_SLOWEST_BYTES_PER_SECOND", 100)
    with server.connect(WORK + b"Content-Length: 300\r\n\r\n") as one:
        for _ in range(15):  # 1.5 s in all, longer than the patience alone
            one.sendall(b"x" * 20)
            time.sleep(0.1)
        assert one.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_nobody_reads_is_not_taken_for_ever(server, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    head = b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    with server.connect(head) as one:
        assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert closes(one)


def test_requests_before_their_answers_are_bounded(server):
    before = rss()
    with server.connect() as one, suppress(OSError):
        for _ in range(200):
            one.sendall(HEALTH * 1000)
    assert rss() - before < 30 * 2**20
    assert server.is_healthy()


def test_a_few_requests_before_their_answers_are_all_answered(server):
    closing = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert server.ask(HEALTH * 4 + closing).count(b"HTTP/1.1 200 ") == 5


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b"GET\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x00" * 1000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_garbage_gets_a_typed_refusal_and_no_line_in_the_log(server, caplog, garbage):
    answer = server.ask(garbage)
    found = refusal_in(answer)
    assert found is None or (400 <= found[0] < 500 and found[1]["message"])
    assert server.is_healthy()
    assert [one for one in caplog.records if one.levelname in {"ERROR", "CRITICAL"}] == []


def test_an_upgrade_does_not_hold_the_connection(server, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    asked = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    with server.connect(asked) as one:
        assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert closes(one)


def test_an_answer_that_nobody_reads_is_given_up(server, monkeypatch):
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.5)
    asked = b"GET /static/vendor/uPlot.iife.min.js HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(WAIT_SECONDS)
        one.connect(("127.0.0.1", server.port))
        with suppress(OSError):
            for _ in range(200):
                one.sendall(asked)
                time.sleep(0.01)
        end = time.monotonic() + WAIT_SECONDS
        while server.connections.open and time.monotonic() < end:
            time.sleep(0.05)
        assert server.connections.open == 0


def test_half_open_connections_make_room_for_new_ones(tmp_path, every_address_counts):
    config = CoordinatorConfig(connections=100, connections_per_address=1000)
    with served(tmp_path, config) as server, ExitStack() as stack:
        held = [stack.enter_context(server.connect(HALF)) for _ in range(300)]
        assert server.is_healthy()
        assert server.connections.open <= 100
        assert read_all(held[0]) == b""


def test_an_address_has_a_bounded_number_of_connections(tmp_path, every_address_counts):
    config = CoordinatorConfig(connections=1000, connections_per_address=20)
    with served(tmp_path, config) as server, ExitStack() as stack:
        kept = stack.enter_context(server.connect(HALF, "127.0.0.3"))
        for _ in range(100):
            stack.enter_context(server.connect(HALF, "127.0.0.2"))
        assert server.ask(
            HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), "127.0.0.2"
        ).startswith(b"HTTP/1.1 200 ")
        assert server.connections.open <= 21
        kept.sendall(b"\r\n\r\n")
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_an_address_whose_connections_are_all_busy_is_refused_with_a_sentence(
    tmp_path, every_address_counts
):
    config = CoordinatorConfig(connections=1000, connections_per_address=5)
    with served(tmp_path, config) as server, ExitStack() as stack:
        asked = b"GET /projects/tiny/events HTTP/1.1\r\nHost: x\r\n\r\n"
        for _ in range(5):
            one = stack.enter_context(server.connect(asked, "127.0.0.2"))
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
        with server.connect(source="127.0.0.2") as more:
            found = refusal_in(read_all(more))
        assert found is not None
        assert found[0] == 429
        assert "too many connections" in found[1]["message"]
        assert server.is_healthy()


def test_loopback_may_have_them_all(tmp_path):
    """A reverse proxy has."""
    config = CoordinatorConfig(connections=1000, connections_per_address=5)
    with served(tmp_path, config) as server, ExitStack() as stack:
        for _ in range(50):
            one = stack.enter_context(server.connect(HEALTH))
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_event_streams_are_bounded_for_each_address_and_in_all(tmp_path):
    asked = b"GET /projects/tiny/events HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: %s\r\n\r\n"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3000)), hard))
    with served(tmp_path, BEHIND_A_PROXY) as server, ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for number in range(10):
            for _ in range(50):
                one = stack.enter_context(server.connect(asked % (b"203.0.113.%d" % number)))
                assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
            if number == 0:
                with server.connect(asked % b"203.0.113.0") as refused:
                    answer = received(refused, b"at your network address")
                assert answer.startswith(b"HTTP/1.1 429 ")
        with server.connect(asked % b"203.0.113.99") as refused:
            answer = received(refused, b"Too many pages are open")
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert server.is_healthy()
        stack.close()
        end = time.monotonic() + WAIT_SECONDS
        while server.connections.open and time.monotonic() < end:
            time.sleep(0.05)
        with server.connect(asked % b"203.0.113.0") as again:  # closed pages gave their places back
            assert again.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_strangers_all_at_once_do_not_keep_a_host_waiting(server):
    stop = threading.Event()

    def attack(sent):
        while not stop.is_set():
            with suppress(OSError):
                server.ask(sent)

    attacks = [b"\x00" * 100, HALF + b"y" * 40_000, WORK + b"Content-Length: 3\r\n\r\nabc"]
    threads = [threading.Thread(target=attack, args=(sent,)) for sent in attacks]
    for thread in threads:
        thread.start()
    try:
        assert all(server.is_healthy() for _ in range(50))
    finally:
        stop.set()
        for thread in threads:
            thread.join(WAIT_SECONDS)


@pytest.mark.parametrize(
    ("limits", "allowed", "raised"),
    [
        ((1024, 2**20), 5000, 5000),
        ((1024, 3000), 3000, 3000),
        ((2**20, 2**20), 5000, None),
        ((1024, resource.RLIM_INFINITY), 5000, 5000),
    ],
)
def test_the_process_raises_its_own_limit_of_files(monkeypatch, limits, allowed, raised):
    """Most systems start it with 1,024, of which connections alone may need four times as many."""
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: asked.append(pair[0]))
    assert allow_files(5000) == allowed
    assert asked == ([] if raised is None else [raised])


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_tls_handshake_has_a_time(tmp_path, monkeypatch, sent):
    """Until it is done, nobody knows the connection, and it has taken a file already."""
    monkeypatch.setattr(web_server, "_HANDSHAKE_SECONDS", 0.5)
    self_signed(tmp_path)
    with served(tmp_path, certificate=tmp_path / "tls.pem") as server:
        with server.connect(sent) as one:
            assert len(read_all(one)) < 100  # an alert at most, and then it ends
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        with trusting.wrap_socket(server.connect()) as one:
            one.sendall(HEALTH)
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_nobody_chooses_his_address_by_a_header(tmp_path):
    """Without a proxy in the settings the header is as good as any; loopback has no limit here."""
    asked = b"GET /projects/tiny/events HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n"
    with served(tmp_path) as server, ExitStack() as stack:
        for _ in range(60):
            one = stack.enter_context(server.connect(asked))
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_behind_a_proxy_the_address_is_the_one_that_the_proxy_has_added(tmp_path):
    """What a client claims itself stands before it, and chooses nothing."""
    asked = (
        b"GET /projects/tiny/events HTTP/1.1\r\nHost: x\r\n"
        b"X-Forwarded-For: 198.51.100.%d, 203.0.113.1\r\n\r\n"
    )
    with served(tmp_path, BEHIND_A_PROXY) as server, ExitStack() as stack:
        for number in range(50):
            one = stack.enter_context(server.connect(asked % number))
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
        with server.connect(asked % 99) as refused:
            assert refused.recv(65536).startswith(b"HTTP/1.1 429 ")
