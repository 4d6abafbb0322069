"""A coordinator without HTTP, on a clock that the test moves: store, blobs, steps, jobs.

The project is a few numbers; hosts make their deltas from the unit's seed, so honest ones
agree to the bit, and a `drift` makes one of another determinism class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
import numpy as np

from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.home.keys import OnlineKeys, make_secret_file
from pleb_coordinator.home.layout import Home
from pleb_coordinator.jobs.loop import Jobs
from pleb_coordinator.steps import Deps
from pleb_coordinator.steps.enrol import enrol
from pleb_coordinator.steps.invite import new_invite
from pleb_coordinator.steps.publish import publish
from pleb_coordinator.steps.published import examine, open_publication
from pleb_coordinator.steps.serve import Asked, serve
from pleb_coordinator.store.transaction import Store
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.graph import Graph, Node, Output, Ref, Value
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import (
    EnrolRequest,
    NoWork,
    PayloadType,
    PublishReply,
    PublishRequest,
    Receipt,
    Role,
    Runtime,
    UnitVerdict,
    WorkRequest,
)
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.project import (
    BaseSpec,
    Calibration,
    Codec,
    DataSpec,
    Delegation,
    InputSpec,
    ModelSpec,
    OuterStep,
    Privacy,
    ProjectMetadata,
    ResourceLimits,
    Round,
    SgdMomentum,
    Shard,
    ShardList,
    TensorSpec,
    Training,
    Verification,
)
from pleb_shared.protocol.report import DeltaResult, EvaluationResult, Report, Result
from pleb_shared.protocol.signing import SigningKey, sign_payload
from pleb_shared.protocol.unit import Blob, UnitKind
from pleb_shared.tensors.chunk_view import chunk_view
from pleb_shared.tensors.format import buffer_dtype, delta_format
from pleb_shared.tensors.layout import Tensors, model_tensors, save_tensors, version_digest
from pleb_shared.tensors.packing import pack
from tests.conformance.engines import fresh_store
from tests.integration.state_moves import record_moves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pleb_coordinator.blobs.store import Blobs
    from pleb_coordinator.core.records import Host, Project
    from pleb_shared.protocol.manifest import Manifest

Named = TypeVar("Named", "Manifest", "Receipt", "UnitVerdict")

START = 1_800_000_000.0

PARAMETERS = [
    TensorSpec(name="w", dtype="float32", shape=[24, 20]),
    TensorSpec(name="b", dtype="float32", shape=[20]),
]
BUFFERS = [
    TensorSpec(name="mean", dtype="float32", shape=[20]),
    TensorSpec(name="count", dtype="int64", shape=[]),
]
BASE = [
    TensorSpec(name="frozen", dtype="bfloat16", shape=[20]),
    TensorSpec(name="mask", dtype="float32", shape=[2]),
]
BASE_DATA = save_tensors({"frozen": np.zeros(20, "V2"), "mask": np.array([0, -np.inf], "f4")})
"""What training never changes: the coordinator only serves it."""


def initial_version() -> Tensors:
    generator = np.random.default_rng(0)
    return {
        "w": generator.normal(size=(24, 20)).astype(np.float32),
        "b": np.zeros(20, np.float32),
        "mean": np.zeros(20, np.float32),
        "count": np.asarray(0, np.int64),
    }


def graph(buffers: Sequence[TensorSpec] = BUFFERS) -> bytes:
    value = Value(dtype="float32", shape=[])
    return strict_json.encode(
        Graph(
            format=1,
            parameters=PARAMETERS,
            buffers=list(buffers),
            base=BASE,
            inputs=[InputSpec(name="x", dtype="float32", shape=[4, 20])],
            nodes=[Node(op="aten.mean.default", args=[Ref(slot=0)], outputs=[value])],
            outputs=[Output(name="loss", slot=5 + len(buffers))],
        )
    )


@dataclass
class Clock:
    """A clock that the test moves."""

    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass
class Volunteer:
    """A host and how it behaves."""

    name: str
    account: str
    network: str
    key: SigningKey
    account_key: SigningKey
    drift: float = 0.0
    lies: bool = False
    threads: int = 1
    free_seconds: float | None = None
    usually_free_seconds: float | None = None
    memory_bytes: int | None = None
    sequence: int = 0
    held: list[Manifest] = field(default_factory=list)


def recorded_store(home: Path) -> Path | str:
    """Return an empty store in a file, which records every change of a state."""
    path = fresh_store(home / "store.sqlite")
    record_moves(path)
    return path


class World:
    """One project on one coordinator, with as many volunteers as the test wants."""

    new_place: Callable[[Path], Path | str] = staticmethod(recorded_store)
    """Makes the empty store of a home; the fixture `each_engine` changes it."""
    new_blobs: Callable[[Path], Blobs] = staticmethod(LocalBlobs)

    def __init__(
        self,
        home: Path,
        *,
        units: int = 4,
        quorum: int = 4,
        versions: int = 20,
        warm_start: int = 0,
        new_host_units: int = 0,
        audit_rate: float = 0.0,
        audit_record: float = 0.0,
        holdout: bool = False,
        codec: Literal["fp32", "int8", "int4", "2bit"] = "int4",
        grace_seconds: float = 30.0,
        local_steps: int = 5,
        shortest_unit: float = 1.0,
        privacy: Privacy | None = None,
    ) -> None:
        self.home = home
        self.place = self.new_place(home)
        self.clock = Clock()
        self.online = SigningKey.generate()
        self.root = SigningKey.generate()
        keys = Home(home).online_key_file
        keys.parent.mkdir(exist_ok=True)
        make_secret_file(keys, self.online.to_bytes())
        self.deps = Deps(
            clock=self.clock,
            random_bytes=np.random.default_rng(1).bytes,
            secret=b"s" * 32,
            online_keys=OnlineKeys(Home(home)),
            blobs=self.new_blobs(home),
        )
        self.store = Store(self.place)
        self.buffers = [] if privacy else BUFFERS  # they are not for a project with noise
        names = [spec.name for spec in (*PARAMETERS, *self.buffers)]
        self.initial = {name: initial_version()[name] for name in names}
        self.metadata = self.describe(
            training=Training(
                warmup_steps=0,
                optimizer=SgdMomentum(),
                learning_rate=0.1,
                batch_examples=4,
                local_steps=local_steps,
                versions=versions,
                warm_start_versions=warm_start,
            ),
            round=Round(
                units=units,
                quorum=quorum,
                grace_seconds=grace_seconds,
                shortest_unit=shortest_unit,
            ),
            verification=Verification(
                tolerance=1e-3,
                tolerance_ceiling=0.05,
                new_host_units=new_host_units,
                audit_rate=audit_rate,
                audit_record=audit_record,
                pace=0.0,
            ),
            codec=Codec(up=codec, down=codec, block=16),
            holdout=holdout,
            privacy=privacy,
        )
        self.publish()
        self.run()

    # The researcher

    def describe(
        self,
        *,
        training: Training,
        round: Round,  # noqa: A002
        verification: Verification,
        codec: Codec,
        holdout: bool,
        privacy: Privacy | None,
    ) -> ProjectMetadata:
        put = self.deps.blobs.put
        shard = save_tensors({"x": np.zeros((8, 20), np.float32)})
        shards = [Shard(digest=put(shard), size=len(shard), examples=8)]
        listing = strict_json.encode(ShardList(train=shards * 3, holdout=shards * holdout))
        self.model = ModelSpec(
            parameters=PARAMETERS,
            buffers=self.buffers,
            initial=_blob(save_tensors(self.initial)),
            initial_digest="0" * 64,
            base=BaseSpec(tensors=BASE, blob=_blob(BASE_DATA)),
        )
        digest = version_digest(self.initial, self.model)
        self.model = msgspec.structs.replace(self.model, initial_digest=digest)
        for data in (BASE_DATA, save_tensors(self.initial), listing, graph(self.buffers)):
            put(data)
        return ProjectMetadata(
            protocol=1,
            project="tiny",
            number=1,
            epoch=0,
            issued_at=int(START),
            root_key=self.root.public,
            delegation=Delegation(online_key=self.online.public, expires_at=int(START) + 86400),
            title="Tiny",
            description="",
            data_licence="CC0",
            contact="",
            model=self.model,
            training_graph=_blob(graph(self.buffers)),
            evaluation_graph=_blob(graph(self.buffers)),
            data=DataSpec(
                kind="rows",
                inputs=[InputSpec(name="x", dtype="float32", shape=[20])],
                shards=_blob(listing),
            ),
            training=training,
            outer=OuterStep(),
            codec=codec,
            round=round,
            verification=verification,
            calibration=Calibration(steps=3),
            limits=ResourceLimits(memory_bytes=2**30, lease_seconds=600),
            privacy=privacy,
        )

    def envelope(self, metadata: ProjectMetadata, *, invite: str | None, key: SigningKey) -> bytes:
        signed = sign_payload(strict_json.encode(metadata), PayloadType.METADATA, key)
        request = PublishRequest(
            protocols=[1],
            project=metadata.project,
            invite=invite,
            metadata=signed.decode(),
            blobs=[],
            issued_at=int(self.clock.now),
            expires_at=int(self.clock.now) + 60,
        )
        return sign_payload(strict_json.encode(request), PayloadType.PUBLISH, key)

    def publish(
        self, metadata: ProjectMetadata | None = None, *, invite: bool = True
    ) -> PublishReply:
        with self.store.write() as tx:
            token = (
                new_invite(tx, self.deps, Role.PUBLISHER, lifetime_seconds=60) if invite else None
            )
        opened = open_publication(
            self.envelope(metadata or self.metadata, invite=token, key=self.root)
        )
        findings = examine(self.deps, opened)
        with self.store.write() as tx:
            return publish(tx, self.deps, opened, findings, "http://127.0.0.1:7532")

    # Volunteers

    def volunteer(
        self,
        name: str,
        *,
        account: str | None = None,
        network: str = "",
        role: Role = Role.HOST,
        calibrated: bool = True,
        key: SigningKey | None = None,
        invite: str | None = None,
        **behaviour: object,
    ) -> Volunteer:
        if role != Role.HOST:
            with self.store.write() as tx:
                invite = new_invite(tx, self.deps, role, lifetime_seconds=60)
        host = Volunteer(
            name,
            account or name,
            network,
            key or SigningKey.generate(),
            _account_key(account or name),
            **behaviour,  # type: ignore[arg-type]
        )
        request = EnrolRequest(
            protocols=[1],
            project="tiny",
            host_key=host.key.public,
            account_key=host.account_key.public,
            invite=invite,
            agent="test",
            issued_at=0,
            expires_at=0,
        )
        with self.store.write() as tx:
            enrol(tx, self.deps, tx.projects.find("tiny"), request, network)
        if calibrated:
            self.calibrate(host)
        return host

    def calibrate(self, host: Volunteer) -> None:
        manifests, _ = self.ask(host)
        assert [m.unit.kind for m in manifests] == [UnitKind.CALIBRATE]
        receipt = self.answer(host, manifests[0])
        assert receipt.outcome in {"stored", "unneeded"}, receipt
        self.run()

    def request(self, host: Volunteer, units: int, reports: list[Report]) -> WorkRequest:
        host.sequence += 1
        return WorkRequest(
            protocols=[1],
            project="tiny",
            host=host.key.fingerprint,
            sequence=host.sequence,
            issued_at=int(self.clock.now),
            expires_at=int(self.clock.now) + 60,
            agent="test",
            runtime=Runtime(
                torch="2", device="cpu", threads=host.threads, capability="x", system="l"
            ),
            max_units=units,
            in_hand=[m.assignment for m in host.held],
            reports=reports,
            free_seconds=host.free_seconds,
            usually_free_seconds=host.usually_free_seconds,
            memory_bytes=host.memory_bytes,
        )

    def exchange(
        self, host: Volunteer, units: int, reports: list[Report], attached: list[bytes]
    ) -> tuple[list[Receipt], list[Manifest], NoWork | None, list[UnitVerdict]]:
        """One work request, served as the HTTP process serves it."""
        request = self.as_sent(self.request(host, units, reports))
        digest = digest_of(strict_json.encode(request))
        asked = Asked(request, digest, attached, protocol=1, network=host.network)
        with self.store.write() as tx:
            answered = serve(tx, self.deps, asked)
        manifests = self.by_row(answered.manifests)
        host.held += manifests
        return (
            self.by_row(answered.receipts),
            manifests,
            answered.no_work,
            self.by_row(answered.verdicts),
        )

    def as_sent(self, request: WorkRequest) -> WorkRequest:
        """Name assignments as hosts know them; tests name them by their rows."""
        shown = self.deps.numbers.shown
        reports = [
            msgspec.structs.replace(report, assignment=shown(report.assignment))
            for report in request.reports
        ]
        in_hand = [shown(assignment) for assignment in request.in_hand]
        return msgspec.structs.replace(request, reports=reports, in_hand=in_hand)

    def by_row(self, statements: Sequence[Named]) -> list[Named]:
        """Name the assignments of a reply by their rows."""
        row = self.deps.numbers.row
        return [
            msgspec.structs.replace(found, assignment=row(found.assignment)) for found in statements
        ]

    def ask(self, host: Volunteer, units: int = 1) -> tuple[list[Manifest], NoWork | None]:
        _, manifests, no_work, _ = self.exchange(host, units, [], [])
        return manifests, no_work

    def train(self, host: Volunteer, manifest: Manifest) -> bytes:
        """What the host computes: a function of the unit, its class, and its honesty."""
        delta = honest_delta(manifest.unit.seed, host.drift)
        if host.lies and manifest.unit.kind != UnitKind.CALIBRATE:
            delta = {name: -array for name, array in delta.items()}
        delta = chunk_view(self.metadata, manifest.unit.chunk).taken(delta, manifest.unit.version)
        return delta_format(self.metadata, manifest.unit).encode(delta)

    def answer(
        self,
        host: Volunteer,
        manifest: Manifest,
        result: Result | None = None,
        *,
        data: bytes | None = None,
    ) -> Receipt:
        """Report a unit, with its delta attached."""
        attached: list[bytes] = []
        if result is None and manifest.unit.kind == UnitKind.EVALUATE:
            result = EvaluationResult(metrics={"loss": 1.0}, examples=8)
        if result is None:
            delta = self.train(host, manifest) if data is None else data
            attached = [pack(delta)]
            result = DeltaResult(
                digest=digest_of(delta),
                size=len(attached[0]),
                attached=True,
                loss_first=2.0,
                loss_last=1.0,
            )
        host.held = [m for m in host.held if m.assignment != manifest.assignment]
        receipts, _, _, _ = self.exchange(host, 0, [report(manifest, result)], attached)
        return receipts[0]

    def work(self, *hosts: Volunteer, rounds: int = 1) -> int:
        """Let hosts take and answer units in turn; return how many they did."""
        done = 0
        for _ in range(rounds):
            for host in hosts:
                for manifest in self.ask(host)[0]:
                    self.answer(host, manifest)
                    done += 1
            self.run()
        return done

    # The coordinator

    def run(self) -> None:
        """Everything that the background process would do now."""
        Jobs(self.store, self.deps).run_due()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and do what becomes due."""
        self.clock.now += seconds
        self.run()

    @property
    def project(self) -> Project:
        with self.store.read() as tx:
            return tx.projects.find("tiny")

    def row(self, host: Volunteer) -> Host:
        with self.store.read() as tx:
            return tx.hosts.find(tx.projects.find("tiny").id, host.key.fingerprint)

    def events(self, kind: str) -> list[dict[str, object]]:
        with self.store.read() as tx:
            found = tx.events.after(tx.projects.find("tiny").id, 0, 100_000)
        return [event.detail for event in found if event.kind == kind]


def honest_delta(seed: int, drift: float) -> Tensors:
    generator = np.random.default_rng(seed)
    delta: Tensors = {}
    for spec in model_tensors(ModelSpec(PARAMETERS, BUFFERS, _blob(b""), "0" * 64)):
        values = generator.normal(size=spec.shape) * 0.01
        if spec.dtype.startswith("float"):
            values = values * (1 + drift * np.cos(np.arange(values.size)).reshape(values.shape))
            delta[spec.name] = values.astype(np.float32)
        else:
            delta[spec.name] = np.full(spec.shape, -5, buffer_dtype(spec))
    return delta


def report(manifest: Manifest, result: Result) -> Report:
    return Report(
        assignment=manifest.assignment,
        nonce=manifest.nonce,
        epoch=manifest.unit.epoch,
        version=manifest.unit.version,
        result=result,
        compute_seconds=1.0,
    )


def _blob(data: bytes) -> Blob:
    return blob_of(data)


def _account_key(account: str) -> SigningKey:
    return SigningKey.from_bytes(bytes.fromhex(digest_of(account.encode())))
