"""What agentd shows: the JSON of the control API, and what the page's templates show.

Times are seconds since 1970 on this host, credit is in FLOPs, energy an estimate in kWh. New
fields may be added; existing ones keep their meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pleb_agent.core.override import NO_OVERRIDE, Override
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.sentence import Value
from pleb_agent.core.signals import Row, Signal, SignalRules
from pleb_agent.loop.status import CurrentUnit

if TYPE_CHECKING:
    # Views are only encoded; an agent that runs from source imports nothing of `updates`.
    from pleb_agent.updates.releases import Release  # noqa: TC004


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all views."""


class MessageView(View, frozen=True):
    """A sentence in English, and its parts for a page that translates it."""

    text: str
    template: str
    values: dict[str, Value] = {}


class AssignmentView(View, frozen=True):
    """A unit that is open or has ended. `verdict` is empty until the coordinator has judged."""

    assignment: int
    project: str
    kind: str
    version: int
    state: str
    received_at: float
    ended_at: float | None
    lease_ends_at: float
    verdict: str
    credit: float
    note: str
    id: int = 0
    """By which the user names it here: `pleb-agent units abort 17`."""
    unit: int = 0
    """Its number on the project's page, which comes with the verdict; 0: not known yet."""
    page: str = ""
    """Where the project shows it."""
    title: str = ""
    """Of its project."""
    device: str = ""
    reason: MessageView | None = None
    """Why the verdict is what it is."""
    held: str = ""
    """`paused` or `handed_back` by the user."""
    distance: float | None = None
    """From the result that counts, of one that was refused for that; `tolerance` is allowed."""
    tolerance: float | None = None


class UnitsView(View, frozen=True):
    """One page of the units of one part (`core.unit_parts`), newest first."""

    part: str
    units: list[AssignmentView]
    counts: dict[str, int]
    """Of every part."""
    older: int | None = None
    """What to ask for as `before` for the next page; None: this is the last."""


class HabitsView(View, frozen=True):
    """For how long this PC usually stays free, as often as not, from how many times."""

    learns: bool
    """Whether projects learn this; see the preference `learn_habits`."""
    times: int
    free_seconds: float | None
    """None: it is not free now, or too little is known."""


class ProjectView(View, frozen=True):
    """An attached project."""

    project: str
    title: str
    url: str
    link: str
    host: str
    role: str
    account: str
    """Fingerprint of the account's key."""
    latest_version: int
    share: int
    """Its weight against the other projects' (default: 100)."""
    problem: str
    counters: dict[str, float]
    """Among them units_done, units_late, verdicts_valid, credit_flops, samples, compute_seconds,
    bytes_received, bytes_sent, energy_kwh; bytes_from_coordinator, bytes_from_mirrors,
    bytes_from_neighbours and bytes_from_internet (of files, as far as the project was told)."""
    attached_at: float
    waits_for_confirmation: bool
    """A unit was reported, and none has been judged yet."""
    permission_ends_at: float = 0.0
    """Until when the project's root key lets its coordinator issue work."""
    no_new_work: bool = False
    """The user wants no further units of it for now."""
    contact: str = ""
    """Who runs it, as signed by its key."""
    notice: MessageView | None = None
    """Something to know that needs nothing of the user: that this ends soon, or has ended."""
    family: str = ""
    """The name of the family that it is a member of, such as an ensemble; empty: none."""
    own_data: bool = False
    """Whether it trains on data of the user's own."""
    own_folder: str = ""
    """The folder with them; empty: none is chosen."""
    showcase: str = ""
    """Where the project's page shows what the model says or sees; empty: it does not."""
    showcase_since_ours: bool = False
    """Whether beside the version before the first one that has a unit of this PC."""


class DeviceView(View, frozen=True):
    """One of this PC's devices: the processor, or a card."""

    name: str
    """As preferences and commands call it: `cpu`, `cuda-0`."""
    title: str
    """What its maker calls it."""
    activity: str
    message: MessageView
    reason: str
    """Which rule decided."""
    share_percent: int
    """Of its time, that it may use now."""
    celsius: float | None
    paused: bool
    """By the user, alone."""
    unit: CurrentUnit | None
    units_finished: int


class UseView(View, frozen=True):
    """What the workers take now."""

    cores: float | None
    """Of the processor, on average since the last time that somebody looked; None: not known."""
    memory_bytes: int
    share_percent: int
    """Of the time that they may compute."""


class InternetView(View, frozen=True):
    """What passes between this agent and other volunteers on the internet."""

    others: int
    """Of them that are known now."""
    sent_bytes: int
    """Of files, to them, since this agent started."""
    message: MessageView
    """Whether they can reach this PC."""


class SharingView(View, frozen=True):
    """What passes between this agent and others."""

    neighbours: int
    """Agents near by that have a project in common."""
    sent_bytes: int
    """Of files, to them, since this agent started."""
    internet: InternetView | None = None
    """None: the user does not want that, or it cannot be done now."""


