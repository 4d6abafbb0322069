"""Messages and files from strangers: envelopes, requests to a coordinator, replies to an agent."""

from __future__ import annotations

import asyncio
import io
import itertools
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import msgspec
import numpy as np
import uvicorn
from uvicorn.server import ServerState

from pleb_agent.control import live_preferences
from pleb_agent.core.preference_table import PREFERENCES, changed, example_of
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.schedule import parse_hours
from pleb_agent.core.sizes import parse_bytes
from pleb_agent.core.trust import Memory, TrustedProject
from pleb_agent.worker.channel import FrameError, encode_frame, read_frame
from pleb_agent.worker.job import (
    DeltaOutcome,
    Failed,
    FailureKind,
    JobResult,
    Progress,
    Ready,
    Reply,
)
from pleb_coordinator.home.config import CoordinatorConfig, config_text, read_config
from pleb_coordinator.web_app.connections import PIPELINED, BoundedConnection, Connections
from pleb_project.definition.load import parse_definition
from pleb_project.server.client import parse_address
from pleb_project.server.status import decode_status
from pleb_shared.errors import PlebError, Refusal, RefusalCode
from pleb_shared.protocol import messages, strict_json, strict_toml
from pleb_shared.protocol.ids import digest_of, parse_attach_link
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.messages import PayloadType, Receipt, ReceiptOutcome, WorkReply
from pleb_shared.protocol.project import ProjectMetadata, ShardList
from pleb_shared.protocol.report import Report
from pleb_shared.protocol.shown import shown, shown_line
from pleb_shared.protocol.signing import SigningKey, open_envelope, peek_payload, sign_payload
from pleb_shared.protocol.status import ProjectStatus
from pleb_shared.tensors.layout import read_header, save_tensors
from pleb_system.durations import parse_duration
from tests.integration.fake_coordinator import PROJECT, FakeCoordinator
from tests.integration.http_world import HttpWorld, http_world
from tests.soak.frame import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NOW: Final = 1_800_000_000.0
HOST: Final = digest_of(b"host")
EXAMPLES: Final = Path(__file__).parents[2] / "examples"
KINDS: Final = (
    *(messages.EnrolRequest, messages.EnrolReply, messages.WorkRequest, messages.WorkReply),
    *(messages.PublishRequest, messages.PublishReply, messages.RefusalBody),
    *(messages.CoordinatorInfo, ProjectMetadata, ShardList, Manifest, Report, ProjectStatus),
)
"""Whatever one side reads of the other, but for graphs, which have targets of their own."""
_LETTERS: Final = (0x202E, 0x2066, 0x1B, 0x7F, 0x9B, 0x200B, 0xFEFF, 0xE0041, 0x3164, 0x2028)


class _WrongError(Exception):
    """A target did something that is no error and yet wrong."""


# JSON, TOML, text


def _json(data: bytes) -> None:
    """What is read is written and read again as the same thing."""
    value = strict_json.parse(data)
    if strict_json.parse(msgspec.json.encode(value)) != value:
        raise _WrongError("another value the second time")


def _message(data: bytes) -> None:
    refused: Refusal | None = None
    taken = 0
    for kind in KINDS:
        try:
            value = strict_json.decode(data, kind, most_bytes=LIMITS.metadata_bytes)
        except Refusal as refusal:
            refused = refusal
            continue
        taken += 1
        again = strict_json.decode(strict_json.encode(value), kind, most_bytes=2**24)
        if again != value:
            raise _WrongError(f"another {kind.__name__} the second time")
    if not taken and refused is not None:
        raise refused


def _toml(data: bytes) -> None:
    strict_toml.parse(_text(data))


def _project_file(data: bytes) -> None:
    parse_definition(_text(data), Path("project.toml"))


def _override(data: bytes) -> None:
    text = (EXAMPLES / "digits" / "project.toml").read_text("utf-8")
    parse_definition(text, Path("project.toml"), (_text(data),))


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="soak-doors-"))


def _settings(data: bytes) -> None:
    file = _folder() / "coordinator.toml"
    file.write_bytes(data)
    read_config(file)


