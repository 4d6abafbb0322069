"""What a store can do: one `Transaction`, a group of named methods for each family of tables.

    with store.write() as tx:              # everything below commits together, or not at all
        host = tx.hosts.find(project.id, fingerprint)
        tx.hosts.saw(host.id, Seen(...))

A method that says whether it changed something (`-> bool`) updates only WHERE the row is as
expected; False means that somebody else was first. Lookups that may find nothing return
None only where nothing is an answer; where a row must be there they raise a typed `Refusal`.
`tests/conformance/` proves every implementation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pleb_coordinator.core.records import (
    Assignment,
    CalibrationClass,
    Evaluation,
    Event,
    Facts,
    Host,
    Invite,
    NewAssignment,
    NewUnit,
    Project,
    ProjectState,
    Purpose,
    Record,
    Round,
    UnitRow,
    Upload,
    VersionRow,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from contextlib import AbstractContextManager

    from pleb_coordinator.core.assignment_state import AssignmentEvent
    from pleb_coordinator.core.reputation import Standing
    from pleb_coordinator.core.unit_state import UnitEvent, UnitState
    from pleb_shared.protocol.messages import Role, Verdict
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.unit import UnitKind

__all__ = [
    "Assignments",
    "Calibrations",
    "Commitment",
    "Contributor",
    "Events",
    "Hosts",
    "Invites",
    "Judgement",
    "NewHost",
    "Projects",
    "Rounds",
    "Seeker",
    "Seen",
    "Shares",
    "Store",
    "StoredDelta",
    "Totals",
    "Transaction",
    "Units",
    "Uploads",
    "Versions",
    "Views",
]


class NewHost(Record, frozen=True):
    """A host that enrols."""

    project: int
    fingerprint: str
    key: str
    account: str
    role: Role
    network: str
    display_name: str
    agent: str


class Seen(Record, frozen=True):
    """What a work request leaves in its host's row, with the reply for a repetition."""

    sequence: int
    request_digest: str
    reply: bytes
    network: str
    agent: str
    at: float
    asked: bool
    """Whether it asked for units (`max_units` > 0)."""


class Seeker(Record, frozen=True):
    """Who looks for work, as far as a candidate depends on it."""

    host: int
    account: str
    network: str
    determinism_class: str
    trusted: bool
    now: float


class Commitment(Record, frozen=True):
    """What a host's report says of its result."""

    digest: str
    size: int
    loss_first: float | None
    loss_last: float | None
    compute_seconds: float
    reported_at: float


class Judgement(Record, frozen=True):
    """What became of a result."""

    verdict: Verdict
    credit: float
    ripe_at: float | None
    reason: str


class StoredDelta(Record, frozen=True):
    """The bytes of a delta; None: they lie in the file of that assignment."""

    assignment: int
    size: int
    data: bytes | None


class Totals(Record, frozen=True):
    """A project's fleet in numbers."""

    hosts: int
    accounts: int
    verified: int
    """Results that were found valid."""
    refused: int
    """Results that were proven wrong, those of banned hosts included."""
    in_flight: int
    """Assignments that are leased or on their way here."""
    credit: float
    """FLOPs of verified work."""


class Contributor(Record, frozen=True):
    """An account with what its hosts have given."""

    account: str
    display_name: str
    hosts: int
    units_valid: int
    credit: float


class Projects(Protocol):
    """Projects, their metadata, evaluations."""

    def find(self, name: str) -> Project:
        """Return the project of that name. Raises `Refusal` unknown_project."""

    def get(self, project: int) -> Project:
        """Return the project with that id. Raises `Refusal` unknown_project."""

    def names(self) -> list[str]:
        """Return every project's name, in the order of their making."""

    def add(self, name: str, root_key: str, epoch: int, now: float) -> int:
        """Make an active project at version 0, without metadata; return its id."""

    def set_state(self, project: int, expected: ProjectState, state: ProjectState) -> bool:
        """Change the state."""

    def put_metadata(
        self, project: int, metadata: ProjectMetadata, envelope: bytes, facts: Facts, now: float
    ) -> None:
        """Put new metadata in force; its number must be new."""

    def envelope(self, project: int, number: int) -> bytes:
        """Return the metadata's envelope, exactly as it was signed."""

    def metadata_at(self, project: int, number: int) -> ProjectMetadata:
        """Return the metadata with that number."""

    def advance(self, project: int, epoch: int, expected: int, version: int) -> bool:
        """Make `version` the newest one."""

    def set_tolerance(self, project: int, tolerance: float) -> None:
        """Store what the fleet's calibration says."""

    def set_active_accounts(self, project: int, accounts: int) -> None:
        """Store how many accounts ask for work."""

    def add_evaluation(self, evaluation: Evaluation) -> None:
        """Store the metrics of a version; a later one replaces it."""

    def evaluations(self, project: int, epoch: int) -> list[Evaluation]:
        """Return the metrics of all versions, oldest version first."""