class StatusView(View, frozen=True, kw_only=True):
    """What the agent does now, why, and what comes next."""

    running: bool
    activity: str
    """idle, working, paused, offline or problem; `stopped` if no agentd runs."""
    sentence: str
    message: MessageView
    next_look_at: float | None = None
    headline: MessageView | None = None
    """What it does, in a few words."""
    why: MessageView | None = None
    """The reason for that, without the project's name."""
    use: UseView | None = None
    """What the worker takes now."""
    reason: str
    """Which rule decided (`ready` while the agent may work); or `not_running`."""
    override: Override = NO_OVERRIDE
    """The user's pause or boost, while it lasts."""
    paused: bool = False
    stopping: bool = False
    """The agent ends when what is in hand is reported."""
    unit: CurrentUnit | None = None
    """The unit that is being computed; of several devices, the first one's."""
    devices: list[DeviceView] = []
    """Each device; none on a PC whose processor is the only one."""
    units_finished: int = 0
    pid: int | None = None
    desktop: bool = False
    """Whether a session is watched (not --headless)."""
    first_run: bool = False
    """The user has not closed the welcome yet."""
    projects: list[ProjectView]
    open: list[AssignmentView]
    history: list[AssignmentView]
    update: Release | None = None
    """A newer release."""
    sharing: SharingView | None = None
    """None: nothing is shared now."""
    runtime: RuntimeView | None = None


class OfferView(View, frozen=True):
    """A runtime that could be fetched, with the size of its download."""

    kind: str
    bytes_total: int


class RuntimeView(View, frozen=True):
    """The torch runtime of a packaged agent; `kind` is cpu or a GPU's."""

    kind: str
    state: str
    """installed, missing, fetching or failed."""
    sentence: str
    bytes_done: int = 0
    bytes_total: int = 0
    offers: list[OfferView] = []
    """Other kinds, for graphics processors."""


class MachineView(View, frozen=True):
    """This PC, for the sliders of the preferences and for the readings next to them."""

    cores: int
    fast_cores: int | None
    memory_bytes: int
    free_disk_bytes: int
    gpus: list[str]
    devices: dict[str, str]
    """Titles of all devices, the processor's too, by their names."""
    on_battery: bool | None
    battery_percent: float | None
    presence: str
    """How input is watched, or why it cannot be."""
    idle_seconds: float | None
    cpu_others_percent: float | None
    hottest_celsius: float | None
    metered: bool | None


class PreferencesView(View, frozen=True):
    """`preset`: the one that the values are equal to, or `custom`."""

    values: Preferences
    preset: str
    presets: dict[str, Preferences]
    machine: MachineView


class RowView(View, frozen=True):
    """A row of the rules on signals, as it is now."""

    row: Row
    allows: bool
    message: MessageView


class SignalView(View, frozen=True):
    """A signal, as it is now."""

    signal: Signal
    value: float | None
    at: float
    problem: MessageView | None
    next_at: float | None


class HookView(View, frozen=True):
    """Another program that may pause the agent."""

    name: str
    created_at: float


class RulesView(View, frozen=True):
    """The rules on signals, and what they would have allowed yesterday.

    `hours_yesterday`: of work; None: too little is known. `hours_known`: with every signal known.
    """

    rules: SignalRules
    signals: list[SignalView]
    rows: list[RowView]
    allowed: bool
    hours_yesterday: float | None
    hours_known: float
    hooks: list[HookView]


class HookTokenView(View, frozen=True):
    """A new token; it is shown once."""

    name: str
    token: str


class SignalValueView(View, frozen=True):
    """A signal's number now."""

    value: float


class Expectation(View, frozen=True):
    """What a project will take from this PC with the current preferences; estimates."""

    unit_minutes: float | None
    hours_per_day: float
    download_bytes_per_day: float
    upload_bytes_per_day: float
    kwh_per_day: float
    disk_bytes: float
    memory_bytes: float


class ProjectFacts(View, frozen=True):
    """What a user should know before attaching, and may look up afterwards."""

    project: str
    url: str
    link: str
    fingerprint: str
    title: str
    description: str
    contact: str
    """Who runs it, as signed by its key."""
    data_licence: str
    version: int
    versions_planned: int
    parameters: int
    """Those that are trained."""
    base_bytes: int
    """The part of the model that stays as it is: downloaded once."""
    comparable: bool
    """Whether results of different PCs can be compared, so that wrong ones are found."""
    attached: bool
    expectation: Expectation
    members: int = 0
    """Projects of its family, all of which are joined with it; 0: it is published alone."""
    own_data: bool = False
    """Whether it trains on data of its members' own, which stay on their PCs."""


class OwnDataView(View, frozen=True):
    """The folder with the user's own data for a project."""

    project: str
    folder: str
    """Empty: none is chosen."""
    sentence: str