def _preferences(data: bytes) -> None:
    preferences = live_preferences.decode(data)
    if live_preferences.decode(live_preferences.encode(preferences)) != preferences:
        raise _WrongError("other preferences the second time")


def _preference(data: bytes) -> None:
    """`NAME=TEXT`, as the command line and the page give it."""
    name, _, value = _text(data).partition("=")
    changed(Preferences(threads=1), {name: value})


def _words(data: bytes) -> None:
    """The short texts that people write: links, addresses, lengths of time, sizes, hours."""
    text = _text(data)
    readers: tuple[Callable[[str], object], ...] = (
        *(parse_attach_link, parse_address, parse_duration, parse_bytes, parse_hours),
    )
    refused: Exception | None = None
    for read in readers:
        try:
            read(text)
        except (PlebError, ValueError) as error:
            refused = error
        else:
            return
    assert refused is not None
    raise refused


def _shown(data: bytes) -> None:
    text = data.decode("utf-8", "surrogatepass")
    for spelled in (shown(text), shown_line(text)):
        if any(chr(letter) in spelled for letter in _LETTERS) or shown(spelled) != spelled:
            raise _WrongError("a letter that deceives")
        spelled.encode()


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refusal(RefusalCode.MALFORMED, "not a text") from error


# Envelopes


KEY: Final = SigningKey.from_bytes(b"k" * 32)


def _envelope(data: bytes) -> None:
    """An envelope from anybody: its payload is looked at, and its signature is checked."""
    peek_payload(data, PayloadType.ENROL)
    open_envelope(data, PayloadType.ENROL, messages.EnrolRequest, KEY.public)


def _envelopes() -> list[bytes]:
    request = messages.EnrolRequest(
        protocols=[1],
        project="tiny",
        host_key=KEY.public,
        account_key=KEY.public,
        agent="soak",
        issued_at=int(NOW),
        expires_at=int(NOW) + 60,
    )
    return [sign_payload(strict_json.encode(request), PayloadType.ENROL, KEY)]


def _payloads() -> list[bytes]:
    """One of each message that is hard to guess."""
    coordinator, _ = _agent_side()
    http = _coordinator_side()
    with http.world.store.read() as tx:
        shards = http.world.deps.blobs.read(
            tx.projects.find("tiny").metadata.data.shards.digest, 0, 10**6
        )
    return [
        strict_json.encode(coordinator.metadata),
        *_work_replies(),
        *(one.partition(b"\n")[0] for one in _work_requests()),
        peek_payload(_envelopes()[0], PayloadType.ENROL),
        shards,
    ]


# What a coordinator is asked


class _DoneError(Exception):
    """Rolls a transaction back; `args` is what was found in it."""


class _NothingStays:
    """Stands for `GroupCommit`: what requests change is rolled back, so inputs stay repeatable."""

    def __init__(self, http: HttpWorld) -> None:
        self._store = http.web.api.store

    async def run(self, work: Callable[[Any], Any]) -> Any:
        try:
            with self._store.write() as tx:
                raise _DoneError(work(tx))  # noqa: TRY301 - so that it is rolled back
        except _DoneError as done:
            return done.args[0]


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


_OPEN: Final[list[Any]] = []
"""Contexts that end with the process: their worlds close when nobody holds them."""


@cache
def _coordinator_side() -> HttpWorld:
    """Return the HTTP application of a small world, and in it a host with a unit in hand."""
    seeds = itertools.count(1)

    async def build() -> HttpWorld:
        _OPEN.append(context := http_world(Path(tempfile.mkdtemp(prefix="soak-world-"))))
        return await context.__aenter__()

    def make_key() -> SigningKey:
        return SigningKey.from_bytes(next(seeds).to_bytes(32, "big"))

    with mock.patch.object(SigningKey, "generate", make_key):
        http = _runner().run(build())
        host = http.world.volunteer("anna")
        http.world.ask(host)
    http.world.host = host  # type: ignore[attr-defined]
    object.__setattr__(http.web.api, "commits", _NothingStays(http))
    http.web.api.changes.after = _changes_at_once  # type: ignore[method-assign]
    http.web.api.closing.set()  # so that nobody waits for work
    return http


