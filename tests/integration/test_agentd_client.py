"""The HTTP client against servers that break, lie, stall and hide behind self-signed TLS."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing, asynccontextmanager

import pytest

from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.client.http import Timeouts
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS
from pleb_system.network_errors import (
    BadAnswerError,
    NetworkError,
    UnreachableError,
    WrongBytesError,
    WrongCertificateError,
)
from tests.certificates import self_signed

DATA = bytes(range(256)) * 40
SIZE = len(DATA)
QUICK = Timeouts(connect=0.5, silence=0.5)


class RawServer:
    """Answers each connection's first request with scripted bytes, then closes it."""

    def __init__(self, *answers, stall=False) -> None:
        self.answers = list(answers)
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.stall = stall

    async def handle(self, reader, writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode())
        length = [int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if b"content-le" in x]
        self.bodies.append(await reader.readexactly(length[0]) if length else b"")
        if self.answers:
            writer.write(self.answers.pop(0))
            await writer.drain()
        if self.stall:
            await asyncio.sleep(30)
        writer.close()


@asynccontextmanager
async def serving(raw, tls=None):
    writers = []

    async def handle(reader, writer):
        writers.append(writer)
        await raw.handle(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    client = CoordinatorClient(f"http{'s' if tls else ''}://127.0.0.1:{port}", timeouts=QUICK)
    try:
        yield client
    finally:
        await client.close()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


def answer(body=b"", status="200 OK", **headers):
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refusal(code, message="No.", status="403 Forbidden", **headers):
    return answer(json.dumps({"code": code, "message": message}).encode(), status, **headers)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", UnreachableError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", UnreachableError),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", BadAnswerError),
        (answer(b"<html>login</html>", "502 Bad Gateway"), BadAnswerError),
        (answer(b"{}", "500 Internal Server Error"), BadAnswerError),
        (answer(b'{"code":"nonsense","message":"?"}', "400 Bad Request"), BadAnswerError),
        (answer(status="302 Found", location="http://127.0.0.1:1/"), BadAnswerError),
        (answer(b"x" * (LIMITS.message_bytes + 1)), BadAnswerError),
        (refusal("banned"), Refusal),
    ],
)
def test_every_failure_is_typed(reply, error):
    async def story():
        async with serving(RawServer(reply)) as client:
            with pytest.raises(error):
                await client.work("words", b"{}")

    asyncio.run(story())


def test_a_server_that_stalls_is_left(tmp_path):
    async def story():
        async with serving(RawServer(stall=True)) as client:
            began = time.monotonic()
            with pytest.raises(UnreachableError):
                await client.metadata("words")
            assert time.monotonic() - began < 2

    asyncio.run(story())


def test_a_server_that_drips_is_left():
    class Drip(RawServer):
        async def handle(self, reader, writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            try:
                for _ in range(100):
                    writer.write(b"x")
                    await asyncio.sleep(0.1)
            except ConnectionError:
                writer.close()

    async def story():
        async with serving(Drip()) as client:
            began = time.monotonic()
            with pytest.raises(UnreachableError):
                await client.metadata("words")
            assert time.monotonic() - began < 3

    asyncio.run(story())


def test_nobody_there():
    async def story():
        client = CoordinatorClient("http://127.0.0.1:1", timeouts=QUICK)
        with pytest.raises(UnreachableError, match="cannot be reached"):
            await client.metadata("words")
        await client.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("1e99", 86400.0), ("nan", None), ("soon", None)],
)
def test_retry_after_is_read_and_bounded(header, seconds):
    async def story():
        raw = RawServer(refusal("rate_limited", status="429 Too Many", retry_after=header))
        async with serving(raw) as client:
            with pytest.raises(Refusal) as caught:
                await client.work("words", b"{}")
            assert caught.value.retry_after_seconds == seconds

    asyncio.run(story())


def test_clock_skew_becomes_a_sentence_with_the_time_there():
    async def story():
        date = "Tue, 24 Nov 2026 10:00:00 GMT"
        raw = RawServer(refusal("clock_skew", "Yours is 2 h ahead.", date=date))
        async with serving(raw) as client:
            with pytest.raises(Refusal, match="Your clock") as caught:
                await client.work("words", b"{}")
            assert date in str(caught.value)
            assert client.last_date == date

    asyncio.run(story())


async def read(client, start=0, end=SIZE):
    """Read a range of the blob."""
    async with aclosing(client.read("/blobs/x", start, end, len(DATA))) as stream:
        return b"".join([chunk async for chunk in stream])


def part_of_it(start, end):
    shown = f"bytes {start}-{end - 1}/{len(DATA)}"
    return answer(DATA[start:end], "206 Partial Content", content_range=shown)


