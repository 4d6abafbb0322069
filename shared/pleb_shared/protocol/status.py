"""`GET /projects/P/status`: what a project's page shows, as JSON for programs that watch.

The structs below are that JSON, field by field. New fields may be added and the ones that are
there keep their meaning: unknown fields are ignored, and missing ones have defaults, so that
readers work with older and newer coordinators. Nothing here is signed: decide nothing by it.
Times are seconds since 1970 on the coordinator's clock (floats), credit is in FLOPs. Hosts must not
learn from it which of their units are audited, so open assignments are only counted.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.privacy import SENTENCES, Unearned
from pleb_shared.protocol.project import Access, Family, Target
from pleb_shared.protocol.reasons import Reason, ReasonCode
from pleb_shared.protocol.unit import VersionSource

__all__ = [
    "NOT_COMPARABLE",
    "OWN_DATA",
    "ContributorStatus",
    "Counts",
    "FamilyMember",
    "FamilyStatus",
    "HostState",
    "HostStatus",
    "PrivacyStatus",
    "ProjectStatus",
    "RestoreStatus",
    "ResultStatus",
    "RoundStatus",
    "StatusChange",
    "TeamStatus",
    "UnitStatus",
    "VersionPoint",
    "VersionStatus",
    "overall",
    "shown_privacy",
    "shown_received",
]

OWN_DATA: Final = (
    "Members train on data of their own, which never leave their PCs: nobody else can compute "
    "their results, so these are not anchored. What bounds a member instead is one result in each "
    "version, combined so that it cannot outweigh the others."
)
"""Of a project with `data.own`, for its pages and commands."""
NOT_COMPARABLE: Final = (
    "Results of different PCs cannot be compared in this project: a wrong one may stay unnoticed, "
    "and no PC is found wrong or banned for one."
)
"""For people, where `ProjectStatus.comparable` is false."""

Text = Annotated[str, msgspec.Meta(max_length=LIMITS.text_characters)]
Metrics = Annotated[dict[str, float], msgspec.Meta(max_length=2 * LIMITS.metric_values)]


def overall(metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics that are no value of one class, such as `recall[2]`, in their order."""
    return {name: value for name, value in sorted(metrics.items()) if "[" not in name}


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the status's structs; fields that it does not know are ignored."""


class VersionPoint(Status, frozen=True):
    """One version: a point of the plots."""

    version: Annotated[int, msgspec.Meta(ge=0)]
    made_at: float = 0.0
    train_loss: float | None = None
    """Mean of the losses at the end of the units that made it; null for version 0."""
    metrics: Metrics = {}
    """Metrics of the holdout, `loss` among them; empty until it was evaluated. Of those for single
    classes only the target."""


class HostState(StrEnum):
    """What a host is doing; readers must accept other words too."""

    ACTIVE = "active"
    PROBATION = "probation"
    """New: each result needs a second one."""
    CALIBRATING = "calibrating"
    AWAY = "away"
    """Not seen for ten minutes."""
    BANNED = "banned"


class HostStatus(Status, frozen=True):
    """One host."""

    host: Text
    """Fingerprint of its key."""
    name: Text = ""
    """Its display name; empty if anonymous."""
    role: Text = ""
    state: Text = ""
    """A `HostState`."""
    determinism_class: Text = ""
    """Hosts with the same one agree to the bit; empty: not known yet. The digest's beginning."""
    verified: int = 0
    refused: int = 0
    credit: float = 0.0
    last_seen_at: float = 0.0
    agent: Text = ""
    team: Text = ""
    """The household or lab that it belongs to, which is one voice; empty: none."""


class ResultStatus(Status, frozen=True):
    """The verdict on one host's result of a unit."""

    assignment: int = 0
    host: Text = ""
    name: Text = ""
    verdict: Text = ""
    """`valid`, `invalid` or `late`."""
    credit: float = 0.0
    reason: Reason | None = None


class UnitStatus(Status, frozen=True):
    """A unit that was decided recently, of a round that is closed."""

    unit: int
    kind: Text = ""
    version: int = 0
    """The version it starts from."""
    position: int = 0
    state: Text = ""
    """`valid`, `applied`, `late`, `credited`, `disproved`, `open` (again) or `cancelled`."""
    reason: Reason | None = None
    at: float = 0.0
    results: list[ResultStatus] = []


class RoundStatus(Status, frozen=True):
    """The round that makes the next version."""

    units: int = 0
    quorum: int = 0
    valid: int = 0
    opened_at: float = 0.0
    quorum_at: float | None = None
    """When the quorum was reached; the grace window starts then."""


class Counts(Status, frozen=True):
    """The fleet in numbers."""

    hosts: int = 0
    accounts: int = 0
    verified: int = 0
    refused: int = 0
    in_flight: int = 0
    undecided: int = 0
    """Results of this epoch that wait for a verdict."""
    credit: float = 0.0