async def _changes_at_once(seen: int, seconds: float) -> bool:
    """Another commit comes at once; others have their turn before that, as with a real one."""
    await asyncio.sleep(0)
    return True


def _ask(path: str, body: bytes) -> None:
    """Send a request to the application.

    Raises:
        Refusal: the application refused it.
        _WrongError: it failed, or answered something else.
    """
    http = _coordinator_side()
    answer = _runner().run(http.client.post(path, content=body))
    if answer.status_code == 200:
        return
    refusal = msgspec.json.decode(answer.content, type=messages.RefusalBody)
    if refusal.code is RefusalCode.INTERNAL or answer.status_code >= 500:
        raise _WrongError(refusal.message)
    raise Refusal(refusal.code, refusal.message)


def _work_request(data: bytes) -> None:
    """A request of an honest host's key, and the deltas behind it."""
    payload, _, deltas = data.partition(b"\n")
    key = _coordinator_side().world.host.key  # type: ignore[attr-defined]
    _ask("/projects/tiny/work", sign_payload(payload, PayloadType.WORK, key) + b"\n" + deltas)


def _work_requests() -> list[bytes]:
    http = _coordinator_side()
    host = http.world.host  # type: ignore[attr-defined]
    manifest = host.held[0]
    found: list[bytes] = []
    with mock.patch.object(host, "held", list(host.held)), mock.patch.object(host, "sequence", 50):
        done, delta = http.result(host, manifest)
        for reports, attached in (([], b""), ([done], delta)):
            request = http.request(host, reports, wait_seconds=1.0)
            found.append(strict_json.encode(request) + b"\n" + attached)
    return found


def _enrol_request(data: bytes) -> None:
    _ask("/projects/tiny/enrol", sign_payload(data, PayloadType.ENROL, KEY))


def _metadata_publish(data: bytes) -> None:
    """Metadata that the project's own root key has signed."""
    world = _coordinator_side().world
    signed = sign_payload(data, PayloadType.METADATA, world.root)
    request = messages.PublishRequest(
        protocols=[1],
        project="tiny",
        invite=None,
        metadata=signed.decode(),
        blobs=[],
        issued_at=int(world.clock.now),
        expires_at=int(world.clock.now) + 60,
    )
    _ask("/publish", sign_payload(strict_json.encode(request), PayloadType.PUBLISH, world.root))


def _metadatas() -> list[bytes]:
    world = _coordinator_side().world
    newer = msgspec.structs.replace(world.metadata, number=2, title="Newer")
    return [strict_json.encode(world.metadata), strict_json.encode(newer)]


def _body(data: bytes) -> None:
    """Any bytes as a request's body, at each door."""
    path = ("/projects/tiny/work", "/projects/tiny/enrol", "/publish")[data[0] % 3 if data else 0]
    _ask(path, data[1:])


def _bodies() -> list[bytes]:
    """A request that was signed by its host; the rest is found from there."""
    key = _coordinator_side().world.host.key  # type: ignore[attr-defined]
    payload = _work_requests()[0].partition(b"\n")[0]
    return [b"\0" + sign_payload(payload, PayloadType.WORK, key) + b"\n"]


# What an agent is answered


@cache
def _agent_side() -> tuple[FakeCoordinator, bytes]:
    seeds = itertools.count(1000)

    def make_key() -> SigningKey:
        return SigningKey.from_bytes(next(seeds).to_bytes(32, "big"))

    with mock.patch.object(SigningKey, "generate", make_key):
        coordinator = FakeCoordinator(lambda: NOW)
    return coordinator, coordinator.metadata_envelope


def _work_reply(data: bytes) -> None:
    """A reply that the online key has signed: a hostile coordinator's."""
    coordinator, envelope = _agent_side()
    project = TrustedProject(PROJECT, coordinator.root.fingerprint, HOST, Memory())
    project.update_metadata(envelope, NOW)
    signed = sign_payload(data, PayloadType.WORK_REPLY, coordinator.online)
    project.work_reply(
        signed,
        NOW,
        sequence=7,
        reported=[5],
        most_units=2,
        is_spent=lambda nonce: nonce == "0" * 32,
    )