class Versions(Protocol):
    """Versions and what made them."""

    def get(self, project: int, epoch: int, number: int) -> VersionRow:
        """Return a version. Raises `LookupError`: there is none of that number."""

    def add(self, row: VersionRow) -> bool:
        """Add a version; False: there is one of that number already."""

    def forget_outer_state(self, project: int, epoch: int, number: int) -> None:
        """Note that the version's outer state is not kept any more."""

    def history(self, project: int, epoch: int, *, after: int, limit: int) -> list[VersionRow]:
        """Return versions with numbers above `after`, oldest first."""


class Rounds(Protocol):
    """One row for each version that is being made; its counters follow the units' states."""

    def get(self, project: int, epoch: int, version: int) -> Round | None:
        """Return the round, or None before it is planned."""

    def add(self, row: Round) -> bool:
        """Open a round; False: it is there already."""

    def set_quorum_at(self, row: Round, at: float | None) -> None:
        """Remember since when the quorum stands."""

    def close(self, row: Round, now: float) -> bool:
        """Close an open round."""

    def unswept_before(self, project: int, epoch: int, version: int) -> Round | None:
        """Return the oldest closed round below `version` that was not swept, or None."""

    def set_swept(self, row: Round, now: float) -> None:
        """Note that the round was swept."""


class Units(Protocol):
    """Units and their states."""

    def plan(
        self,
        project: int,
        epoch: int,
        version: int,
        units: Iterable[NewUnit],
        purpose: Purpose,
        *,
        trusted_only: bool,
        now: float,
    ) -> None:
        """Add open units with one unsent assignment each."""

    def find(
        self, project: int, epoch: int, version: int, kind: UnitKind, position: int
    ) -> UnitRow | None:
        """Return the unit in that place, or None."""

    def add(self, project: int, epoch: int, version: int, unit: NewUnit, now: float) -> int:
        """Add one open unit without assignments; return its id."""

    def get(self, unit: int) -> UnitRow:
        """Return a unit. Raises `LookupError`."""

    def of_round(
        self, project: int, epoch: int, version: int, states: Collection[UnitState]
    ) -> list[UnitRow]:
        """Return the training units of a round in these states, by position."""

    def move(self, unit: UnitRow, event: UnitEvent, now: float, canonical: int | None) -> bool:
        """Let `event` happen to a unit in the state that `unit` has; counts it in the round."""

    def set_canonical(self, unit: int, canonical: int) -> None:
        """Name another result with the same verdict."""

    def new_result(self, unit: int) -> None:
        """Mark that `verify` is due for the unit."""

    def looked_at(self, unit: int, revision: int) -> bool:
        """Clear the mark; False: another result has come, or somebody else has looked."""

    def due(self, project: int, limit: int) -> list[UnitRow]:
        """Return training units with results that nobody has looked at."""

    def undecided_before(self, project: int, epoch: int, version: int, limit: int) -> list[UnitRow]:
        """Return open and late units of versions below `version`, and of earlier epochs."""