class ContributorStatus(Status, frozen=True):
    """An account; `name` is empty if anonymous."""

    name: Text = ""
    team: Text = ""
    hosts: int = 0
    verified: int = 0
    credit: float = 0.0


class TeamStatus(Status, frozen=True):
    """Accounts that count as one voice: a school, a company, friends."""

    team: Text = ""
    accounts: int = 0
    hosts: int = 0
    verified: int = 0
    credit: float = 0.0


class RestoreStatus(Status, frozen=True):
    """A version that is an earlier one again; what was made in between was taken back."""

    version: int
    restores: int
    cause: Text = ""
    """`operator`; `holdout`: the model had become worse there than the project allows;
    `wrong_results`: more of a version's results were found wrong than it allows."""
    at: float = 0.0


class VersionStatus(Status, frozen=True):
    """`GET /projects/P/versions/EPOCH/VERSION`: one version of the project."""

    metadata_number: int
    """The metadata that was in force when it was made; `/projects/P/metadata/NUMBER` has it."""
    source: VersionSource


class ReceivedStatus(Status, frozen=True):
    """Bytes of blobs that hosts got, by their source, as they say themselves."""

    coordinator: int = 0
    mirrors: int = 0
    peers: int = 0
    """Of their local networks."""
    internet: int = 0
    """Other hosts, elsewhere."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.coordinator + self.mirrors + self.peers + self.internet


class CoverageStatus(Status, frozen=True):
    """On how many PCs the training shards are, by what was given to them in the last `rounds`."""

    shards: int
    covered: int
    """Shards that some host has that was here in the last week."""
    fewest_hosts: int
    """How many hosts have the rarest of those."""
    rounds: int


def shown_coverage(coverage: CoverageStatus) -> str:
    """Return it in a line."""
    c = coverage
    if not c.covered:
        return f"none of {c.shards} was given to a host in the last {c.rounds} rounds"
    hosts = "1 host" if c.fewest_hosts == 1 else f"{c.fewest_hosts} hosts"
    return (
        f"{c.covered} of {c.shards} given to hosts in the last {c.rounds} rounds, each of those to "
        f"{hosts} at least"
    )


def shown_received(received: ReceivedStatus) -> str:
    """Return in a line how much hosts got, and which share from where."""
    total = received.total
    shares = {
        "mirrors": received.mirrors,
        "PCs near by": received.peers,
        "other volunteers": received.internet,
        "the coordinator": received.coordinator,
    }
    parts = [f"{100 * amount / max(1, total):.0f} % from {name}" for name, amount in shares.items()]
    return f"{total / 1e6:,.1f} MB, {', '.join(parts)}"


class PrivacyStatus(Status, frozen=True):
    """What the project's versions hide of its data; `protocol.privacy` has the meaning."""

    clip_norm: float = 0.0
    noise_multiplier: float = 0.0
    delta: float = 0.0
    owner_shards: int = 1
    """The unit of privacy: what so many shards hold."""
    epsilon: float | None = None
    """Of all versions up to now; null: `unearned` says why there is none."""
    epsilon_planned: float | None = None
    """The same when all planned versions are made."""
    unearned: list[Text] = []
    """Words of an `Unearned`; readers must accept others too."""


def shown_privacy(status: ProjectStatus) -> list[str]:
    """Return what the project's noise earns, in sentences; none: it has no noise."""
    privacy = status.privacy
    if privacy is None:
        return []
    if privacy.epsilon is None or privacy.epsilon_planned is None:
        known = [word for word in privacy.unearned if word in set(Unearned)]
        return [f"No epsilon: {SENTENCES[Unearned(word)]}" for word in known] or ["No epsilon."]
    unit = (
        "what one shard holds"
        if privacy.owner_shards == 1
        else f"an owner's data, in at most {privacy.owner_shards} shards"
    )
    earned = (
        f"Differential privacy of {unit}: epsilon {privacy.epsilon:.3g} until now, "
        f"{privacy.epsilon_planned:.3g} at version {status.versions_planned}, with delta "
        f"{privacy.delta:g}."
    )
    limits = (
        "That is against those who see versions and not the shards: volunteers can read the "
        "shards that they are given, the operator sees every result, and the holdout is not "
        "covered."
    )
    return [earned, limits]


