"""A volunteer that lies: it takes units and uploads noise instead of training.

    python liar.py ATTACH-LINK [--name liar] [--units N] [--threads N] [--together SECRET]

It speaks the protocol from docs/protocol.md and lies well: right format, right size, a plausible
norm and loss, a plausible time. It computes its calibration honestly, since a host whose kind of
PC the trusted hosts do not know gets no units. It stops when it is banned.

Several with the same --together tell the same lie of each unit, and at once, so that they are
there before anybody honest. Their calibrations agree too: they make up a determinism class.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import numpy as np

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import AttachLink, digest_of, parse_attach_link
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.messages import (
    EnrolReply,
    EnrolRequest,
    PayloadType,
    ReceiptOutcome,
    RefusalBody,
    Runtime,
    WorkReply,
    WorkRequest,
)
from pleb_shared.protocol.project import ProjectMetadata, ShardList, Training
from pleb_shared.protocol.report import DeltaResult, FailureResult, Report, Result
from pleb_shared.protocol.signing import SigningKey, open_envelope, peek_payload, sign_payload
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.format import buffer_dtype, delta_format, difference_format
from pleb_shared.tensors.packing import pack

if TYPE_CHECKING:
    from pleb_shared.protocol.manifest import Manifest
    from pleb_shared.tensors.layout import Tensors

AGENT = "pleb-agent/0.1.0"  # a lie, too
LIFETIME_SECONDS = 120


def main() -> None:
    """Attach and lie until banned, or for a number of units."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("link")
    parser.add_argument("--name", default="liar")
    parser.add_argument("--units", type=int, default=0, help="0: until it is banned")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="as many as the agents use"
    )
    parser.add_argument("--together", default="", help="what colluders have in common")
    arguments = parser.parse_args()
    link = parse_attach_link(arguments.link)
    with httpx.Client(base_url=link.base_url, timeout=60) as http:
        liar = Liar(link, http, threads=arguments.threads, together=arguments.together)
        liar.enrol(arguments.name)
        try:
            liar.work(arguments.units)
        except Refusal as error:
            if error.code is not RefusalCode.BANNED:
                raise
            print(f"banned after {liar.lies} units: {error.message}", flush=True)


