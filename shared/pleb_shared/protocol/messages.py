"""The messages: requests signed by a host or a researcher, replies signed by the coordinator."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec.structs import replace

from pleb_shared.errors import RefusalCode
from pleb_shared.protocol.fleet_records import BroughtRecords
from pleb_shared.protocol.ids import Digest, KeyHex, ProjectName
from pleb_shared.protocol.keys import check_public_key
from pleb_shared.protocol.lan import LanKey
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.numerics import STRICT_CAPABILITY, STRICT_THREADS, lacking
from pleb_shared.protocol.peers import Peer, Sharing
from pleb_shared.protocol.reasons import Reason
from pleb_shared.protocol.report import Report
from pleb_shared.protocol.unit import Blob, Count, Struct

if TYPE_CHECKING:
    from pleb_shared.protocol.project import Numerics

__all__ = [
    "BlobSlot",
    "CoordinatorInfo",
    "EnrolReply",
    "EnrolRequest",
    "Evidence",
    "History",
    "NoWork",
    "PayloadType",
    "Protocols",
    "PublishAnswer",
    "PublishQuestion",
    "PublishReply",
    "PublishRequest",
    "Receipt",
    "ReceiptOutcome",
    "Received",
    "RecordsRequest",
    "RefusalBody",
    "Role",
    "Runtime",
    "UnitVerdict",
    "Verdict",
    "WorkReply",
    "WorkRequest",
]

Protocols = Annotated[
    list[Annotated[int, msgspec.Meta(ge=1, le=1000)]], msgspec.Meta(min_length=1, max_length=16)
]
Short = Annotated[str, msgspec.Meta(max_length=LIMITS.name_characters)]
Sentence = Annotated[str, msgspec.Meta(max_length=500)]
Token = Annotated[str, msgspec.Meta(min_length=16, max_length=128)]
BoxBytes = Annotated[bytes, msgspec.Meta(max_length=LIMITS.message_bytes // 2)]
"""A `Reading` in a box (`protocol.sealing`); base64 in JSON."""


class PayloadType(StrEnum):
    """DSSE payload types, one for each kind of statement, so that none can pass for another."""

    METADATA = "application/vnd.pleb.project-metadata+json"
    ROOT_CHANGE = "application/vnd.pleb.root-change+json"
    PUBLISH = "application/vnd.pleb.publish+json"
    PUBLISH_REPLY = "application/vnd.pleb.publish-reply+json"
    PUBLISH_QUESTION = "application/vnd.pleb.publish-question+json"
    PUBLISH_ANSWER = "application/vnd.pleb.publish-answer+json"
    ENROL = "application/vnd.pleb.enrol+json"
    ENROL_REPLY = "application/vnd.pleb.enrol-reply+json"
    WORK = "application/vnd.pleb.work+json"
    WORK_REPLY = "application/vnd.pleb.work-reply+json"
    RECORDS_REQUEST = "application/vnd.pleb.records-request+json"
    RECORDS = "application/vnd.pleb.records+json"
    LOG_HEAD = "application/vnd.pleb.log-head+json"
    ADMIN_LOGIN = "application/vnd.pleb.admin-login+json"
    ADMIN = "application/vnd.pleb.admin+json"


class Role(StrEnum):
    """The role that an invite gives; without one it is `host`."""

    HOST = "host"
    TRUSTED = "trusted"
    PUBLISHER = "publisher"
    ADMIN = "admin"


class RefusalBody(Struct, frozen=True):
    """The unsigned JSON body of every error response."""

    code: RefusalCode
    message: str
    retry_after_seconds: float | None = None


class CoordinatorInfo(Struct, frozen=True):
    """The unsigned response to `GET /coordinator`."""

    software: str
    protocols: Protocols
    online_key: KeyHex
    projects: list[str]

    def __post_init__(self) -> None:
        """Refuse a key that proves nothing."""
        check_public_key(self.online_key)


class EnrolRequest(Struct, kw_only=True, frozen=True):
    """Enrols a host in a project; signed by the host's and the account's keys."""

    protocols: Protocols
    project: ProjectName
    host_key: KeyHex
    account_key: KeyHex
    display_name: Short = ""
    invite: Token | None = None
    seal_to: KeyHex | None = None
    """An X25519 key, made for this request: a private project's keys come sealed to it."""
    agent: Short
    issued_at: Count
    expires_at: Count

    def __post_init__(self) -> None:
        """Refuse keys that prove nothing."""
        check_public_key(self.host_key)
        check_public_key(self.account_key)


class EnrolReply(Struct, frozen=True):
    """The host is enrolled, in this role. `sequence` is the last one that the project has seen."""

    protocol: int
    project: ProjectName
    host: Digest
    account: Digest
    role: Role
    sequence: Count
    issued_at: Count
    box: BoxBytes | None = None
    """Of a private project: by what the host reads it, for the request's `seal_to`."""