def test_a_range_is_asked_for_and_comes():
    async def story():
        raw = RawServer(part_of_it(3000, 5000), answer(DATA), answer(DATA), answer(DATA))
        async with serving(raw) as client:
            assert await read(client, 3000, 5000) == DATA[3000:5000]
            assert "range: bytes=3000-4999" in raw.heads[0].lower()
            assert await read(client, 3000) == DATA[3000:]  # a server without ranges
            assert await read(client, 3000, 5000) == DATA[3000:5000]
            assert await read(client) == DATA
            assert "range:" not in raw.heads[3].lower()

    asyncio.run(story())


@pytest.mark.parametrize(
    "reply",
    [
        answer(DATA + b"more"),
        answer(DATA * 3),
        answer(DATA[5:], "206 Partial Content", content_range="bytes 5-9/10"),
    ],
)
def test_more_or_other_bytes_are_refused(reply):
    async def story():
        async with serving(RawServer(reply)) as client:
            with pytest.raises(WrongBytesError):
                await read(client)

    asyncio.run(story())


def test_fewer_bytes_are_a_broken_connection():
    async def story():
        async with serving(RawServer(answer(DATA[:9]), answer(DATA)[:-9])) as client:
            for _ in range(2):
                with pytest.raises(UnreachableError):
                    await read(client)

    asyncio.run(story())


def test_uploads_resume_at_the_coordinators_offset(tmp_path):
    async def story():
        path = tmp_path / "delta"
        path.write_bytes(DATA)
        raw = RawServer(
            answer(upload_offset=1000, upload_complete="?0"),
            refusal("wrong_offset", status="409 Conflict"),
            answer(upload_offset=4000, upload_complete="?0"),
            answer(status="204 No Content", upload_offset=len(DATA), upload_complete="?1"),
        )
        async with serving(raw) as client:
            with path.open("rb") as file:
                await client.upload("t" * 20, file, len(DATA))
        assert raw.bodies[1] == DATA[1000:]
        assert raw.bodies[3] == DATA[4000:]
        assert "upload-offset: 4000" in raw.heads[3].lower()

    asyncio.run(story())


def test_an_upload_whose_bytes_are_all_there_is_completed(tmp_path):
    """The coordinator was stopped after the last part, before it had looked at the whole."""

    async def story():
        path = tmp_path / "delta"
        path.write_bytes(DATA)
        raw = RawServer(
            answer(upload_offset=len(DATA), upload_complete="?0"),
            answer(status="204 No Content", upload_offset=len(DATA), upload_complete="?1"),
        )
        async with serving(raw) as client:
            with path.open("rb") as file:
                await client.upload("t" * 20, file, len(DATA))
        assert raw.bodies[1] == b""

    asyncio.run(story())


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ([answer(upload_offset=10**9, upload_complete="?0")], BadAnswerError),
        ([answer(upload_offset=-1, upload_complete="?0")], BadAnswerError),
        ([answer()], BadAnswerError),
        ([answer(status="404 Not Found")], Refusal),
        ([answer(status="410 Gone")], Refusal),
        (2 * [answer(upload_offset=0, upload_complete="?0")], BadAnswerError),
    ],
)
def test_strange_uploads_end_in_an_error(tmp_path, replies, error):
    async def story():
        path = tmp_path / "delta"
        path.write_bytes(DATA)
        async with serving(RawServer(*replies)) as client:
            with path.open("rb") as file, pytest.raises(error):
                await client.upload("t" * 20, file, len(DATA))

    asyncio.run(story())


def test_a_pinned_certificate_is_enough_and_necessary(tmp_path):
    async def story():
        tls, pin = self_signed(tmp_path)
        raw = RawServer(b"", answer(b"metadata"))  # the first connection only shows itself

        async def handle(reader, writer):
            try:
                await RawServer.handle(raw, reader, writer)
            except asyncio.IncompleteReadError:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        raw.answers = [answer(b"metadata")]
        right = CoordinatorClient(url, pin, timeouts=QUICK)
        assert await right.metadata("words") == b"metadata"
        wrong = CoordinatorClient(url, "0" * 64, timeouts=QUICK)
        with pytest.raises(WrongCertificateError, match="another certificate"):
            await wrong.metadata("words")
        unpinned = CoordinatorClient(url, timeouts=QUICK)
        with pytest.raises(NetworkError):
            await unpinned.metadata("words")
        for client in (right, wrong, unpinned):
            await client.close()
        server.close()
        assert len(raw.heads) == 1

    asyncio.run(story())


def test_refusal_codes_keep_their_meaning():
    async def story():
        async with serving(RawServer(refusal("lease_expired", status="410 Gone"))) as client:
            with pytest.raises(Refusal) as caught:
                await client.work("words", b"{}")
            assert caught.value.code is RefusalCode.LEASE_EXPIRED

    asyncio.run(story())
