"""An in-memory coordinator that tests mutate, in the manner of python-tuf's RepositorySimulator.

It keeps the real contract (signatures, sequences with stored answers, leases, receipts, uploads;
`tests/conformance/test_coordinator.py` holds it to the real coordinator),
trains nothing, and can be told to break: see `Faults`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import zlib
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import msgspec
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from pleb_agent.web.server import LocalServer
from pleb_coordinator.api.blob_files import parse_range
from pleb_project.publish.sealed import sealed_draft
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.direct import DirectPart, DirectParts
from pleb_shared.protocol.ids import AttachLink, digest_of
from pleb_shared.protocol.lan import lan_key, lan_period
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.messages import (
    EnrolReply,
    EnrolRequest,
    NoWork,
    PayloadType,
    Receipt,
    ReceiptOutcome,
    RefusalBody,
    Role,
    UnitVerdict,
    WorkReply,
    WorkRequest,
)
from pleb_shared.protocol.parts import blob_of, leaves_of
from pleb_shared.protocol.project import (
    AdamW,
    BaseSpec,
    Calibration,
    Codec,
    DataSpec,
    Delegation,
    InputSpec,
    ModelSpec,
    OuterStep,
    ProjectMetadata,
    ResourceLimits,
    Round,
    Shard,
    ShardList,
    TensorSpec,
    Training,
    Verification,
    calibration_unit,
)
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.report import DeltaResult, FailureResult, Report
from pleb_shared.protocol.roots import RootChange, change_root
from pleb_shared.protocol.sealing import (
    ProjectKey,
    Reading,
    project_key,
    put_in_box,
    write_reading,
)
from pleb_shared.protocol.signing import SigningKey, open_envelope, peek_payload, sign_payload
from pleb_shared.protocol.unit import Blob, ShardRange, Unit, UnitKind, VersionSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from pleb_project.readers.blobs import BlobFolder

PROJECT = "words"


@dataclass
class Faults:
    """What goes wrong, each so many times."""

    lose_answers: int = 0
    """Do the work, then break the connection instead of answering."""
    garbage_answers: int = 0
    wrong_blobs: int = 0
    """Serve blobs with a flipped byte."""
    cut_blobs: int = 0
    """Break off in the middle of a blob."""
    cut_uploads: int = 0
    """Take half of an upload's part and break off."""
    drip_answers: int = 0
    """Answer work requests byte by byte, so slowly that it never ends."""
    drip_blobs: int = 0
    answer_late_seconds: float = 0.0
    refuse: deque[RefusalBody] = field(default_factory=deque)
    """Answer work requests with these."""
    refuse_enrolments: deque[RefusalBody] = field(default_factory=deque)
    change_reply: Callable[[WorkReply], WorkReply] | None = None
    """A hostile coordinator: rewrite the reply before it is signed."""
    sign_with: SigningKey | None = None


def _holds(packed: bytes, digest: str) -> bool:
    """Whether the packed bytes hold the delta with this digest."""
    try:
        return digest_of(zlib.decompress(packed)) == digest
    except zlib.error:
        return False


@dataclass
class Given:
    """A unit that was given to a host."""

    manifest: Manifest
    report: Report | None = None
    delta: bytes = b""


SEALED_FIELDS = (
    "access",
    "sealed_with",
    "model",
    "training_graph",
    "evaluation_graph",
    "chunks",
    "data",
)


@dataclass
class _Folder:
    """The blobs as the researcher's folder, for `sealed_draft`."""

    coordinator: FakeCoordinator

    def get(self, digest: str) -> bytes:
        return self.coordinator.blobs[digest]

    def put(self, data: bytes) -> Blob:
        return self.coordinator.add_blob(data)