class EventView(View, frozen=True):
    """Something that the agent did, and why."""

    id: int
    at: float
    kind: str
    """run, pause, stop, unit, attach, detach, problem, offline, preferences, update, start, end."""
    project: str
    message: MessageView
    outcome: str = ""
    """Of a unit: accepted, refused, late, given_back or uncounted."""
    count: int = 1
    """How many like it of that day it stands for."""


class HistoryView(View, frozen=True):
    """Newest first."""

    events: list[EventView]
    older: int | None = None
    """What to ask for as `before` for the next page, if there is one."""


class DayView(View, frozen=True):
    """One local day's sums."""

    day: str
    """YYYY-MM-DD."""
    units: float = 0
    accepted: float = 0
    samples: float = 0
    credit_flops: float = 0
    compute_seconds: float = 0
    energy_kwh: float = 0
    bytes_received: float = 0
    bytes_sent: float = 0


class ContributionView(View, frozen=True):
    """What this PC has contributed: each day (oldest first, without gaps) and in total."""

    days: list[DayView]
    total: DayView


class MemberView(View, frozen=True):
    """An agent of the user's household. Of one that does not answer nothing else is known."""

    name: str
    here: bool
    """It is this PC."""
    reached: bool
    message: MessageView
    activity: str = ""
    paused: bool = False
    projects: list[str] = []
    progress: float | None = None
    """Of the unit in hand, 0 to 1."""
    accepted: float = 0
    credit_flops: float = 0
    energy_kwh: float = 0
    from_neighbours: float = 0
    """Bytes of blobs that came from agents near by since its start."""
    to_neighbours: float = 0


class HouseholdView(View, frozen=True):
    """The user's agents on this network, this PC first, and what they gave together."""

    on: bool
    """Whether this PC is in a household."""
    members: list[MemberView]
    code: str = ""
    """What lets one more PC join; empty: none is shown."""
    code_ends_at: float | None = None
    accepted: float = 0
    credit_flops: float = 0
    energy_kwh: float = 0
    from_neighbours: float = 0


class ReceiptView(View, frozen=True):
    """An accepted unit. Energy in kWh, of which `measured_kwh` was not estimated."""

    at: float
    day: str
    project: str
    unit: int
    """Its number on the project's page."""
    kind: str
    epoch: int
    version: int
    """The version that it counts for."""
    credit: float
    compute_seconds: float
    kwh: float
    measured_kwh: float
    co2_grams: float | None
    """None: the user gave no factor."""
    proof: str
    """What the signed log says: in, taken_back, missing; empty: not looked yet (`verify`)."""


class ReceiptDayView(View, frozen=True):
    """The accepted units of a local day and a project."""

    day: str
    project: str
    units: int
    compute_seconds: float
    kwh: float
    measured_kwh: float
    credit: float
    co2_grams: float | None


class ReceiptsView(View, frozen=True):
    """Receipts of the last days, newest first."""

    since: str
    """The first local day."""
    days: list[ReceiptDayView]
    receipts: list[ReceiptView]
    """Empty unless they were asked for."""
    units: int
    kwh: float
    measured_kwh: float
    co2_grams: float | None
    spent_kwh: float
    """All that computing took on these days: also units that did not count, or not yet."""
    co2_grams_per_kwh: float


class VersionShareView(View, frozen=True):
    """How many units of this PC are proven to be in a version."""

    epoch: int
    version: int
    units: int


class VerifiedView(View, frozen=True):
    """What the signed log of a project says of this PC's accepted units."""

    project: str
    source: str
    """The address that it was read from."""
    newest: int
    """The newest version that it has."""
    versions: list[VersionShareView]
    """Oldest first."""
    units: int
    taken_back: int
    """Units in versions that the project went back from."""
    missing: int
    """Accepted, and in no list: confirmed after the version was made, or left out."""
    later: int
    """They count for versions that this log does not have yet."""


class AllVerifiedView(View, frozen=True):
    """By project."""

    projects: list[VerifiedView]


class CurveView(View, frozen=True):
    """How a project improved: points by version. `ours`: versions with units of this PC."""

    project: str
    metric: str
    versions: list[int]
    made_at: list[float]
    values: list[float | None]
    ours: list[int]
    attached_at: float


class LogView(View, frozen=True):
    """The last lines of the log, parsed."""

    lines: list[dict[str, Any]]


class LinkView(View, frozen=True):
    """A text that adds another PC to this account. It is a secret."""

    text: str
    sentence: str


class ReaderView(View, frozen=True):
    """By what this PC reads a private project. It is a secret."""

    project: str
    page: str
    """The project's page, which a browser may open with this address."""
    link: str
    reading: str
    """The content of a file for `pleb-project export --reading FILE`."""


class AutostartView(View, frozen=True):
    """Whether the agent starts with the session."""

    on: bool
    sentence: str


class PageAddress(View, frozen=True):
    """An address that opens the page once, within a minute."""

    url: str