class Runtime(Struct, frozen=True):
    """What a host's rounding depends on; a change requires a new calibration."""

    torch: Short
    device: Short
    threads: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    capability: Short
    """Vector instructions that the kernels use, e.g. AVX2."""
    system: Short

    def fingerprint(self) -> str:
        """Return one line that is different for every runtime."""
        return f"{self.torch}/{self.device}/{self.threads}/{self.capability}/{self.system}"

    def under(self, numerics: Numerics) -> Runtime:
        """Return what rounding depends on where `numerics` decide: `strict` leaves no choice."""
        if numerics == "native":
            return self
        return replace(self, threads=STRICT_THREADS, capability=STRICT_CAPABILITY)

    def lacks(self, numerics: Numerics) -> str:
        """Return why this native runtime cannot compute so, or the empty string."""
        if numerics != "native" and self.device != "cpu":
            return "The project runs in strict numerics, which only processors have."
        return lacking(numerics, self.system, self.capability)


ReceivedBytes = Annotated[int, msgspec.Meta(ge=0, le=LIMITS.received_bytes)]


class Received(Struct, frozen=True):
    """From where a host got how many bytes of blobs. It is for people: nothing depends on it."""

    coordinator: ReceivedBytes = 0
    mirrors: ReceivedBytes = 0
    peers: ReceivedBytes = 0
    """Of its local network."""
    internet: ReceivedBytes = 0
    """Other hosts, elsewhere."""


class WorkRequest(Struct, kw_only=True, frozen=True):
    """Asks for units and carries reports; signed by the host's key.

    `sequence` grows with every request of the host to this project. The coordinator may hold the
    request for `wait_seconds` until there is work.
    """

    protocols: Protocols
    project: ProjectName
    host: Digest
    sequence: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    issued_at: Count
    expires_at: Count
    agent: Short
    runtime: Runtime
    max_units: Annotated[int, msgspec.Meta(ge=0, le=LIMITS.units_per_request)]
    wait_seconds: Annotated[float, msgspec.Meta(ge=0, le=LIMITS.long_poll_seconds)] = 0
    holds: Annotated[list[Digest], msgspec.Meta(max_length=LIMITS.held_blobs)] = []
    in_hand: Annotated[list[Count], msgspec.Meta(max_length=LIMITS.units_per_request)] = []
    """Assignments that the host is working on; the coordinator sends other leased ones again."""
    reports: Annotated[list[Report], msgspec.Meta(max_length=LIMITS.reports_per_request)] = []
    refuses: Sentence = ""
    """Why the host has refused the last answer; it gets no unit until one was accepted again."""
    free_seconds: Annotated[float, msgspec.Meta(ge=0, le=LIMITS.free_seconds)] | None = None
    """When the host must be done: it gets what it can finish by then. None: it need not."""
    usually_free_seconds: Annotated[float, msgspec.Meta(ge=0, le=LIMITS.free_seconds)] | None = None
    """For how long it probably stays free: units are shortened to end in it where they can be."""
    memory_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**44)] | None = None
    """What a unit may take on the host, by which the coordinator chooses its chunk."""
    received: Received | None = None
    """Of blobs, since the last request that said so; None: nothing."""
    has_own_data: bool = False
    """Whether a folder with data is chosen here, in a project that is trained on such. Nothing is
    said about what is in it."""
    sharing: Sharing | None = None
    """It passes on blobs beyond its local network, and takes them from there; None: its user does
    not want that."""


class ReceiptOutcome(StrEnum):
    """What happened to a report."""

    STORED = "stored"
    UPLOAD = "upload"
    UNNEEDED = "unneeded"
    REFUSED = "refused"


class Receipt(Struct, frozen=True):
    """The answer to one report: result stored, upload requested, upload not needed, or refused."""

    assignment: Count
    outcome: ReceiptOutcome
    upload: Token | None = None
    code: RefusalCode | None = None
    message: Sentence = ""


class Verdict(StrEnum):
    """The final verdict on a host's result."""

    VALID = "valid"
    INVALID = "invalid"
    LATE = "late"


class Evidence(Struct, frozen=True):
    """How far a refused result is from the one that counts, and how far it might have been."""

    distance: Annotated[float, msgspec.Meta(ge=0)]
    tolerance: Annotated[float, msgspec.Meta(ge=0)]


class UnitVerdict(Struct, frozen=True):
    """The verdict on a result that the host reported before. `credit` is in FLOPs."""

    assignment: Count
    verdict: Verdict
    credit: float
    reason: Reason | None = None
    unit: Count = 0
    """The unit's number on the project's page, which its manifest does not tell; 0: not told."""
    evidence: Evidence | None = None
    """Only of a result that was proven wrong by comparison with others."""