@cache
def _work_replies() -> list[bytes]:
    coordinator, _ = _agent_side()
    coordinator.plan(2)
    manifests = [coordinator.give(coordinator.units.popleft(), HOST) for _ in range(2)]
    reply = WorkReply(
        protocol=1,
        project=PROJECT,
        host=HOST,
        in_reply_to=7,
        issued_at=int(NOW),
        expires_at=int(NOW) + 300,
        metadata_number=coordinator.metadata.number,
        epoch=0,
        latest_version=0,
        manifests=manifests,
        receipts=[Receipt(assignment=5, outcome=ReceiptOutcome.STORED)],
        verdicts=[],
    )
    return [strict_json.encode(reply)]


def _metadata_reply(data: bytes) -> None:
    """Metadata that the pinned root key has signed: a hostile researcher's."""
    coordinator, _ = _agent_side()
    signed = sign_payload(data, PayloadType.METADATA, coordinator.root)
    TrustedProject(PROJECT, coordinator.root.fingerprint, HOST, Memory()).update_metadata(
        signed, NOW
    )


# What a worker that was taken over says to agentd


def _worker_frame(data: bytes) -> None:
    stream = io.BytesIO(data)
    for _ in range(4):
        read_frame(stream, Reply)


def _worker_frames() -> list[bytes]:
    runtime = messages.Runtime(torch="2", device="cpu", threads=1, capability="x", system="y")
    delta = DeltaOutcome(file="delta.bin", digest="0" * 64, size=9, loss_first=2.0, loss_last=1.0)
    said = (
        Ready(runtime=runtime),
        Progress(steps_done=1, steps_total=2, loss=0.5, compute_seconds=1.0),
        JobResult(outcome=delta, compute_seconds=1.0, seconds_per_step=0.5, peak_bytes=9),
        Failed(kind=FailureKind.NOT_FINITE, message="The loss is not a number."),
    )
    return [b"".join(map(encode_frame, said))]


# The header of a model's blob, which is read before the rest is there


def _tensors_header(data: bytes) -> None:
    read_header(lambda start, stop: data[start:stop])


def _tensors_headers() -> list[bytes]:
    return [save_tensors({"w": np.zeros((2, 3), np.float32), "n": np.array(1, np.int64)})]


# The first bytes of a connection


class _Transport(asyncio.Transport):
    """Takes what is written, and forgets it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("203.0.113.1", 1), "sockname": ("203.0.113.2", 2)})
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Forget it."""

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        """Reading is the target's."""

    def resume_reading(self) -> None:
        """Likewise."""


async def _echo(_scope: Any, receive: Any, send: Any) -> None:
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    await send(head)
    await send({"type": "http.response.body", "body": b""})


@cache
def _uvicorn_config() -> uvicorn.Config:
    config = uvicorn.Config(_echo, http="httptools", ws="none", lifespan="off", log_config=None)
    config.load()
    return config


