"""Which statements the agent accepts: bytes in, a verified statement or a `TrustError` out.

`TrustedProject` holds what is known of one project, in the manner of python-tuf's
`TrustedMetadataSet`. Loading order:

1. `update_metadata`: root-signed metadata against the pinned fingerprint, or against a root to
   which the pinned one has handed over (docs/protocol.md 3).
2. `enrol_reply`: signed by the online key that the metadata delegates to.
3. `work_reply`: the same key, an answer to our last request, never backwards (5). If it names
   newer metadata, `StaleMetadataError` asks for step 1 first.

Nothing here reads a clock: `now` is seconds since 1970 on the host's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from pleb_shared.errors import Refusal, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.codec import delta_bytes, packed_most
from pleb_shared.protocol.ids import digest_of, fingerprint_of
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.messages import EnrolReply, PayloadType, WorkReply
from pleb_shared.protocol.project import OWN_SHARDS, ProjectMetadata, calibration_unit, tensor_bytes
from pleb_shared.protocol.roots import key_fault, root_path
from pleb_shared.protocol.sealing import sealed_bytes
from pleb_shared.protocol.signing import open_envelope, peek_payload, read_envelope
from pleb_shared.protocol.unit import Unit, UnitKind, VersionSource
from pleb_system.durations import shown_day, shown_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.manifest import Manifest

__all__ = [
    "ClockError",
    "Memory",
    "OlderMetadataError",
    "RootKeyError",
    "StaleMetadataError",
    "TrustedProject",
    "clock_sentence",
]


Reply = TypeVar("Reply", EnrolReply, WorkReply)


class StaleMetadataError(TrustError):
    """The reply belongs to newer metadata: fetch that first, then verify the reply again."""


class OlderMetadataError(TrustError):
    """The coordinator has older metadata than we, since it was restored: hand in ours."""


class RootKeyError(TrustError):
    """The metadata does not chain to the root key in the attach link."""


@dataclass(frozen=True)
class Memory:
    """What must never go backwards, as the journal remembers it."""

    metadata_number: int = 0
    metadata_digest: str = ""
    epoch: int = 0
    latest_version: int = 0
    root: str = ""
    """Fingerprint of the newest root key that was followed: none before it is accepted again."""
    restored_at: int = 0
    """When the coordinator was last restored, as it said."""


class ClockError(TrustError):
    """This PC's clock and the coordinator's are too far apart."""


def clock_sentence(theirs: float, ours: float) -> str:
    """Return one sentence that says how far the host's clock is off, and in which direction."""
    off = ours - theirs
    direction = "ahead" if off > 0 else "behind"
    return (
        f"Your clock is {shown_duration(abs(off))} {direction} of the coordinator's: "
        "set it (or switch on automatic time) and try again."
    )


def may_lead_to(base_url: str, url: str) -> bool:
    """Whether an address from metadata may be used: without TLS only if ours has none either.

    Otherwise a project could make PCs ask devices of their own networks.
    """
    return url.startswith("https://") or base_url.startswith("http://")


def mirrors_of(envelope: bytes) -> list[str]:
    """Return the mirrors that metadata name which were accepted before; they may have expired."""
    most = LIMITS.metadata_bytes
    payload = peek_payload(envelope, PayloadType.METADATA, most_bytes=most)
    return strict_json.decode(payload, ProjectMetadata, most_bytes=most).mirrors


def moved_link(link: AttachLink, metadata: ProjectMetadata) -> AttachLink:
    """Return the link of where a project is served: the same one, unless it has moved.

    Raises:
        TrustError: it has moved to an address that `link` does not permit.
    """
    place = metadata.coordinator
    if place is None:
        return link
    if not may_lead_to(link.base_url, place.url):
        raise TrustError(
            f"{metadata.project} has moved to {place.url}, which has no encryption as its link "
            "has: ask the researcher."
        )
    return link.at(place.url, place.certificate)