class ProjectStatus(Status, frozen=True):
    """The whole answer."""

    project: Text
    title: Text = ""
    description: Text = ""
    data_licence: Text = ""
    contact: Text = ""
    state: Text = ""
    """`active`, `paused`, `finished`, `archived` or `moved`."""
    epoch: int = 0
    version: int = 0
    """The newest version."""
    versions_planned: int = 0
    target: Target | None = None
    target_reached_at_version: int | None = None
    """The first version that reached it; null: none has, or there is no target."""
    best_version: int | None = None
    """The evaluated version that is best by the target's metric, else by the loss; null: none."""
    waiting_for: Text = ""
    """The cause of the sentence below in a word, for programs."""
    waiting_level: Text = ""
    """`working`, `idle` (nobody is meant to work), `slow`, or `stuck` (somebody must act)."""
    waiting: Text = ""
    """What training waits for at the moment, or why it has ended, in one sentence."""
    stopped_for: Reason | None = None
    """Why no work is issued; null: it is."""
    metrics: Metrics = {}
    """Those of the newest version that was evaluated."""
    metrics_version: int | None = None
    has_holdout: bool = True
    """Whether versions are evaluated at all."""
    train_loss: float | None = None
    """That of the newest version."""
    series: list[VersionPoint] = []
    """Oldest first; long histories are thinned out to about 1,000 points."""
    restores: list[RestoreStatus] = []
    """Newest first, at most 10."""
    round: RoundStatus | None = None
    hosts: list[HostStatus] = []
    """Most recently seen first, at most 200."""
    units: list[UnitStatus] = []
    """Most recent first, at most 25."""
    contributors: list[ContributorStatus] = []
    """Most credit first, at most 50."""
    teams: list[TeamStatus] = []
    """Likewise."""
    counts: Counts = Counts()
    parameters: int = 0
    """Numbers that are trained."""
    base_bytes: int = 0
    """What of the model training never changes: every PC fetches it once."""
    created_at: float = 0.0
    updated_at: float = 0.0
    attach_link: Text = ""
    pleb_link: Text = ""
    permission_ends_at: float = 0.0
    """Until when the root key lets the coordinator's online key issue work; agents take none after
    that."""
    comparable: bool = True
    """Whether results of different PCs can be compared; false: see `NOT_COMPARABLE`."""
    trust_warning: Text = ""
    """Why results count less surely or later than they could, and what to do; may be empty."""
    permission_warning: Text = ""
    """What to do, ten days before that and afterwards; empty until then."""
    source: VersionSource | None = None
    """How the newest version is put together; researchers download the model by it."""
    family: Family | None = None
    """What it is a member of."""
    mirrors: list[Text] = []
    """Web servers that have its blobs, too."""
    received: ReceivedStatus = ReceivedStatus()
    coverage: CoverageStatus | None = None
    """Of the training shards; only for the operator, as it takes a look at many units."""
    privacy: PrivacyStatus | None = None
    """Null: versions are exact, and hide nothing."""
    access: Access = "public"
    """`invited`: only members and the operator may read anything of the project."""
    own_data: bool = False
    """Whether units are trained on members' own data: see `OWN_DATA`."""

    @property
    def finished(self) -> bool:
        """Whether training has ended and nothing of it will be evaluated, or it was archived."""
        if self.state == "archived":
            return True
        if self.stopped_for is not None and self.stopped_for.code == ReasonCode.TRIALS_COMPARED:
            return False
        ended = self.state == "finished" or self.version >= self.versions_planned
        return ended and (self.metrics_version == self.version or not self.has_holdout)


class FamilyMember(Status, frozen=True):
    """A project of a family, in short; `/projects/P/status` has all of it."""

    project: Text
    number: int = 0
    """Its place in the family, counted from 1."""
    state: Text = ""
    version: int = 0
    versions_planned: int = 0
    settings: dict[str, str] = {}
    """`sweep`: what the project file says otherwise for it."""
    best_version: int | None = None
    best_metrics: Metrics = {}
    """Those of its best version."""
    train_loss: float | None = None
    metrics: Metrics = {}
    metrics_version: int | None = None
    waiting: Text = ""
    counts: Counts = Counts()
    series: list[VersionPoint] = []


class FamilyStatus(Status, frozen=True):
    """`GET /families/F/status`: projects that were published together, and that hosts join so."""

    family: Text
    kind: Text = ""
    """`ensemble`: independent members of one project; `sweep`: trials of its settings."""
    title: Text = ""
    description: Text = ""
    data_licence: Text = ""
    contact: Text = ""
    metric: Text = ""
    """What the best member is best by."""
    best_member: Text = ""
    """By its best version; empty: none was evaluated yet."""
    members: list[FamilyMember] = []
    """In the order of their numbers."""
    planned_members: int = 0
    """How many the researcher has signed."""
    attach_link: Text = ""
    """The first member's: agents join all members by any of their links."""
    pleb_link: Text = ""
    updated_at: float = 0.0


class StatusChange(Status, frozen=True):
    """Data of an `event: status` in `/projects/P/events`: what the page updates at once.

    `series` has only the points that are new or changed since this listener's last event; the first
    event has all. Lists of hosts and units are fetched with `/projects/P/status`.
    """

    project: str
    state: Text
    epoch: int
    version: int
    versions_planned: int
    target_reached_at_version: int | None
    best_version: int | None
    waiting: Text
    metrics: Metrics
    metrics_version: int | None
    train_loss: float | None
    series: list[VersionPoint]
    round: RoundStatus | None
    counts: Counts
    updated_at: float
