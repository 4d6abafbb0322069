"""The rows of the store as values. A record's fields are named as its table's columns.

Times are seconds since 1970 (UTC) on the coordinator's clock, digests lower-case hexadecimal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from pleb_coordinator.core.admins import AdminRole
from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.unit_state import UnitState
from pleb_shared.errors import InputError
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import Role, Verdict
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.reasons import Reason
from pleb_shared.protocol.showcase import Shown
from pleb_shared.protocol.unit import Blob, UnitKind, VersionSource

__all__ = [
    "Admin",
    "AdminSession",
    "Alarm",
    "Assignment",
    "AuditEntry",
    "CalibrationClass",
    "Conviction",
    "Counting",
    "Evaluation",
    "Event",
    "Facts",
    "FileKind",
    "Fleet",
    "Host",
    "Invite",
    "Kept",
    "NewAssignment",
    "NewUnit",
    "Project",
    "ProjectState",
    "Purpose",
    "Record",
    "RestoreCause",
    "Round",
    "Showing",
    "SpotCheck",
    "StoredDelta",
    "Tombstone",
    "UnitRow",
    "Upload",
    "VersionInLog",
    "VersionInput",
    "VersionLoad",
    "VersionLoss",
    "VersionRestore",
    "VersionRow",
    "version_not_kept",
]


class Record(msgspec.Struct, frozen=True):
    """Base of all records."""


class ProjectState(StrEnum):
    """Whether a project's units are issued."""

    ACTIVE = "active"
    PAUSED = "paused"
    FINISHED = "finished"
    ARCHIVED = "archived"
    MOVED = "moved"
    """Another coordinator goes on with it; hosts are sent there."""


class Purpose(StrEnum):
    """Why a unit got this assignment. Never sent to hosts."""

    PRIMARY = "primary"
    """The unit's first result, or the next attempt if that one never arrived."""
    EXAM = "exam"
    """A new host's copy of a unit that many new hosts share."""
    CHECK = "check"
    """An anchor's result, with which others are compared."""
    DECIDER = "decider"
    """One more result, because the earlier ones differ."""
    APPEAL = "appeal"
    """A trusted host looks at a case in which volunteers refuted a proven host."""
    SPOT_CHECK = "spot_check"
    """A trusted host looks at what volunteers confirmed."""
    EVALUATION = "evaluation"
    CALIBRATION = "calibration"


class Counting(StrEnum):
    """What makes a unit's result count; see `core.counting`."""

    UNKNOWN = ""
    """There is no result yet that it would depend on."""
    AUTHOR = "author"
    """Its proven author's word alone."""
    CHECKED = "checked"
    """The same; an anchor, drawn by lot, computes it too."""
    HELD = "held"
    """Once the check agrees."""
    FAST = "fast"
    """It came sooner than its host can compute: two other proven voices, or a trusted host."""
    EXAM = "exam"
    """New hosts share it with one anchor."""
    FLEET = "fleet"
    """There is no anchor yet: all hosts share it, and a large lead counts."""
    OWN = "own"
    """It was trained on its host's own data: nobody else can compute it, and it counts alone."""


class SpotCheck(StrEnum):
    """Whether a trusted host should compute a unit that volunteers confirmed."""

    NONE = ""
    POSSIBLE = "possible"
    """One of many, of which some are drawn."""
    WANTED = "wanted"
    """A host that took part was convicted since."""
    DONE = "done"


class Facts(Record, frozen=True):
    """What the coordinator computed from metadata when it was published."""

    flops_per_step: int
    """Of the whole model."""
    train_shards: int
    holdout_shards: int
    holdout_examples: int
    chunk_flops: dict[str, int] = {}
    """The same of each chunk, by its name."""


class Fleet(Record, frozen=True):
    """The hosts of a project that asked for work recently."""

    active_accounts: int
    proven_hosts: int
    new_hosts: int
    median_step_seconds: float


class RestoreCause(StrEnum):
    """Why an earlier version was restored."""

    OPERATOR = "operator"
    HOLDOUT = "holdout"
    """The model had become worse on the holdout than the project allows."""
    WRONG_RESULTS = "wrong_results"
    """More of a version's results were found wrong than the project allows."""