class TrustedProject:
    """The statements of one project that chain to its pinned root.

    `root` is the fingerprint in the attach link. Once metadata was accepted, `memory.root` counts
    too: both must be in the chain of roots that metadata carries.
    """

    def __init__(self, project: str, root: str, host: str, memory: Memory) -> None:
        self.project = project
        self.root = root
        self.host = host
        self._memory = memory
        self._metadata: ProjectMetadata | None = None

    @property
    def memory(self) -> Memory:
        """What the journal has to remember after the last accepted statement."""
        return self._memory

    @property
    def is_loaded(self) -> bool:
        """Whether `update_metadata` has accepted any."""
        return self._metadata is not None

    @property
    def metadata(self) -> ProjectMetadata:
        """The newest accepted metadata.

        Raises:
            TrustError: none was accepted yet.
        """
        if self._metadata is None:
            raise TrustError(f"The metadata of {self.project} was not loaded yet; attach again.")
        return self._metadata

    def update_metadata(self, data: bytes, now: float) -> ProjectMetadata:
        """Accept an envelope of project metadata.

        Raises:
            TrustError: not signed by the pinned root or one that it handed over to, another
                project's, older than one seen before, signed or delegating with a revoked key,
                or its delegation is too long or has ended.
        """
        metadata = self._read_metadata(data)
        self._check_progress(metadata, digest_of(data))
        _check_delegation(metadata, now)
        self._metadata = metadata
        known = self._memory
        same_epoch = metadata.epoch == known.epoch
        self._memory = Memory(
            metadata_number=metadata.number,
            metadata_digest=digest_of(data),
            epoch=metadata.epoch,
            latest_version=known.latest_version if same_epoch else 0,
            root=fingerprint_of(metadata.root_key),
            restored_at=known.restored_at,
        )
        return metadata

    def enrol_reply(self, data: bytes, now: float) -> EnrolReply:
        """Return the verified answer to an enrolment.

        Raises:
            TrustError: not signed by the online key, not for us, or from another time.
        """
        reply = self._open(data, PayloadType.ENROL_REPLY, EnrolReply, now)
        if abs(reply.issued_at - now) > LIMITS.clock_tolerance_seconds:
            raise ClockError(clock_sentence(reply.issued_at, now))
        return reply

    def work_reply(
        self,
        data: bytes,
        now: float,
        *,
        sequence: int,
        reported: Sequence[int],
        most_units: int,
        is_spent: Callable[[str], bool],
    ) -> WorkReply:
        """Return the verified answer to our last work request.

        Args:
            data: the envelope.
            now: the host's time.
            sequence: that of the request which this must answer.
            reported: the assignments whose reports the request carried.
            most_units: how many units the request asked for.
            is_spent: whether we have already reported on a nonce.

        Raises:
            StaleMetadataError: newer metadata must be loaded first.
            TrustError: any rule of docs/protocol.md 5 is broken.
        """
        reply = self._open(data, PayloadType.WORK_REPLY, WorkReply, now)
        tolerance = LIMITS.clock_tolerance_seconds
        if reply.issued_at > now + tolerance or reply.expires_at + tolerance < now:
            raise ClockError(clock_sentence(reply.issued_at, now))
        if reply.in_reply_to != sequence:
            raise TrustError(
                f"The coordinator answered request {reply.in_reply_to} instead of {sequence}; "
                "the answer was refused."
            )
        self._check_numbers(reply)
        self._check_version(reply, now)
        answered = [receipt.assignment for receipt in reply.receipts]
        if sorted(answered) != sorted(reported):
            raise TrustError(
                f"The coordinator gave receipts for {answered} where {list(reported)} were "
                "reported."
            )
        if len(reply.manifests) > most_units:
            raise TrustError(
                f"The coordinator gave {len(reply.manifests)} units where at most {most_units} "
                "were asked for; none was taken."
            )
        for manifest in reply.manifests:
            self._check_manifest(manifest, reply, is_spent)
        self._memory = replace(
            self._memory, latest_version=reply.latest_version, restored_at=reply.restored_at
        )
        return reply

    def _open(self, data: bytes, kind: PayloadType, struct: type[Reply], now: float) -> Reply:
        """Return an answer that the online key signed while it was delegated to, for this host."""
        _check_delegation(self.metadata, now)
        try:
            reply = open_envelope(data, kind, struct, self.metadata.delegation.online_key)
        except Refusal as error:
            raise TrustError(f"The coordinator's answer was refused: {error}") from error
        if reply.protocol not in PROTOCOLS:
            raise TrustError(
                f"The coordinator answered in protocol {reply.protocol}, which this agent does not "
                "support; update the agent."
            )
        if reply.project != self.project or reply.host != self.host:
            raise TrustError("The coordinator's answer is addressed to another host.")
        return reply

    def _read_metadata(self, data: bytes) -> ProjectMetadata:
        most = LIMITS.metadata_bytes
        try:
            signed = read_envelope(data, PayloadType.METADATA, most_bytes=most)
            claimed = strict_json.decode(signed.payload, ProjectMetadata, most_bytes=most)
            self._check_root(claimed)
            signed.verify(claimed.root_key)
        except Refusal as error:
            raise TrustError(f"The metadata of {self.project} was refused: {error}") from error
        if claimed.project != self.project:
            raise TrustError(f"The metadata is about {claimed.project!r}, not {self.project!r}.")
        return claimed

    def _check_root(self, claimed: ProjectMetadata) -> None:
        """Refuse metadata whose chain of roots leaves out the pin, or a root followed before."""
        path = [fingerprint_of(key) for key in root_path(claimed)]
        followed = self._memory.root
        if self.root not in path:
            raise RootKeyError(
                f"The metadata of {self.project} belongs to another root key than the attach "
                "link's; ask the researcher for the right link."
            )
        if followed and followed not in path:
            raise TrustError(
                f"The metadata of {self.project} is signed by a root key that was replaced; it was "
                "refused."
            )
        if fault := key_fault(claimed):
            raise TrustError(f"The metadata of {self.project} was refused: {fault}.")
        if not self._memory.metadata_number and self.root in claimed.revoked:
            raise TrustError(
                f"The researcher has revoked the key in this attach link of {self.project}: copy "
                "the newest link from the project's page."
            )

    def _check_progress(self, metadata: ProjectMetadata, digest: str) -> None:
        known = self._memory
        if metadata.protocol not in PROTOCOLS:
            raise TrustError(
                f"{self.project} uses protocol {metadata.protocol}, which this agent does not "
                "support; update the agent."
            )
        if metadata.number < known.metadata_number or metadata.epoch < known.epoch:
            raise OlderMetadataError(
                f"The coordinator serves metadata {metadata.number} of {self.project}, older than "
                f"number {known.metadata_number} seen before; it was refused."
            )
        if metadata.number == known.metadata_number and digest != known.metadata_digest:
            raise TrustError(
                f"There are two different metadata {metadata.number} of {self.project}; "
                "the one seen first stays. Ask the researcher."
            )

    def _check_numbers(self, reply: WorkReply) -> None:
        known = self._memory
        if reply.metadata_number > known.metadata_number:
            raise StaleMetadataError(f"{self.project} has newer metadata; it is fetched first.")
        message = (
            f"The coordinator's answer belongs to metadata {reply.metadata_number}, epoch "
            f"{reply.epoch}; {self.project} is at {known.metadata_number}, {known.epoch}."
        )
        if reply.metadata_number < known.metadata_number:
            raise OlderMetadataError(message)
        if reply.epoch != known.epoch:
            raise TrustError(message)

    def _check_version(self, reply: WorkReply, now: float) -> None:
        """Refuse to go back, unless a restored coordinator does so with the root's permission.

        A time in the future would outlast every later restoration, so it is refused.
        """
        known = self._memory
        if reply.restored_at < known.restored_at:
            raise TrustError(
                f"The coordinator of {self.project} was restored on "
                f"{shown_day(known.restored_at)}, and answered as before; the answer was refused."
            )
        if reply.restored_at > now + LIMITS.clock_tolerance_seconds:
            raise ClockError(clock_sentence(reply.restored_at, now))
        if reply.latest_version >= known.latest_version:
            return
        if reply.restored_at == known.restored_at:
            raise TrustError(
                f"{self.project} went back from version {known.latest_version} to "
                f"{reply.latest_version} without a new epoch; the answer was refused."
            )
        if not self.metadata.delegation.may_restore:
            raise TrustError(
                f"The coordinator of {self.project} was restored from a backup, but its researcher "
                "has not permitted to go back: the researcher has to publish a new epoch."
            )

    def _check_manifest(
        self, manifest: Manifest, reply: WorkReply, is_spent: Callable[[str], bool]
    ) -> None:
        """Refuse a unit in which the online key chose what only the root key may choose."""
        if manifest.project != self.project or manifest.host != self.host:
            raise TrustError(f"Assignment {manifest.assignment} is addressed to another host.")
        if manifest.metadata_number != reply.metadata_number:
            raise TrustError(
                f"Assignment {manifest.assignment} belongs to metadata "
                f"{manifest.metadata_number}, not {reply.metadata_number}."
            )
        if is_spent(manifest.nonce):
            raise TrustError(f"Assignment {manifest.assignment} repeats one already reported.")
        unit, source = manifest.unit, manifest.version
        broken = (
            _identity_fault(unit, source, self.metadata)
            or _work_fault(unit, self.metadata)
            or _age_fault(unit, reply.latest_version)
            or _source_fault(source, self.metadata)
        )
        if broken:
            raise TrustError(f"Assignment {manifest.assignment} was refused: {broken}.")