class FakeCoordinator:
    """State and protocol; `app` is its HTTP face."""

    def __init__(self, clock: Callable[[], float], name: str = PROJECT) -> None:
        self.clock = clock
        self.name = name
        self.root = SigningKey.generate()
        self.online = SigningKey.generate()
        self.blobs: dict[str, bytes] = {}
        self.hosts: dict[str, str] = {}
        self.accounts: dict[str, str] = {}
        """The account of each host, as fingerprints."""
        self.verdicts: deque[UnitVerdict] = deque()
        """Told with the next reply."""
        self.status: bytes = b"{}"
        """The answer of the status page for programs."""
        self.sequences: dict[str, tuple[int, bytes, bytes]] = {}
        self.given: dict[int, Given] = {}
        self.units: deque[Unit] = deque()
        self.uploads: dict[str, tuple[int, bytearray]] = {}
        self.patched: list[int] = []
        """Where parts of uploads began that came here."""
        self.requests: list[WorkRequest] = []
        self.blob_requests: list[str] = []
        self.faults = Faults()
        self.attach_limit = LIMITS.attached_delta_bytes
        self.lease_seconds = 60.0
        self.latest_version = 0
        self.restored_at = 0
        self.keys: list[ProjectKey] = []
        """Of a private project, the newest one last."""
        self.handed_in: list[bytes] = []
        """Metadata that hosts brought."""
        self.arrived = asyncio.Event()
        self.metadata = self.first_metadata()
        self.publish()

    # -- what tests use ---------------------------------------------------------------------

    def publish(self, **changes: object) -> None:
        """Sign the metadata anew with these changes; the number grows with each change."""
        if changes:
            number = changes.pop("number", self.metadata.number + 1)
            self.metadata = msgspec.structs.replace(self.metadata, number=number, **changes)
        payload = strict_json.encode(self.metadata)
        self.metadata_envelope = sign_payload(payload, PayloadType.METADATA, self.root)

    def make_private(self) -> None:
        """Seal all blobs, and sign metadata that say so."""
        self.replace_key()
        plain = list(self.blobs)
        folder = cast("BlobFolder", _Folder(self))
        metadata, _ = sealed_draft(self.metadata, folder, self.keys[-1])
        for digest in plain:
            del self.blobs[digest]
        self.publish(**{name: getattr(metadata, name) for name in SEALED_FIELDS})

    def replace_key(self) -> None:
        """Make a new key, which members get when they enrol again."""
        number = len(self.keys) + 1
        self.keys.append(project_key(b"s" * 32, self.name, number))

    def hand_in(self, envelope: bytes) -> None:
        """Take back metadata that a host has and we have lost."""
        self.handed_in.append(envelope)
        self.metadata = open_envelope(
            envelope,
            PayloadType.METADATA,
            ProjectMetadata,
            self.root.public,
            most_bytes=LIMITS.metadata_bytes,
        )
        self.metadata_envelope = envelope

    def rotate_root(self, **changes: object) -> SigningKey:
        """Hand the project over to a new root key; return the old one."""
        before, self.root = self.root, SigningKey.generate()
        change = RootChange(
            protocol=1,
            project=self.name,
            number=len(self.metadata.roots) + 1,
            before=before.public,
            after=self.root.public,
            issued_at=int(self.clock()),
        )
        roots = [*self.metadata.roots, change_root(change, before, self.root)]
        self.publish(root_key=self.root.public, roots=roots, **changes)
        return before

    def rotate_online(self, **changes: object) -> SigningKey:
        """Delegate to a new online key; return the old one."""
        before, self.online = self.online, SigningKey.generate()
        delegation = msgspec.structs.replace(
            self.metadata.delegation, online_key=self.online.public
        )
        self.publish(delegation=delegation, **changes)
        return before

    def link(self, base_url: str) -> str:
        """The attach link."""
        return str(AttachLink(base_url, self.name, self.root.fingerprint))

    def plan(self, count: int, **changes: object) -> None:
        """Queue training units."""
        for i in range(count):
            unit = Unit(
                kind=UnitKind.TRAIN,
                epoch=self.metadata.epoch,
                version=0,
                shards=ShardRange(first=i, count=1),
                seed=i,
                local_steps=self.metadata.training.local_steps,
            )
            self.units.append(msgspec.structs.replace(unit, **changes))

    def results(self) -> list[Report]:
        """The reports, in the order of their units."""
        return [given.report for given in self.given.values() if given.report is not None]

    def is_delivered(self, number: int) -> bool:
        """Whether the reported delta of an assignment is here, whole."""
        given = self.given[number]
        return (
            given.report is not None
            and isinstance(given.report.result, DeltaResult)
            and _holds(given.delta, given.report.result.digest)
        )

    # -- protocol ---------------------------------------------------------------------------

    def enrol(self, envelope: bytes) -> bytes:
        peeked = strict_json.decode(peek_payload(envelope, PayloadType.ENROL), EnrolRequest)
        request = open_envelope(
            envelope, PayloadType.ENROL, EnrolRequest, peeked.host_key, peeked.account_key
        )
        self._check_clock(request.issued_at)
        host = digest_of(bytes.fromhex(request.host_key))
        self.hosts[host] = request.host_key
        self.accounts[host] = digest_of(bytes.fromhex(request.account_key))
        reply = EnrolReply(
            protocol=1,
            project=self.name,
            host=host,
            account=digest_of(bytes.fromhex(request.account_key)),
            role=Role.TRUSTED if request.invite else Role.HOST,
            sequence=self.sequences.get(host, (0, b"", b""))[0],
            issued_at=int(self.clock()),
            box=self._box(request, host),
        )
        return sign_payload(strict_json.encode(reply), PayloadType.ENROL_REPLY, self._signer())

    def _box(self, request: EnrolRequest, host: str) -> bytes | None:
        if not self.keys or request.seal_to is None:
            return None
        reading = Reading.of(f"{self.name}.h{host}.{'0' * 48}", self.keys)
        return put_in_box(write_reading(reading), request.seal_to, host)

    async def work(self, body: bytes) -> bytes:
        envelope, _, deltas = body.partition(b"\n")
        host = strict_json.decode(peek_payload(envelope, PayloadType.WORK), WorkRequest).host
        if host not in self.hosts:
            raise Refusal(RefusalCode.UNKNOWN_HOST, "Enrol first.")
        request = open_envelope(envelope, PayloadType.WORK, WorkRequest, self.hosts[host])
        last, digest, answer = self.sequences.get(host, (0, b"", b""))
        this = hashlib.sha256(body).digest()
        if request.sequence == last:
            if digest != this:
                raise Refusal(RefusalCode.SEQUENCE_REUSED, "Other bytes under this number.")
            return answer
        if request.sequence < last:
            raise Refusal(RefusalCode.STALE_SEQUENCE, f"The last one was {last}.")
        self._check_clock(request.issued_at)
        self.requests.append(request)
        receipts, at = [], 0
        for report in request.reports:
            delta = b""
            if isinstance(report.result, DeltaResult) and report.result.attached:
                delta = deltas[at : at + report.result.size]
                at += report.result.size
            receipts.append(self._receipt(host, report, delta))
        if request.wait_seconds and not self.units:
            self.arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.arrived.wait(), request.wait_seconds)
        reply = self._reply(request, receipts)
        if self.faults.change_reply is not None:
            reply = self.faults.change_reply(reply)
        answer = sign_payload(strict_json.encode(reply), PayloadType.WORK_REPLY, self._signer())
        self.sequences[host] = (request.sequence, this, answer)
        return answer

    def _reply(self, request: WorkRequest, receipts: list[Receipt]) -> WorkReply:
        now = int(self.clock())
        manifests = self._again(request)
        while self.units and len(manifests) < request.max_units:
            manifests.append(self.give(self.units.popleft(), request.host))
        no_work = None
        if len(manifests) < request.max_units:
            no_work = NoWork(
                reason=because(ReasonCode.ALL_ASSIGNED, version=0), retry_after_seconds=0.2
            )
        return WorkReply(
            protocol=1,
            project=self.name,
            host=request.host,
            in_reply_to=request.sequence,
            issued_at=now,
            expires_at=now + 300,
            metadata_number=self.metadata.number,
            epoch=self.metadata.epoch,
            latest_version=self.latest_version,
            restored_at=self.restored_at,
            manifests=manifests,
            receipts=receipts,
            verdicts=[self.verdicts.popleft() for _ in range(len(self.verdicts))],
            no_work=no_work,
            lan_key=lan_key(b"s" * 32, self.name, lan_period(now), len(self.keys)),
            key_number=len(self.keys),
        )

    def _again(self, request: WorkRequest) -> list[Manifest]:
        """What was given to the host and it doesn't know about."""
        return [
            msgspec.structs.replace(given.manifest, metadata_number=self.metadata.number)
            for number, given in self.given.items()
            if given.report is None
            and given.manifest.unit.epoch == self.metadata.epoch
            and given.manifest.host == request.host
            and number not in request.in_hand
            and self.clock() < given.manifest.issued_at + given.manifest.lease_seconds
        ][: request.max_units]

    def give(self, unit: Unit, host: str) -> Manifest:
        number = len(self.given) + 1
        model = self.metadata.model
        manifest = Manifest(
            assignment=number,
            nonce=secrets.token_hex(16),
            project=self.name,
            host=host,
            metadata_number=self.metadata.number,
            unit=unit,
            version=VersionSource(
                epoch=unit.epoch,
                number=0,
                digest=model.initial_digest,
                snapshot=model.initial,
                snapshot_number=0,
                differences=[],
            ),
            issued_at=int(self.clock()),
            lease_seconds=self.lease_seconds,
        )
        self.given[number] = Given(manifest)
        return manifest

    def _receipt(self, host: str, report: Report, delta: bytes) -> Receipt:
        given = self.given.get(report.assignment)
        refused: RefusalCode | None = None
        if given is None or given.manifest.host != host or given.manifest.nonce != report.nonce:
            refused = RefusalCode.UNKNOWN_ASSIGNMENT
        elif given.report is not None:
            refused = RefusalCode.ALREADY_REPORTED
        elif report.epoch != self.metadata.epoch:
            refused = RefusalCode.EPOCH_ENDED
        elif self.clock() >= given.manifest.issued_at + given.manifest.lease_seconds + 1:
            refused = RefusalCode.LEASE_EXPIRED
        elif delta and not _holds(delta, delta_of(report).digest):
            refused = RefusalCode.WRONG_DIGEST
        if refused is not None or given is None:
            return Receipt(
                assignment=report.assignment, outcome=ReceiptOutcome.REFUSED, code=refused
            )
        given.report = report
        given.delta = delta
        if isinstance(report.result, FailureResult):
            self.units.append(given.manifest.unit)
        if not isinstance(report.result, DeltaResult) or report.result.attached:
            return Receipt(assignment=report.assignment, outcome=ReceiptOutcome.STORED)
        token = secrets.token_urlsafe(24)
        self.uploads[token] = (report.assignment, bytearray())
        return Receipt(assignment=report.assignment, outcome=ReceiptOutcome.UPLOAD, upload=token)

    def upload_part(self, token: str, offset: int, part: bytes) -> tuple[int, bool]:
        number, got = self.find_upload(token)
        if offset != len(got):
            raise Refusal(RefusalCode.WRONG_OFFSET, f"Go on at {len(got)}.")
        result = delta_of(self.given[number].report)
        if len(got) + len(part) > result.size:
            raise Refusal(RefusalCode.WRONG_SIZE, "More bytes than reported.")
        got += part
        if len(got) == result.size:
            if not _holds(bytes(got), result.digest):
                del self.uploads[token]
                raise Refusal(RefusalCode.WRONG_DIGEST, "Other bytes than reported.")
            self.given[number].delta = bytes(got)
        return len(got), len(got) == result.size

    def find_upload(self, token: str) -> tuple[int, bytearray]:
        if token not in self.uploads:
            raise Refusal(RefusalCode.UNKNOWN_UPLOAD, "No such upload.")
        return self.uploads[token]

    def _check_clock(self, issued_at: int) -> None:
        if abs(issued_at - self.clock()) > LIMITS.clock_tolerance_seconds:
            raise Refusal(RefusalCode.CLOCK_SKEW, "Your clock is 2 h off.")

    def _signer(self) -> SigningKey:
        return self.faults.sign_with or self.online

    def add_blob(self, data: bytes) -> Blob:
        self.blobs[digest_of(data)] = data
        return blob_of(data)

    def first_metadata(self) -> ProjectMetadata:
        now = int(self.clock())
        initial = b"version zero" * 100
        shards = [self.add_blob(bytes([i]) * 2000) for i in range(4)]
        listed = [Shard.of(blob, 10) for blob in shards]
        shard_list = strict_json.encode(ShardList(train=listed[:3], holdout=listed[3:]))
        return ProjectMetadata(
            protocol=1,
            project=self.name,
            number=1,
            epoch=0,
            issued_at=now,
            root_key=self.root.public,
            delegation=Delegation(
                online_key=self.online.public, expires_at=now + LIMITS.delegation_seconds
            ),
            title="Words",
            description="",
            data_licence="CC0",
            contact="",
            model=ModelSpec(
                parameters=[TensorSpec(name="w", dtype="float32", shape=[100, 100])],
                buffers=[],
                initial=self.add_blob(initial),
                initial_digest=digest_of(b"tensors"),
                base=BaseSpec(
                    tensors=[TensorSpec(name="frozen", dtype="bfloat16", shape=[8])],
                    blob=self.add_blob(b"what training never changes"),
                ),
            ),
            training_graph=self.add_blob(b'{"graph": "training"}'),
            evaluation_graph=self.add_blob(b'{"graph": "evaluation"}'),
            data=DataSpec(
                kind="rows",
                inputs=[InputSpec(name="x", dtype="float32", shape=[4])],
                shards=self.add_blob(shard_list),
            ),
            training=Training(
                warmup_steps=0,
                optimizer=AdamW(),
                learning_rate=0.1,
                batch_examples=2,
                local_steps=5,
                versions=100,
            ),
            outer=OuterStep(),
            codec=Codec(),
            round=Round(),
            verification=Verification(tolerance=0.1, tolerance_ceiling=0.2),
            calibration=Calibration(),
            limits=ResourceLimits(memory_bytes=2**30),
        )

    def calibration(self) -> Unit:
        """The project's calibration unit."""
        return calibration_unit(self.metadata)