class Project(Record, frozen=True):
    """A project with the metadata that is in force."""

    id: int
    name: str
    root_key: str
    state: ProjectState
    stopped_for: Reason | None
    """Why no work is issued; None: the project is active."""
    epoch: int
    version: int
    """The newest version."""
    metadata_number: int
    tolerance: float
    """What the fleet's calibration has raised the tolerance to; 0: not raised."""
    active_accounts: int
    """Accounts that asked for work recently, as the background process last counted them."""
    proven_hosts: int
    new_hosts: int
    median_step_seconds: float
    """Of the hosts that asked for work recently; 0: not known yet."""
    restoring: int | None
    """The version that the background process is to restore; None: none."""
    restoring_for: RestoreCause | None
    created_at: float
    restored_at: int
    """When this coordinator was last restored from a backup, which hosts are told; 0: never."""
    extended: bool
    """Whether it goes on to its last version, past its target and its patience."""
    key_numbers: str
    """Of a private project: the numbers of its keys, with spaces between them."""
    brought_keys: bytes
    """Of a private project that came from another coordinator: the keys that it had there, sealed;
    empty: it had none."""
    records_at: int
    """When the coordinator before this one signed the records of hosts that were taken over; 0:
    none were."""
    facts: Facts
    metadata: ProjectMetadata

    @property
    def keys(self) -> list[int]:
        """The numbers of a private project's keys, the newest one last; none: it is public."""
        return [int(number) for number in self.key_numbers.split()]

    @property
    def oldest_accepted(self) -> int:
        """The oldest version whose units agents still accept; negative while they accept all.

        Not 0: a search for rows below version 0 would read all rows of version 0, where a new
        project has its whole round.
        """
        return self.version - LIMITS.version_lag

    @property
    def effective_tolerance(self) -> float:
        """The tolerance that the researcher set or the fleet's calibration raised."""
        rules = self.metadata.verification
        return max(rules.tolerance, min(self.tolerance, rules.tolerance_ceiling))


class Kept(StrEnum):
    """How much of a version is kept; see `core.keeping`."""

    EXACT = "exact"
    """All: also the results that it was made of, so that it can be recomputed."""
    READABLE = "readable"
    """Its tensors: it can be exported and restored."""
    MILESTONE = "milestone"
    """The same, as a snapshot of its own that outlives its neighbours."""
    LISTED = "listed"
    """Its row: number, digest, loss."""


class VersionInput(Record, frozen=True, forbid_unknown_fields=True):
    """One delta that went into a version."""

    unit: int
    assignment: int
    digest: str
    weight: float
    """Our own count of the samples it was trained on."""
    chunk: str = FULL
    """Which part of the model it covers."""
    batches_per_step: int = 1
    """More than 1: it is a warm start's, which the version takes as it is."""


class VersionRow(Record, frozen=True):
    """A version and what it was made from."""

    project: int
    epoch: int
    number: int
    digest: str
    metadata_number: int
    """The metadata whose outer step made it."""
    difference: str
    """Blob with the difference from the previous version; empty for version 0."""
    outer_state: str
    """Blob with masters and momentum; empty for version 0."""
    snapshot: str
    """Blob with the whole version; empty where there is none."""
    inputs: tuple[VersionInput, ...]
    """The deltas that went in, in order."""
    source: VersionSource | None
    """The blobs that a host downloads to build this version; None: they are not kept any more."""
    train_loss: float | None
    made_at: float
    restores: int | None = None
    """The version whose tensors and outer state it has; None: it was made from deltas."""
    restored_for: RestoreCause | None = None
    norms: tuple[float, ...] = ()
    """L2 norms of the parameters in the model's order, which distances of deltas are measured
    against; empty for version 0, and for those that are only listed or milestones."""
    kept: Kept = Kept.EXACT
    results: int = 0
    """How many deltas went in; `inputs` of an old version is empty."""
    delta_bytes: int = 0
    """Of the deltas that went in, as long as they are kept."""
    blob_bytes: int = 0
    """Of difference, outer state and snapshot, as long as they are kept."""
    noise: str = ""
    """Digest of the seed of the noise that is in it; empty: none, or it restores another one."""
    leaves: Blob | None = None
    """The leaves of the results that counted for it (`protocol.version_log`), which are kept as
    long as the row is; None: it was not made from results."""

    @property
    def readable_source(self) -> VersionSource:
        """The blobs that build this version. Raises `InputError`: they are not kept any more."""
        if self.source is None:
            raise version_not_kept(self.number)
        return self.source

    @property
    def blobs(self) -> frozenset[str]:
        """Digests of all blobs without which the row is not true."""
        named = {self.difference, self.outer_state, self.snapshot}
        if self.source is not None:
            named |= {self.source.snapshot.digest, *(b.digest for b in self.source.differences)}
        if self.leaves is not None:
            named.add(self.leaves.digest)
        return frozenset(named - {""})