class NoWork(Struct, frozen=True):
    """Why there are fewer units than asked for, and when to ask again."""

    reason: Reason
    retry_after_seconds: Annotated[float, msgspec.Meta(ge=0, le=7 * 24 * 3600)]


class WorkReply(Struct, frozen=True):
    """Units and receipts; signed by the coordinator's online key, addressed to one host."""

    protocol: int
    project: ProjectName
    host: Digest
    in_reply_to: Count
    issued_at: Count
    expires_at: Count
    metadata_number: Count
    epoch: Count
    latest_version: Count
    manifests: list[Manifest]
    receipts: list[Receipt]
    verdicts: list[UnitVerdict]
    no_work: NoWork | None = None
    lan_key: LanKey | None = None
    """What members of the project know each other by on a local network."""
    key_number: Count = 0
    """Of a private project: its newest key. A host that lacks it enrols again, and gets it."""
    restored_at: Count = 0
    """When the coordinator was last restored from a backup; 0: never. Only with a newer time than
    before, and if the delegation allows it, may `latest_version` go back."""
    peers: Annotated[list[Peer], msgspec.Meta(max_length=LIMITS.peers)] = []
    """Other hosts that share, for one that does: they probably have blobs that it needs."""
    reached: Short | None = None
    """The address at which the coordinator reached a host that shares, by its port; empty: it could
    not; None: it did not try yet."""


class PublishQuestion(Struct, frozen=True):
    """Asks whether `root_key`, which signs it, may publish the project; nothing is changed."""

    protocols: Protocols
    project: ProjectName
    invite: Token | None
    root_key: KeyHex
    issued_at: Count
    expires_at: Count
    seal_to: KeyHex | None = None
    """As in `EnrolRequest`: by what the researcher reads and seals a private project."""

    def __post_init__(self) -> None:
        """Refuse a key that proves nothing."""
        check_public_key(self.root_key)


class PublishAnswer(Struct, frozen=True):
    """It may; signed by the coordinator's newest online key. A refusal says why not."""

    protocol: int
    project: ProjectName
    number: Count
    """Of the metadata in force; 0: the project is not known here."""
    epoch: Count
    free_bytes: Count
    """Room for blobs."""
    issued_at: Count
    box: BoxBytes | None = None
    """For the question's `seal_to`, unless the project is public already."""
    seal_to: KeyHex | None = None
    """To what a researcher seals the keys of a private project that he moves here."""


class History(Struct, frozen=True):
    """What a project brings along from another coordinator, each a blob.

    All are as a mirror has them: lines of JSON, oldest first.
    """

    versions: Blob
    """Every version: `log.jsonl` of a mirror."""
    entries: Blob
    """The signed log of versions."""
    metadata: Blob
    """Earlier metadata: a line is an envelope, as a root key signed it."""


class PublishRequest(Struct, frozen=True):
    """Publishes root-signed metadata and the blobs that it names; signed by the root key.

    It is sent again after the missing blobs are uploaded, until none is missing.
    """

    protocols: Protocols
    project: ProjectName
    invite: Token | None
    metadata: Annotated[str, msgspec.Meta(max_length=LIMITS.metadata_bytes)]
    """The metadata's envelope, exactly as the coordinator will serve it."""
    blobs: Annotated[list[Blob], msgspec.Meta(max_length=2 * LIMITS.shards)]
    issued_at: Count
    expires_at: Count
    history: History | None = None
    """The project goes on from its newest version; None: it begins, or is known there."""
    records: BroughtRecords | None = None
    """What the coordinator before this one has signed of the project's hosts."""
    keys: BoxBytes | None = None
    """Of a private project with a `history`: its keys, for the answer's `seal_to`. The blobs of
    history and records are sealed with one of them."""


class RecordsRequest(Struct, frozen=True):
    """Asks for what the coordinator knows of a project's hosts; signed by the project's root key.

    The answer is the envelope of a `FleetHead`, a line feed, and the lines.
    """

    protocols: Protocols
    project: ProjectName
    root_key: KeyHex
    issued_at: Count
    expires_at: Count

    def __post_init__(self) -> None:
        """Refuse a key that proves nothing."""
        check_public_key(self.root_key)


class BlobSlot(Struct, frozen=True):
    """A blob that the coordinator lacks, and the token of its upload."""

    digest: Digest
    upload: Token


class PublishReply(Struct, frozen=True):
    """The blobs to upload first; none `missing` means that the project is live."""

    protocol: int
    project: ProjectName
    missing: list[BlobSlot]
    attach_link: str
    issued_at: Count