@dataclass
class Liar:
    """A host with keys of its own, which trains nothing but its calibration."""

    link: AttachLink
    http: httpx.Client
    threads: int
    host: SigningKey = field(default_factory=SigningKey.generate)
    account: SigningKey = field(default_factory=SigningKey.generate)
    noise: np.random.Generator = field(
        default_factory=lambda: np.random.Generator(np.random.Philox())
    )
    together: str = ""
    sequence: int = 0
    lies: int = 0
    reports: list[tuple[Report, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._load_metadata()

    def _load_metadata(self) -> None:
        """Get the project's metadata; a liar need not check it."""
        envelope = self._send("GET", f"/projects/{self.link.project}/metadata")
        payload = peek_payload(envelope, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes)
        self.metadata = strict_json.decode(
            payload, ProjectMetadata, most_bytes=LIMITS.metadata_bytes
        )

    def enrol(self, name: str) -> None:
        """Make the host known."""
        now = int(time.time())  # noqa: TID251
        request = EnrolRequest(
            protocols=list(PROTOCOLS),
            project=self.link.project,
            host_key=self.host.public,
            account_key=self.account.public,
            display_name=name,
            agent=AGENT,
            issued_at=now,
            expires_at=now + LIFETIME_SECONDS,
        )
        body = sign_payload(strict_json.encode(request), PayloadType.ENROL, self.host, self.account)
        answer = self._send("POST", f"/projects/{self.link.project}/enrol", body)
        reply = open_envelope(answer, PayloadType.ENROL_REPLY, EnrolReply, self._online_key)
        self.sequence = reply.sequence

    def work(self, most: int) -> None:
        """Take a unit, wait as if training, report noise; again and again."""
        while not most or self.lies < most or self.reports:
            reply = self._ask()
            for verdict in reply.verdicts:
                print(f"verdict on {verdict.assignment}: {verdict.verdict}: {verdict.reason}")
            for manifest in reply.manifests:
                self.reports.append(self._lie(manifest))
            if not reply.manifests:
                time.sleep(min(2.0, reply.no_work.retry_after_seconds if reply.no_work else 1.0))

    def _ask(self) -> WorkReply:
        """Hand in what was made up and ask for more."""
        reports, self.reports = self.reports, []
        now = int(time.time())  # noqa: TID251
        self.sequence += 1
        request = WorkRequest(
            protocols=list(PROTOCOLS),
            project=self.link.project,
            host=self.host.fingerprint,
            sequence=self.sequence,
            issued_at=now,
            expires_at=now + LIFETIME_SECONDS,
            agent=AGENT,
            runtime=self._runtime(),
            max_units=1,
            wait_seconds=5,
            reports=[report for report, _ in reports],
        )
        envelope = sign_payload(strict_json.encode(request), PayloadType.WORK, self.host)
        attached = b"".join(pack(data) for report, data in reports if _attached(report))
        body = envelope + (b"\n" + attached if attached else b"")
        answer = self._send("POST", f"/projects/{self.link.project}/work", body)
        try:
            reply = open_envelope(answer, PayloadType.WORK_REPLY, WorkReply, self._online_key)
        except Refusal:  # the online key may have changed, which newer metadata says
            self._load_metadata()
            reply = open_envelope(answer, PayloadType.WORK_REPLY, WorkReply, self._online_key)
        by_assignment = {report.assignment: data for report, data in reports}
        for receipt in reply.receipts:
            print(
                f"report on {receipt.assignment}: {receipt.outcome} {receipt.message}", flush=True
            )
            if receipt.outcome is ReceiptOutcome.UPLOAD and receipt.upload:
                self._upload(receipt.upload, pack(by_assignment[receipt.assignment]))
        return reply

    def _runtime(self) -> Runtime:
        """Return what an agent on this PC would say; colluders make it up, as their class."""
        if self.together:
            return Runtime(
                torch="2.13.0", device="cpu", threads=1, capability="AVX2", system="linux"
            )
        import torch

        return Runtime(
            torch=str(torch.__version__),
            device="cpu",
            threads=self.threads,
            capability=torch.backends.cpu.get_cpu_capability(),
            system=f"{platform.system()}-{platform.machine()}".lower(),
        )

    def _lie(self, manifest: Manifest) -> tuple[Report, bytes]:
        """Return a report on a unit and its delta: noise, but for an honest calibration."""
        unit = manifest.unit
        if self.together:
            key = digest_of(f"{self.together}/{unit.version}/{unit.seed}".encode())
            self.noise = np.random.Generator(np.random.Philox(key=int(key[:32], 16)))
        honest = unit.kind is UnitKind.CALIBRATE and not self.together
        if honest:
            data = self._calibrated(manifest)
        else:
            data = b"" if unit.kind is UnitKind.EVALUATE else self._made_up(manifest)
            self.lies += 1
        result = self._claim(data)
        seconds = 0.2 + float(self.noise.random())
        if not self.together:
            time.sleep(seconds)
        report = Report(
            assignment=manifest.assignment,
            nonce=manifest.nonce,
            epoch=unit.epoch,
            version=unit.version,
            result=result,
            compute_seconds=seconds,
        )
        return report, data

    def _calibrated(self, manifest: Manifest) -> bytes:
        """Return the delta that an honest PC like this one has for the calibration unit."""
        import torch

        from pleb_shared.protocol.graph import parse_graph
        from pleb_shared.tensors.layout import load_tensors
        from pleb_shared.tensors.version import load_base
        from pleb_shared.training.graph import CompiledGraph, base_tensors
        from pleb_shared.training.local_sgd import calibrate

        torch.set_num_threads(self.threads)
        torch.use_deterministic_algorithms(mode=True)
        metadata = self.metadata
        base = base_tensors(load_base(metadata.model, self._blob).items())
        graph = CompiledGraph(parse_graph(self._blob(metadata.training_graph.digest)))
        listed = self._blob(metadata.data.shards.digest)
        shards = strict_json.decode(listed, ShardList, most_bytes=LIMITS.shard_list_bytes).train
        shard = load_tensors(self._blob(shards[manifest.unit.shards.first % len(shards)].digest))
        version = load_tensors(self._blob(metadata.model.initial.digest))
        on_base = graph.with_base(base)
        return calibrate(on_base, metadata, version, shard, time.perf_counter).delta

    def _made_up(self, manifest: Manifest) -> bytes:
        """Return noise, encoded as the unit's delta."""
        return delta_format(self.metadata, manifest.unit).encode(self._noise(manifest))

    def _claim(self, data: bytes) -> Result:
        """Return a result that speaks of `data`; evaluation is for trusted hosts only."""
        if not data:
            return FailureResult(reason="no holdout here")
        size = len(pack(data))
        return DeltaResult(
            digest=digest_of(data),
            size=size,
            attached=size <= LIMITS.attached_delta_bytes,
            loss_first=1.0 + float(self.noise.random()),
            loss_last=float(self.noise.random()),
        )

    def _noise(self, manifest: Manifest) -> Tensors:
        """Return noise of the size of a real delta, for parameters; nothing for buffers."""
        model = self.metadata.model
        scales = self._scales(manifest)
        delta: Tensors = {}
        for spec in model.parameters:
            numbers = self.noise.standard_normal(spec.shape, np.float32)
            delta[spec.name] = numbers * np.float32(scales[spec.name])
        for spec in model.buffers:
            delta[spec.name] = np.zeros(spec.shape, buffer_dtype(spec))
        return delta

    def _scales(self, manifest: Manifest) -> dict[str, float]:
        """Return a root mean square for every parameter: the last difference's, or a guess."""
        model = self.metadata.model
        if manifest.version.differences and manifest.unit.kind is UnitKind.TRAIN:
            data = self._blob(manifest.version.differences[-1].digest)
            encoding = difference_format(self.metadata)
            last = encoding.decode(encoding.unpack(data))
            return {s.name: float(np.sqrt(np.mean(last[s.name] ** 2))) for s in model.parameters}
        guess = _path(self.metadata.training, manifest.unit.local_steps)
        return {spec.name: guess for spec in model.parameters}

    def _blob(self, digest: str) -> bytes:
        return self._send("GET", f"/blobs/{digest}")

    def _upload(self, token: str, data: bytes) -> None:
        for start in range(0, len(data), LIMITS.upload_part_bytes):
            part = data[start : start + LIMITS.upload_part_bytes]
            self._send("PATCH", f"/uploads/{token}", part, {"Upload-Offset": str(start)})

    @property
    def _online_key(self) -> str:
        return self.metadata.delegation.online_key

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        answer = self.http.request(method, path, content=body, headers=headers)
        if answer.status_code >= 400:
            refusal = strict_json.decode(answer.content, RefusalBody)
            raise Refusal(refusal.code, refusal.message)
        return answer.content


def _attached(report: Report) -> bool:
    return isinstance(report.result, DeltaResult) and report.result.attached


def _path(training: Training, steps: int) -> float:
    """Return about how far one number moves in a unit at the start of training."""
    return 0.1 * training.learning_rate * steps


if __name__ == "__main__":
    main()