def version_not_kept(number: int) -> InputError:
    """Return the error of a version whose tensors are not kept any more."""
    return InputError(
        f"Version {number} is too old: only its digest and its loss are kept. "
        "`pleb-coordinator model list PROJECT` shows which versions can be read; `[retention]` in "
        "coordinator.toml says how many are kept."
    )


class VersionLoad(Record, frozen=True):
    """What the versions of a project take that are not milestones or only listed."""

    exact: int
    delta_bytes: int
    readable: int
    """Those of `exact` among them."""
    blob_bytes: int


class VersionRestore(Record, frozen=True):
    """A version that is an earlier one again."""

    number: int
    restores: int
    restored_for: RestoreCause
    made_at: float


class VersionNoise(Record, frozen=True):
    """A version that was made from deltas, and whether there is noise in it."""

    epoch: int
    number: int
    metadata_number: int
    noise: str
    results: int


class VersionInLog(Record, frozen=True):
    """What the signed log says of a version."""

    epoch: int
    number: int
    digest: str
    restores: int | None
    leaves: Blob | None


class VersionLoss(Record, frozen=True):
    """A point of the training curve."""

    number: int
    train_loss: float | None
    made_at: float


class Round(Record, frozen=True):
    """The making of version `version` + 1. The counters follow the units' states."""

    project: int
    epoch: int
    version: int
    units: int
    quorum: int
    open: int
    valid: int
    opened_at: float
    quorum_at: float | None
    closed_at: float | None
    swept_at: float | None = None
    """When files that are not needed any more were removed."""
    retired_at: float | None = None
    """When rows that only explained its decisions were removed."""

    @property
    def has_quorum(self) -> bool:
        """Whether enough units are verified for the next version."""
        return self.valid >= self.quorum


class NewUnit(Record, frozen=True):
    """A unit that is being planned, with its first assignment."""

    kind: UnitKind
    position: int
    """Its place in the round: the order in which deltas are added up."""
    seed: int
    shard_first: int
    shard_count: int
    local_steps: int
    versions: int | None = None
    """How many versions were planned in all, which learning rates depend on."""
    batches_per_step: int = 1
    chunk: str = FULL
    """Of a training unit: until its first host gets it, which decides."""


class NewAssignment(Record, frozen=True):
    """One more copy of a unit."""

    unit: int
    purpose: Purpose
    created_at: float
    trusted_only: bool = False
    for_class: str = ""
    for_host: int | None = None
    fetch_by: float | None = None


class UnitRow(Record, frozen=True):
    """A planned unit."""

    id: int
    project: int
    epoch: int
    version: int
    kind: UnitKind
    position: int
    seed: int
    shard_first: int
    shard_count: int
    local_steps: int
    versions: int | None
    batches_per_step: int
    """How many batches make a step of the optimizer: more than 1 in a warm start."""
    chunk: str
    state: UnitState
    revision: int
    """Grows with every result, so that a decision on fewer results is detected."""
    due: bool
    """Has results that `verify` has not examined."""
    canonical: int | None
    """The assignment whose result counts."""
    planned_at: float
    decided_at: float | None
    counting: Counting
    audit_rate: float | None
    """How likely the first try was to be checked; None: no proven host has answered."""
    exam_at: float | None
    """When it became an exam."""
    disputed: bool
    """Its results differ, and none counts until it is known which is right."""
    deciders: int
    """Proven hosts drawn by lot to decide it."""
    look_at: float | None
    """When `verify` is due although no result came; None: never."""
    spot_check: SpotCheck
    memory_bytes: int
    """What a host must have for its chunk; 0: any does, or no host has had the unit yet."""


class OfferedUnit(UnitRow, frozen=True):
    """A unit that a host may have."""

    copies: int
    """Its assignments, of whatever state; 1: this one is the first, and nobody has had it."""


class Assignment(Record, frozen=True):
    """One copy of a unit, for one host."""

    id: int
    project: int
    unit: int
    epoch: int
    version: int
    purpose: Purpose
    state: AssignmentState
    trusted_only: bool
    for_class: str
    """Only hosts of this determinism class may take it; empty: any."""
    for_host: int | None
    """The one host that may take it, drawn by lot; None: any."""
    fetch_by: float | None
    """When another host is drawn if that one has not asked for it."""
    created_at: float
    host: int | None
    account: str
    network: str
    nonce: str
    issued_at: float | None
    lease_until: float | None
    reported_at: float | None
    digest: str
    size: int
    loss_first: float | None
    loss_last: float | None
    compute_seconds: float | None
    norm: float | None
    verdict: Verdict | None
    credit: float
    ripe_at: float | None
    """When the credit can no longer be taken back."""
    reason: Reason | None
    """Why the verdict is what it is."""
    verdict_sent: bool
    """Whether a reply with the verdict was made."""
    out_of_turn: bool
    """Whether its host got it before its turn, since it has the shards (`core.shards`)."""