class Assignments(Protocol):
    """Assignments, their deltas, and verdicts that hosts were not told yet."""

    def get(self, assignment: int) -> Assignment:
        """Return an assignment. Raises `Refusal` unknown_assignment."""

    def of_unit(self, unit: int) -> list[Assignment]:
        """Return all assignments of a unit, oldest first."""

    def reported(self, unit: int) -> list[Assignment]:
        """Return the unit's assignments whose result has no verdict yet."""

    def unjudged(self, unit: int, host: int) -> bool:
        """Whether the host has a result of the unit here, or on its way, without verdict."""

    def leases(self, host: int) -> dict[int, Purpose]:
        """Return the ids of what the host works on or uploads, and what for; oldest first."""

    def in_hand(self, host: int) -> list[tuple[Assignment, UnitRow]]:
        """Return what is leased to the host."""

    def candidates(
        self, project: int, purpose: Purpose, seeker: Seeker, limit: int
    ) -> list[tuple[Assignment, UnitRow]]:
        """Return unsent assignments that the seeker may take, oldest first.

        Nobody gets a unit twice; a host that is not trusted gets none that its account or
        public network has had. Trusted hosts get replicas only from `trusted_from` on.
        """

    def unsent(self, project: int, purpose: Purpose) -> bool:
        """Whether any assignment of that purpose is unsent."""

    def add(self, new: NewAssignment) -> int:
        """Add an unsent assignment; return its id."""

    def lease(
        self, assignment: Assignment, host: Host, nonce: str, now: float, until: float
    ) -> bool:
        """Give an unsent assignment to a host."""

    def commit(
        self, assignment: Assignment, event: AssignmentEvent, commitment: Commitment
    ) -> bool:
        """Write down a report: `committed` (bytes are awaited) or `reported`."""

    def move(self, assignment: Assignment, event: AssignmentEvent) -> bool:
        """Let `event` happen to an assignment in the state that `assignment` has."""

    def judge(self, assignment: Assignment, event: AssignmentEvent, judgement: Judgement) -> bool:
        """Write down the verdict; the host is told with its next reply."""

    def set_norm(self, assignment: int, norm: float) -> None:
        """Remember the L2 norm of a decoded delta."""

    def norms(self, project: int, epoch: int, version: int) -> list[float]:
        """Return the norms of the valid results of a round."""

    def cancel_unsent(self, unit: int, purposes: Collection[Purpose]) -> int:
        """Cancel unsent assignments of a unit; return how many."""

    def cancel_unsent_before(self, project: int, epoch: int, version: int) -> int:
        """Cancel unsent assignments of versions below `version` and of earlier epochs."""

    def expired(self, now: float, limit: int) -> list[Assignment]:
        """Return leases that ran out."""

    def end_leases(self, host: int, now: float) -> int:
        """Let all leases of the host run out now; return how many."""

    def next_lease_end(self) -> float | None:
        """Return when the next lease runs out; None: none is out."""

    def take_verdicts(self, host: int, limit: int) -> list[Assignment]:
        """Return judged assignments that the host was not told, and mark them as told."""

    def take_back_credit(self, host: int, now: float) -> float:
        """Set the host's unripe credit to nothing; return how much it was."""

    def put_delta(self, delta: StoredDelta) -> None:
        """Store a delta's bytes, or that they lie in a file."""

    def delta(self, assignment: int) -> StoredDelta | None:
        """Return a stored delta, or None."""

    def remove_delta(self, assignment: int) -> None:
        """Forget a stored delta; one that is not there is fine."""

    def with_delta(self, unit: int, digest: str) -> int | None:
        """Return the assignment of the unit whose stored delta has that digest, or None."""


class Shares(Protocol):
    """How many units of a round an account or public network has taken."""

    def taken(self, project: int, epoch: int, version: int, holder: str) -> int:
        """Return the count."""

    def add(self, project: int, epoch: int, version: int, holder: str, change: int) -> None:
        """Add `change` to the count."""


class Hosts(Protocol):
    """Hosts and what is thought of them."""

    def find(self, project: int, fingerprint: str) -> Host:
        """Return the host. Raises `Refusal` unknown_host."""

    def get(self, host: int) -> Host:
        """Return the host with that id. Raises `LookupError`."""

    def of_project(self, project: int, *, limit: int) -> list[Host]:
        """Return hosts, most recently seen first."""

    def of_account(self, project: int, account: str) -> list[Host]:
        """Return the hosts of an account."""

    def enrol(self, new: NewHost, now: float) -> Host:
        """Add the host, or bring its role (never downwards), names and network up to date."""

    def saw(self, host: int, seen: Seen) -> None:
        """Remember a request and its reply."""

    def reply(self, host: int) -> bytes:
        """Return the reply to the last request."""

    def set_runtime(self, host: int, runtime: str, determinism_class: str) -> None:
        """Note what the host computes with; an empty class asks for a calibration."""

    def set_speed(self, host: int, seconds_per_step: float) -> None:
        """Note how fast it is."""

    def set_last_shard(self, host: int, shard: int) -> None:
        """Note which shard it fetched."""

    def set_standing(self, host: int, standing: Standing) -> None:
        """Store what is thought of it."""

    def active_accounts(self, project: int, since: float) -> int:
        """Return how many accounts that are not banned asked for work since then."""

    def has_trusted(self, project: int, since: float) -> bool:
        """Whether a trusted host was seen since then."""