def _check_delegation(metadata: ProjectMetadata, now: float) -> None:
    expires = metadata.delegation.expires_at
    if expires > metadata.issued_at + LIMITS.delegation_seconds:
        raise TrustError(
            f"The delegation of {metadata.project} lasts longer than 30 days; "
            "ask the researcher to publish again."
        )
    if metadata.issued_at > now + LIMITS.clock_tolerance_seconds:
        raise ClockError(clock_sentence(metadata.issued_at, now))
    if expires + LIMITS.clock_tolerance_seconds < now:
        raise TrustError(
            f"The permission of {metadata.project} ended {shown_duration(now - expires)} ago, on "
            f"{shown_day(expires)}; its researcher has to renew it. The agent goes on by itself "
            "then. If your clock is wrong, set it."
        )


def _identity_fault(unit: Unit, source: VersionSource, metadata: ProjectMetadata) -> str:
    if unit.epoch != metadata.epoch or source.epoch != metadata.epoch:
        return f"it belongs to epoch {unit.epoch}, the project is at {metadata.epoch}"
    if unit.version != source.number:
        return f"it asks for version {unit.version} and gives version {source.number}"
    if metadata.graph_of(unit.chunk) is None:
        return f"the project has no chunk {unit.chunk!r}"
    return ""


def _work_fault(unit: Unit, metadata: ProjectMetadata) -> str:
    """Too much or other work than the researcher signed for, or none."""
    training = metadata.training
    if unit.kind is UnitKind.TRAIN:
        batches = unit.batches_per_step
        warm_start = unit.version < training.warm_start_versions
        if batches > 1 and not (warm_start and batches == training.warm_start_batches):
            return f"{batches} batches in a step, where one is allowed"
        steps, shards = training.local_steps * batches, training.shards_per_unit * batches
        if not 1 <= unit.local_steps <= steps:
            return f"{unit.local_steps} steps, where 1 to {steps} are allowed"
        if unit.shards.count > shards:
            return f"{unit.shards.count} shards, where {shards} are allowed"
        if metadata.data.own is not None and unit.shards != OWN_SHARDS:
            return "it names shards, where each host trains on its own data"
    if unit.kind is UnitKind.EVALUATE and unit.local_steps > training.local_steps:
        return "it evaluates with training steps"
    if unit.kind is UnitKind.CALIBRATE:
        return "" if unit == calibration_unit(metadata) else "it is not the calibration unit"
    return ""