def delta_of(report: Report | None) -> DeltaResult:
    """The reported delta; the test is wrong if there is none."""
    assert report is not None
    assert isinstance(report.result, DeltaResult)
    return report.result


def app(coordinator: FakeCoordinator) -> Starlette:
    """The HTTP face."""
    faults = coordinator.faults

    def endpoint(act: Callable[[Request], Awaitable[Response]]):
        async def run(request: Request) -> Response:
            await asyncio.sleep(faults.answer_late_seconds)
            try:
                return await act(request)
            except Refusal as refusal:
                return _refusal(
                    RefusalBody(
                        code=refusal.code,
                        message=refusal.message,
                        retry_after_seconds=refusal.retry_after_seconds,
                    )
                )

        return run

    async def metadata(request: Request) -> Response:
        if request.method == "POST":
            coordinator.hand_in(await request.body())
            return Response(status_code=204)
        return Response(coordinator.metadata_envelope)

    async def enrol(request: Request) -> Response:
        if faults.refuse_enrolments:
            return _refusal(faults.refuse_enrolments.popleft())
        return Response(coordinator.enrol(await request.body()))

    async def work(request: Request) -> Response:
        if faults.refuse:
            return _refusal(faults.refuse.popleft())
        if faults.garbage_answers:
            faults.garbage_answers -= 1
            return Response(b"<html>a captive portal</html>", 200)
        answer = await coordinator.work(await request.body())
        if faults.lose_answers:
            faults.lose_answers -= 1
            return _Cut(answer, 0)
        if faults.drip_answers:
            faults.drip_answers -= 1
            return _Drip(answer)
        return Response(answer)

    async def status(_: Request) -> Response:
        return Response(coordinator.status)

    async def blob(request: Request) -> Response:
        digest = request.path_params["digest"]
        coordinator.blob_requests.append(digest)
        if digest not in coordinator.blobs:
            raise Refusal(RefusalCode.UNKNOWN_BLOB, "No such blob.")
        data = coordinator.blobs[digest]
        if faults.wrong_blobs:
            faults.wrong_blobs -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        if faults.cut_blobs:
            faults.cut_blobs -= 1
            return _Cut(data, len(data) // 2)
        if faults.drip_blobs:
            faults.drip_blobs -= 1
            return _Drip(data)
        return _ranged(request, data)

    async def parts(request: Request) -> Response:
        digest = request.path_params["digest"]
        if digest not in coordinator.blobs:
            raise Refusal(RefusalCode.UNKNOWN_BLOB, "No such blob.")
        return Response(b"".join(leaves_of(coordinator.blobs[digest])))

    return Starlette(
        routes=[
            Route(
                f"/projects/{coordinator.name}/metadata",
                endpoint(metadata),
                methods=["GET", "POST"],
            ),
            Route(f"/projects/{coordinator.name}/status", endpoint(status)),
            Route(f"/projects/{coordinator.name}/enrol", endpoint(enrol), methods=["POST"]),
            Route(f"/projects/{coordinator.name}/work", endpoint(work), methods=["POST"]),
            Route("/blobs/{digest}", endpoint(blob)),
            Route("/parts/{digest}", endpoint(parts)),
            *_upload_routes(coordinator, endpoint),
        ]
    )


def _upload_routes(coordinator: FakeCoordinator, endpoint) -> list[Route]:
    faults = coordinator.faults

    async def head(request: Request) -> Response:
        number, got = coordinator.find_upload(request.path_params["token"])
        size = delta_of(coordinator.given[number].report).size
        return Response(headers=_upload_headers(len(got), len(got) == size))

    async def patch(request: Request) -> Response:
        part = await request.body()
        offset = int(request.headers["upload-offset"])
        coordinator.patched.append(offset)
        if faults.cut_uploads:
            faults.cut_uploads -= 1
            coordinator.upload_part(request.path_params["token"], offset, part[: len(part) // 2])
            return _Cut(b"x", 0)
        done = coordinator.upload_part(request.path_params["token"], offset, part)
        return Response(status_code=204, headers=_upload_headers(*done))

    async def direct_parts(request: Request) -> Response:
        number, got = coordinator.find_upload(request.path_params["token"])
        size, step = delta_of(coordinator.given[number].report).size, LIMITS.direct_part_bytes
        places = range(len(got), size, step) if coordinator.metadata.uploads else ()
        parts = [DirectPart(size=min(step, size - at), query=f"signed={at}") for at in places]
        return Response(strict_json.encode(DirectParts(offset=len(got), parts=parts)))

    async def landed(request: Request) -> Response:
        number, got = coordinator.find_upload(request.path_params["token"])
        if len(got) != delta_of(coordinator.given[number].report).size:
            raise Refusal(RefusalCode.WRONG_OFFSET, "Not all of it is there.")
        return Response(status_code=204, headers=_upload_headers(len(got), True))

    return [
        Route("/uploads/{token}/parts", endpoint(direct_parts)),
        Route("/uploads/{token}/landed", endpoint(landed), methods=["POST"]),
        Route("/uploads/{token}", endpoint(patch), methods=["PATCH"]),
        Route("/uploads/{token}", endpoint(head), methods=["HEAD"]),
    ]


class _Cut(Response):
    """Promises all of `content`, sends some of it, and breaks the connection off."""

    def __init__(self, content: bytes, sent: int) -> None:
        super().__init__(content)
        self._sent = sent

    async def __call__(self, scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        part = self.body[: self._sent]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        # uvicorn closes the connection of a response that ends short of its length.


class _Drip(Response):
    """Sends a byte every tenth of a second, so that the connection never counts as silent."""

    async def __call__(self, scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for at in range(len(self.body)):
            part = self.body[at : at + 1]
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0.1)


def _ranged(request: Request, data: bytes) -> Response:
    asked = request.headers.get("range", "")
    if not asked:
        return Response(data)
    start, end = parse_range(asked, len(data))
    headers = {"content-range": f"bytes {start}-{end - 1}/{len(data)}"}
    return Response(data[start:end], 206, headers=headers)


def _upload_headers(offset: int, complete: bool) -> dict[str, str]:
    return {"upload-offset": str(offset), "upload-complete": "?1" if complete else "?0"}


def _refusal(body: RefusalBody) -> Response:
    headers = {}
    if body.retry_after_seconds is not None:
        headers["retry-after"] = str(body.retry_after_seconds)
    status = Refusal(body.code, body.message).http_status
    return Response(json.dumps(msgspec.to_builtins(body)), status, headers=headers)


@asynccontextmanager
async def serving(coordinator: FakeCoordinator):
    """Serve on a free port in this event loop; gives the base URL."""
    server = LocalServer(app(coordinator))
    task = asyncio.create_task(server.run())
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()
        await task