class Calibrations(Protocol):
    """Determinism classes: who belongs to which, and how far they lie apart."""

    def class_of(self, host: int, runtime: str) -> str:
        """Return the class that the host had with that runtime; empty: none."""

    def record(
        self, host: Host, runtime: str, digest: str, seconds_per_step: float, now: float
    ) -> None:
        """Write down a host's calibration, and count the voices of its class.

        Accounts of one public network are one voice.
        """

    def add_class(self, project: int, digest: str, assignment: int, now: float) -> None:
        """Add a class whose bytes are those of `assignment`."""

    def find_class(self, project: int, digest: str) -> CalibrationClass | None:
        """Return the class, or None."""

    def classes(self, project: int) -> list[CalibrationClass]:
        """Return all classes, oldest first."""

    def unmeasured(self, project: int) -> list[CalibrationClass]:
        """Return classes whose distances are not known yet."""

    def set_measured(self, project: int, digest: str, *, measured: bool) -> None:
        """Note whether the class's distances to those it must be compared with are stored."""

    def runtimes_since(self, host: int, since: float) -> int:
        """Return how many runtimes the host has calibrated after `since`."""

    def set_isolated(self, project: int, digest: str, isolated: bool) -> None:
        """Note whether the class can only be compared with itself."""

    def put_distance(self, project: int, first: str, second: str, distance: float) -> None:
        """Store how far two classes lie apart: the largest over all tensors."""

    def distances(self, project: int) -> dict[tuple[str, str], float]:
        """Return the stored distances."""


class Uploads(Protocol):
    """Upload slots and the blobs that are known."""

    def add(self, upload: Upload) -> None:
        """Add a slot."""

    def get(self, token: str) -> Upload:
        """Return a slot. Raises `Refusal` unknown_upload."""

    def of_assignment(self, assignment: int) -> Upload | None:
        """Return the open slot of an assignment, or None."""

    def open_blob(self, project: int, digest: str) -> Upload | None:
        """Return the project's open slot for a blob, or None."""

    def complete(self, token: str) -> bool:
        """Mark a slot as filled."""

    def remove(self, token: str) -> None:
        """Remove a slot; one that is not there is fine."""

    def take_expired(self, now: float, limit: int) -> list[str]:
        """Remove open slots that ran out; return their tokens."""


class Invites(Protocol):
    """Invites, by the SHA-256 of their token."""

    def add(self, invite: Invite) -> None:
        """Add an invite."""

    def find(self, token_hash: str) -> Invite | None:
        """Return the invite, or None."""

    def use(self, token_hash: str, now: float) -> bool:
        """Mark an unused, unrevoked invite as used."""

    def revoke(self, token_hash: str) -> bool:
        """Make an unused invite worthless."""

    def all(self) -> list[Invite]:
        """Return all invites, newest first."""


class Events(Protocol):
    """The log: append-only; what pages, `unit show` and `logs` read."""

    def add(
        self,
        project: int,
        at: float,
        kind: str,
        *,
        unit: int | None = None,
        host: int | None = None,
        **detail: object,
    ) -> None:
        """Append an event; `detail` becomes a JSON object."""

    def after(self, project: int, seq: int, limit: int) -> list[Event]:
        """Return events of a project with numbers above `seq`, oldest first."""

    def last(self, project: int, limit: int) -> list[Event]:
        """Return the newest events of a project, oldest first."""

    def of_unit(self, unit: int) -> list[Event]:
        """Return what happened to a unit."""


class Views(Protocol):
    """Sums and lists for people; no step reads them."""

    def totals(self, project: int, ban_after: int) -> Totals:
        """Return the fleet in numbers; each ban stands for `ban_after` refused results."""

    def contributors(self, project: int, limit: int) -> list[Contributor]:
        """Return accounts, most credit first."""

    def units(self, project: int, limit: int) -> list[UnitRow]:
        """Return units of the newest versions."""


class Transaction(Protocol):
    """Everything between BEGIN and COMMIT."""

    @property
    def projects(self) -> Projects:
        """The methods of `Projects`."""

    @property
    def versions(self) -> Versions:
        """The methods of `Versions`."""

    @property
    def rounds(self) -> Rounds:
        """The methods of `Rounds`."""

    @property
    def units(self) -> Units:
        """The methods of `Units`."""

    @property
    def assignments(self) -> Assignments:
        """The methods of `Assignments`."""

    @property
    def shares(self) -> Shares:
        """The methods of `Shares`."""

    @property
    def hosts(self) -> Hosts:
        """The methods of `Hosts`."""

    @property
    def calibrations(self) -> Calibrations:
        """The methods of `Calibrations`."""

    @property
    def uploads(self) -> Uploads:
        """The methods of `Uploads`."""

    @property
    def invites(self) -> Invites:
        """The methods of `Invites`."""

    @property
    def events(self) -> Events:
        """The methods of `Events`."""

    @property
    def views(self) -> Views:
        """The methods of `Views`."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Undo what happens inside, and only that, if it raises."""


class Store(Protocol):
    """Opens transactions. One object serves one thread at a time."""

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that sees one state of the store and changes nothing."""

    def write(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that commits at its end; on an exception it leaves no trace."""

    def changed(self) -> bool:
        """Whether anybody, in any process, has committed since the last time this was asked."""

    def close(self) -> None:
        """Close the connections."""