def _age_fault(unit: Unit, latest_version: int) -> str:
    if unit.kind is UnitKind.CALIBRATE:
        return "" if unit.version == 0 else "calibration starts from version 0"
    if unit.version > latest_version:
        return f"version {unit.version} is newer than the latest, {latest_version}"
    if latest_version - unit.version > LIMITS.version_lag:
        return f"version {unit.version} lies more than {LIMITS.version_lag} behind the latest"
    return ""


def _source_fault(source: VersionSource, metadata: ProjectMetadata) -> str:
    model = metadata.model
    if source.snapshot_number + len(source.differences) != source.number:
        return "its differences do not lead from the snapshot to the version"
    if source.number == 0:
        first = source.snapshot == model.initial and source.digest == model.initial_digest
        return "" if first else "version 0 is not the one that the researcher signed"
    if not source.differences:
        return "a version after 0 comes with at least one difference"
    # The largest safetensors file of the model: its numbers and their header.
    tensors = [*model.parameters, *model.buffers]
    header = sum(len(spec.name) * 6 + 256 + 24 * len(spec.shape) for spec in tensors)
    ceiling = 4096 + header + tensor_bytes(tensors)
    if metadata.access == "invited":
        ceiling = sealed_bytes(ceiling)
    if source.snapshot.size > ceiling:
        return f"a snapshot of {source.snapshot.size} bytes is larger than the model"
    most = packed_most(delta_bytes(model, metadata.codec.down, metadata.codec.block))
    if metadata.access == "invited":
        most = sealed_bytes(most)
    if any(blob.size > most for blob in source.differences):
        return f"a difference has more than the {most} bytes of this model's"
    return ""