class FileKind(StrEnum):
    """Which of the blob store's kinds of bytes; see `blobs.local`."""

    BLOB = "blob"
    DELTA = "delta"
    UPLOAD = "upload"
    LATE_UPLOAD = "late_upload"
    """What its host has put there after the upload's end."""


class Tombstone(Record, frozen=True):
    """A file that no row needs any more."""

    kind: FileKind
    name: str
    """Digest of a blob, assignment of a delta, token of an upload."""
    due_at: float
    condemned: bool
    """Whether it is being deleted, and cannot be kept any more."""


class StoredDelta(Record, frozen=True):
    """The bytes of a delta; None: they are in the file of that assignment."""

    assignment: int
    size: int
    data: bytes | None
    digest: str = ""
    """Of the bytes as they are stored, where they are sealed; empty: the result's own."""


class Host(Record, frozen=True):
    """A host of a project."""

    id: int
    project: int
    fingerprint: str
    key: str
    account: str
    role: Role
    network: str
    """The name of the network that it was last seen in; see `core.voices`."""
    display_name: str
    agent: str
    sequence: int
    request_digest: str
    """SHA-256 of the last request's envelope."""
    runtime: str
    determinism_class: str
    """Digest of the calibration unit on this runtime; empty: not known yet."""
    seconds_per_step: float | None
    record: int
    """Accepted results since the last conviction; a new host's: confirmed ones in a row."""
    proven: bool
    """Whether its results count without a second one."""
    suspended_by: int | None
    """The unit whose case a trusted host has to look at; until then its word does not count."""
    recent: int
    """Its last 20 assignments as bits, the newest lowest: 1 failed or was not delivered."""
    setbacks: int
    """A new host's failures; with each fourth, exams come half as often."""
    fastest_step_seconds: float | None
    """Least time of a step, by the coordinator's clock, in recent results that others confirmed."""
    paced_until: float
    """When it may have its next exam or first try."""
    refused: int
    """Convictions that are neither forgiven nor paid for by a ban."""
    bans: int
    banned_until: float
    ban_reason: Reason | None
    credit: float
    units_valid: int
    enrolled_at: float
    last_seen: float
    last_asked: float
    """When it last asked for units."""
    shards: str
    """First shards of its last units, each once, the newest first, with spaces between them."""
    team: str
    """The household or lab that its account belongs to; empty: none."""
    invite: str
    """Hash of the invite that it enrolled with; empty: none."""
    enrolled_from: str
    """The name of the network that it first enrolled from."""
    refuses: str
    """Why it refused the last answer, as it says; empty: it did not."""
    memory_bytes: int | None
    """What a unit may take on it, as it says; None: it does not say."""
    upload_bytes_per_second: float | None
    """How fast its deltas came, by the coordinator's clock; None: none was large enough to tell."""

    @property
    def trusted(self) -> bool:
        """Whether the operator enrolled it as trusted."""
        return self.role is Role.TRUSTED or self.role is Role.ADMIN  # read often: no set is built

    @property
    def had_shards(self) -> list[int]:
        """The first shards of its last units, the newest first; it is likely to have them still."""
        return [int(first) for first in self.shards.split()]


class Adopted(Record, frozen=True):
    """A host that another coordinator tells of, as this one takes it."""

    project: int
    fingerprint: str
    key: str
    account: str
    display_name: str
    team: str
    enrolled_at: float
    last_seen: float
    record: int
    proven: bool
    refused: int
    bans: int
    banned_until: float
    ban_reason: Reason | None
    credit: float
    units_valid: int


class Departed(Record, frozen=True):
    """What is left of an account's hosts that were removed."""

    project: int
    account: str
    display_name: str
    team: str
    units_valid: int
    refused: int
    bans: int
    credit: float