def _connection(data: bytes) -> None:
    """Bytes on a new connection, in three pieces; nothing is refused by an exception."""

    async def story() -> None:
        transport, known = _Transport(), Connections(10, 10)
        one = BoundedConnection(known, _uvicorn_config(), ServerState())
        one.connection_made(transport)
        third = len(data) // 3
        for piece in (data[:third], data[third : 2 * third], data[2 * third :]):
            if transport.closed or not piece:
                break
            one.data_received(piece)
            if len(one.pipeline) > PIPELINED:
                raise _WrongError("requests pile up")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        one.connection_lost(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if known.open:
            raise _WrongError("a place was not given back")

    _runner().run(story())


def _requests() -> list[bytes]:
    post = b"POST /projects/tiny/work HTTP/1.1\r\nHost: x\r\n"
    return [
        b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        post + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
        post + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\n",
        b"GET /a?b HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" * 3,
        b"GET / HTTP/1.0\r\n\r\n" * 12,
    ]


def _project_files() -> list[bytes]:
    return [file.read_bytes() for file in sorted(EXAMPLES.glob("*/project.toml"))]


def _statuses() -> list[bytes]:
    http = _coordinator_side()
    return [msgspec.json.encode(_runner().run(http.web.api.statuses.of("tiny")))]


def _preference_texts() -> Iterator[bytes]:
    for preference in PREFERENCES.values():
        yield example_of(preference).encode()


def _preference_files() -> list[bytes]:
    old = b'{"version": 1, "cache_mib": 100}'
    return [live_preferences.encode(Preferences(threads=2)), old]


_ADDRESSES: Final = (
    b"https://pleb.example/join/words#" + b"a" * 64 + b"+" + b"b" * 64,
    b"pleb+http://127.0.0.1:7532/join/words#" + b"a" * 64 + b"&account=" + b"c" * 64,
    *(b"http://[::1]:7532", b"90s", b"1.5 GiB", b"mon-fri 08:00-12:00, 20:00-08:00"),
)
_TOML: Final = b'a = 1\n[b]\nc = [1.5, "x", { d = true }]\n[[e]]\nf.g = 2024-01-01T00:00:00Z\n'
_KEYS: Final = ("kind", "reports", "result", "assignment", "nonce", "delta", "failure", "upload")

TARGETS: Final[Sequence[Target]] = (
    Target(name="json", run=_json, seeds=lambda: [b'{"a": [1, -2.5e3, "b", null]}'], json=True),
    Target(name="message", run=_message, seeds=_payloads, json=True, words=_KEYS, short_runs=500),
    Target(name="envelope", run=_envelope, seeds=_envelopes, json=True),
    Target(name="work-request", run=_work_request, seeds=_work_requests, json=True, words=_KEYS,
           short_runs=200, long_runs=100_000),
    Target(name="enrol-request", run=_enrol_request, seeds=lambda: [
        peek_payload(_envelopes()[0], PayloadType.ENROL)], json=True, short_runs=200,
        long_runs=100_000),
    Target(name="publish-request", run=_metadata_publish, seeds=_metadatas, json=True,
           short_runs=100, long_runs=50_000),
    Target(name="request-body", run=_body, seeds=_bodies, short_runs=300, long_runs=100_000),
    Target(name="work-reply", run=_work_reply, seeds=_work_replies, json=True, words=_KEYS,
           short_runs=400, long_runs=200_000),
    Target(name="metadata-reply", run=_metadata_reply, seeds=lambda: [
        strict_json.encode(_agent_side()[0].metadata)], json=True, short_runs=400,
        long_runs=200_000),
    Target(name="status-reply", run=decode_status, seeds=_statuses, json=True),
    Target(name="worker-frame", run=_worker_frame, seeds=_worker_frames,
           allowed=(FrameError, EOFError)),
    Target(name="tensors-header", run=_tensors_header, seeds=_tensors_headers, json=True,
           most_bytes=256 * 1024),
    Target(name="connection", run=_connection, seeds=_requests, allowed=()),
    Target(name="toml", run=_toml, seeds=lambda: [_TOML]),
    Target(name="project-file", run=_project_file, seeds=_project_files, short_runs=500),
    Target(name="project-override", run=_override, seeds=lambda: [b"training.versions=3"],
           short_runs=400),
    Target(name="settings", run=_settings, seeds=lambda: [
        config_text(CoordinatorConfig()).encode()], short_runs=500),
    Target(name="preferences", run=_preferences, seeds=_preference_files, json=True),
    Target(name="preference", run=_preference, seeds=lambda: list(_preference_texts())),
    Target(name="short-text", run=_words, seeds=lambda: list(_ADDRESSES),
           allowed=(PlebError, ValueError)),
    Target(name="shown", run=_shown, seeds=lambda: ["Zoë 東京 \u202e\x1b[2J".encode()],
           allowed=(UnicodeDecodeError,)),
)  # fmt: skip