class CalibrationClass(Record, frozen=True):
    """A determinism class: hosts whose calibration results are equal to the bit."""

    project: int
    digest: str
    assignment: int
    """The calibration whose bytes are kept."""
    measured: bool
    """Whether all needed distances to other classes are known: see `steps.calibrate`."""
    accounts: int
    """Independent members: the fewest of accounts, teams and networks."""
    trusted: bool
    isolated: bool
    """Too far from the fleet's main class: its results are compared only with one another."""
    first_at: float

    @property
    def vouched(self) -> bool:
        """Whether a trusted host belongs to it, so that an isolated class gets work."""
        return self.trusted

    @property
    def leads(self) -> bool:
        """Whether other classes are measured against it: a trusted host's, or of two voices."""
        return self.trusted or self.accounts >= 2


class Conviction(Record, frozen=True):
    """A result found wrong on volunteers' word; a trusted host's may take it back."""

    unit: int
    host: int
    project: int
    at: float
    record: int
    """The host's, before."""
    proven: bool
    credit: float
    """What was taken back for other results."""


class Alarm(Record, frozen=True):
    """How much a project checks beyond the least, since proven hosts were convicted."""

    project: int
    audit_floor: float
    """The least audit rate, when it was last raised."""
    audit_record: float
    """c of the audit rate c / n, when it was last raised."""
    raised_at: int
    """`counted` at that time: both fall from then on."""
    counted: int
    """Units whose result was found, in all."""
    surge_until: int
    """`counted` until which half of all results are checked: more hosts may lie together."""
    spot_checks: int
    lies: tuple[tuple[int, float], ...]
    """Convictions of proven hosts: `counted`, and how many lies entered for each one caught."""


class Upload(Record, frozen=True):
    """A slot for exactly `size` bytes with exactly `digest`."""

    token: str
    project: int
    assignment: int | None
    """The assignment whose delta it is; None: a blob that the researcher publishes."""
    digest: str
    size: int
    created_at: float
    expires_at: float
    complete: bool
    landed_at: float | None = None
    """When its host had put all of it into the bucket itself; None: it has not."""
    check_at: float | None = None
    """When the background process is to check what has landed."""

    @property
    def arrived(self) -> bool:
        """Whether nothing is awaited of its host any more."""
        return self.complete or self.landed_at is not None


class Invite(Record, frozen=True):
    """An invite; the token itself is not kept."""

    token_hash: str
    role: Role
    note: str
    created_at: float
    expires_at: float
    used_at: float | None
    """When it was last used; None: never."""
    revoked: bool
    team: str = ""
    """The team that hosts join with it; empty: none."""
    proven: bool = False
    """Whether hosts are proven from the start."""
    uses: int = 1
    """How many hosts may use it."""
    used: int = 0
    """How many have."""
    project: str = ""
    """The one project that it is for; empty: all public ones, and with the roles of the operator's
    own machines private ones, too."""


class Evaluation(Record, frozen=True):
    """Metrics of a version on the holdout, by a trusted host."""

    project: int
    epoch: int
    version: int
    assignment: int
    metrics: dict[str, float]
    examples: int
    made_at: float


class Showing(Record, frozen=True):
    """What a version says or sees, by a trusted host."""

    project: int
    epoch: int
    version: int
    card: str
    """The digest of the card that it answers: answers to others are not compared with it."""
    shown: Shown
    made_at: float


class Admin(Record, frozen=True):
    """Somebody who may use the coordinator from elsewhere."""

    name: str
    role: AdminRole
    projects: tuple[str, ...]
    """The projects that a publisher may change; empty: all."""
    code_hash: str
    """SHA-256 of the code to log in with; the code itself is not kept."""
    code_expires_at: float
    key: str
    """The public key that signs this admin's commands; empty: the code is not used yet."""
    created_at: float
    last_seen: float | None
    sequence: int
    """Of the last command; the next one's must be greater."""
    revoked: bool


class AdminSession(Record, frozen=True):
    """A link to the operator's page that works once, or the browser that has used one."""

    token_hash: str
    """SHA-256 of the link's token, or of the cookie."""
    admin: str
    """Whose it is; empty: that of the account `who` of the coordinator's machine."""
    who: str
    expires_at: float
    entered: bool
    """Whether the link was used."""


class AuditEntry(Record, frozen=True):
    """What an operator did."""

    seq: int
    at: float
    who: str
    """The account of the machine, with the one that used sudo."""
    command: str
    project: str
    """Empty: it belongs to none."""
    arguments: dict[str, Any]
    """What was asked for, without secrets."""


class Event(Record, frozen=True):
    """A line of the log."""

    seq: int
    project: int
    at: float
    kind: str
    unit: int | None
    host: int | None
    detail: dict[str, Any]
