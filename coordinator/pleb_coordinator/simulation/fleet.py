"""A fleet in virtual time: an event queue of hosts' requests and of the background process.

    join     a host enrols
    request  a host reports what it has finished, and asks for a unit
    jobs     the background jobs do all that is due
    survey   hosts' standing is noted, for `figures`
    backup   the coordinator's rows and files are kept
    restore  it goes on with those
    move     it goes on elsewhere, with copies of all

A host that gets nothing waits, as with a long poll: it is served again when there is new work, and
now and then anyway. The clock is the time of the event, so a run is the same in every process
with the same seed.
"""

from __future__ import annotations

import heapq
import tempfile
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from msgspec.structs import replace

from pleb_coordinator.core.records import Purpose
from pleb_coordinator.core.reputation import standing_of
from pleb_coordinator.simulation.attacks import Choice, Gang, Member, Moment, at_distance
from pleb_coordinator.simulation.coordinator import START, SimulatedCoordinator
from pleb_coordinator.simulation.deltas import Deltas, Floats
from pleb_coordinator.simulation.hosts import HostPlan, make_hosts
from pleb_coordinator.simulation.presence import Presence
from pleb_coordinator.simulation.project import SmallProject, publish_small
from pleb_coordinator.simulation.simulated_host import Made, SimulatedHost
from pleb_coordinator.simulation.trained import TrainedDeltas
from pleb_coordinator.steps.enrol import enrol
from pleb_coordinator.steps.invite import new_invite
from pleb_coordinator.steps.serve import Answered, Asked, serve
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import EnrolRequest, Role, Runtime, WorkRequest
from pleb_shared.protocol.reasons import ReasonCode
from pleb_shared.protocol.report import (
    DeltaResult,
    EvaluationResult,
    FailureResult,
    Report,
    Result,
)
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.format import DeltaFormat, training_format
from pleb_shared.tensors.packing import pack
from pleb_shared.tensors.version import read_version
from pleb_system.backoff import BACKOFF

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pleb_coordinator.core.records import Host, Project
    from pleb_coordinator.simulation.settings import Settings
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store, Transaction
    from pleb_shared.protocol.manifest import Manifest
    from pleb_shared.protocol.unit import Unit

__all__ = ["Fleet", "opened_fleet"]

_JOBS_SECONDS: Final = 0.2
"""From a report until the background process has looked at it."""
_SURVEY_SECONDS: Final = 300.0
_RECORDS_SECONDS: Final = 150.0
"""From the start until hosts get the record that they are to have: they are calibrated by then."""
_WAKE_SECONDS: Final = 2.0
"""Within this time of a change, waiting hosts are served again (`api.work` pauses as long)."""
_MORE_WOKEN: Final = 2
"""Waiting hosts that are served again when one of them has got a unit: there may be more."""
_POLL_SECONDS: Final = 60.0
"""After this time a waiting host asks again; longer in fleets where many wait."""
_INSTANT_SECONDS: Final = 2.0
"""How long a lie takes whose host computes nothing."""
_RESTART_SECONDS: Final = 5.0
"""After this time a coordinator that is down is looked at again."""
_AGENT: Final = "simulated"


@contextmanager
def opened_fleet(settings: Settings, database: str = "") -> Iterator[Fleet]:
    """Return a fleet with a coordinator of its own, in a folder that is deleted afterwards.

    Its rows are in `database`, if one is given: an empty one, which keeps them.

    Raises:
        InputError: the database cannot be reached, or is not empty.
    """
    with ExitStack() as stack:
        fast = Path("/dev/shm")  # noqa: S108 - a store in memory, where the system has it
        where = str(fast) if fast.is_dir() else None
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="pleb-simulate-", dir=where))
        )
        fleet = Fleet(folder, settings, database)
        stack.callback(fleet.close)
        yield fleet


class Fleet:
    """One project, its coordinator, and its hosts."""

    def __init__(self, folder: Path, settings: Settings, database: str = "") -> None:
        self.settings = settings
        self.generator = np.random.default_rng(settings.seed)
        self._coordinator = SimulatedCoordinator(folder, self.generator.bytes, database)
        self.clock = self._coordinator.clock
        small = SmallProject(
            "simulated",
            settings.round,
            verification=settings.verification,
            codec=settings.codec,
            local_steps=settings.local_steps,
            lease_seconds=settings.lease_seconds,
            shards=settings.shards,
            lifetime_seconds=29 * 86_400,
        )
        project = publish_small(self.store, self.deps, small)
        encoding = training_format(project.metadata)
        exact = DeltaFormat(encoding.model, "fp32", encoding.block)
        self.deltas: Deltas = Deltas(encoding, exact, settings.seed, settings.local_steps)
        if settings.trains:
            self._versions: dict[int, Floats] = {}
            self.deltas = TrainedDeltas(encoding, exact, settings.seed, version=self._version)
        self.gang = Gang(
            self.deltas,
            np.random.default_rng((settings.seed, 1)),
            settings.verification.tolerance,
            settings.verification.tolerance_ceiling,
            settings.round.units,
            START + settings.calm_share * settings.hours * 3600,
        )
        self.hosts: list[SimulatedHost] = []
        self.requests = 0
        self._events: list[tuple[float, int, str, Any, int]] = []
        self._count = 0
        self._jobs_at = float("inf")
        self._newest_work = 0
        self._waiting: dict[int, SimulatedHost] = {}
        self._eager: list[int] = []
        self._by_row: dict[str, SimulatedHost] = {}
        for plan in make_hosts(settings.fleet, self.generator):
            self._at(START + plan.joins_at, "join", plan)
        self._at(START + _SURVEY_SECONDS, "survey", None)
        self._at(START + _RECORDS_SECONDS, "records", settings.fleet.record)
        for number, (at, age) in enumerate(settings.restores):
            self._at(START + 3600 * (at - age), "backup", f"backup-{number}")
            self._at(START + 3600 * at, "restore", f"backup-{number}")
        for number, (at, down) in enumerate(settings.moves):
            self._at(START + 3600 * (at + down), "move", f"moved-{number}")
        self._run_jobs_at(START)

    def close(self) -> None:
        """Close the store."""
        self._coordinator.close()

    def run(self) -> None:
        """Let the fleet work for as long as the settings say.

        Raises:
            Exception: what a background job has raised.
        """
        end = START + self.settings.hours * 3600
        while self._events and self._events[0][0] <= end:
            at, _, what, who, ticket = heapq.heappop(self._events)
            self.clock.now = at
            if what != "request" or ticket == who.ticket:  # else a later event has replaced it
                self._happen(what, who)
        self.clock.now = end
        self.survey()

    def _happen(self, what: str, who: Any) -> None:
        now = self.clock.now
        match what:
            case "join":
                self._join(who)
            case "request" if self._is_down():
                self._try_again(who)
            case "request":
                self._request(who)
            case "jobs" if now == self._jobs_at:
                self._run_jobs()
            case "records":
                self._give_records(who)
            case "backup":
                self._coordinator.back_up(who)
            case "restore":
                self._restore(who)
            case "move":
                self._coordinator.move(who)
            case "survey":
                self.survey()
                self._give_records(self.settings.fleet.record)
                self._at(now + _SURVEY_SECONDS, "survey", None)
            case _:
                pass  # jobs that will run earlier

    @property
    def store(self) -> Store:
        """The coordinator's rows."""
        return self._coordinator.store

    @property
    def deps(self) -> Deps:
        """What the coordinator's steps need."""
        return self._coordinator.deps

    @property
    def project(self) -> Project:
        """The project as it is now."""
        with self.store.read() as tx:
            return tx.projects.find("simulated")

    @property
    def seconds(self) -> float:
        """Virtual time since the start."""
        return self.clock.now - START

    def _is_down(self) -> bool:
        hours = self.seconds / 3600
        away = (*self.settings.outages, *self.settings.moves)
        return any(start <= hours < start + length for start, length in away)

    def _try_again(self, host: SimulatedHost) -> None:
        """Have a host that reached no coordinator ask later, as the agent does."""
        host.unanswered += 1
        delay = BACKOFF.delay_seconds(host.unanswered, self.generator.random())
        self._request_at(host, self.clock.now + delay)

    def _version(self, number: int) -> Floats:
        """Return the parameters [numbers] of a version, as hosts build it."""
        if number not in self._versions:
            with self.store.read() as tx:
                project = tx.projects.find("simulated")
                source = tx.versions.source(project.id, project.epoch, number)
            tensors = read_version(source, project.metadata, self.deps.blobs.get)
            parameters = project.metadata.model.parameters
            flat = [tensors[spec.name].reshape(-1) for spec in parameters]
            self._versions[number] = np.concatenate(flat).astype(np.float32)
        return self._versions[number]

    def rows(self) -> list[tuple[SimulatedHost, Host]]:
        """Return every host with its row in the store."""
        with self.store.read() as tx:
            project = tx.projects.find("simulated")
            found = tx.hosts.of_project(project.id, limit=10**9)
        return [(self._by_row[row.fingerprint], row) for row in found]

    def survey(self) -> None:
        """Note which hosts are proven or banned."""
        for host, row in self.rows():
            if host.proven_at is None and row.proven:
                host.proven_at = self.clock.now
            if row.banned_until > self.clock.now:
                self._ban(host)

    # Events

    def _at(self, at: float, what: str, who: Any, ticket: int = 0) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, what, who, ticket))

    def _request_at(self, host: SimulatedHost, at: float) -> None:
        """Have the host ask at that time, or when its PC is on again."""
        host.ticket += 1
        self._at(host.presence.on_from(at), "request", host, host.ticket)

    def _run_jobs_at(self, at: float) -> None:
        if at < self._jobs_at:
            self._jobs_at = at
            self._at(at, "jobs", None)

    def _run_jobs_again_at(self, at: float) -> None:
        self._jobs_at = float("inf")
        self._run_jobs_at(at)

    def _join(self, plan: HostPlan) -> None:
        """Enrol a PC under a new name."""
        number, now = len(self.hosts), self.clock.now
        key = self.generator.bytes(32).hex()
        member = None
        if plan.attack is not None:
            member = Member(self.gang, number, plan.determinism_class)
        runtime = Runtime(
            torch="2",
            device="cpu",
            threads=1 + plan.determinism_class,
            capability=f"class {plan.determinism_class}",
            system="Linux-x86_64",
        )
        own = np.random.default_rng((self.settings.seed, 2, number))
        presence = Presence(plan.habits, own, now)
        host = SimulatedHost(number, plan, key, now, member, runtime, presence)
        self.hosts.append(host)
        self._by_row[host.fingerprint] = host
        self._enrol(host)
        self._request_at(host, now + self.generator.uniform(0, 1))

    def _enrol(self, host: SimulatedHost) -> None:
        """Let the coordinator know a host."""
        plan, now = host.plan, int(self.clock.now)
        with self.store.write(durable=False) as tx:
            invite = None
            if plan.trusted:
                invite = new_invite(tx, self.deps, Role.TRUSTED, lifetime_seconds=60)
            request = EnrolRequest(
                protocols=[1],
                project="simulated",
                host_key=host.key,
                account_key=digest_of(
                    f"{plan.account}/{host.number if host.member else 0}".encode()
                ),
                invite=invite,
                agent=_AGENT,
                issued_at=now,
                expires_at=now + 60,
            )
            enrol(tx, self.deps, tx.projects.find("simulated"), request, plan.network)

    def _request(self, host: SimulatedHost) -> None:
        """Send the host's reports and ask for a unit; refuse a banned host, as `api.work` does."""
        if host.banned and not self._unbanned(host):
            return
        host.unanswered = 0
        self._waiting.pop(host.number, None)
        if host.waiting_since is not None:
            waited = host.presence.on_between(host.waiting_since, self.clock.now)
            host.waited_seconds += waited
            host.waiting_for_unit += waited
            host.waiting_since = None
        host.sequence += 1
        self.requests += 1
        reports, attached = [], []
        for report, data in host.ready:
            reports.append(report)
            if data is not None:
                attached.append(data)
        sent, host.ready = host.ready, []
        now = int(self.clock.now)
        request = WorkRequest(
            protocols=[1],
            project="simulated",
            host=host.fingerprint,
            sequence=host.sequence,
            issued_at=now,
            expires_at=now + 60,
            agent=_AGENT,
            runtime=host.runtime,
            max_units=1,
            in_hand=host.in_hand,
            reports=reports,
            free_seconds=self._free_seconds(host),
            usually_free_seconds=self._usually_free_seconds(host),
        )
        host.in_hand = []
        digest = f"{host.number:032x}{host.sequence:032x}"
        asked = Asked(request, digest, attached, 1, host.plan.network)
        try:
            with self.store.write(durable=False) as tx:
                answered = None if self._is_banned(tx, host) else serve(tx, self.deps, asked)
        except Refusal as refusal:
            if refusal.code is not RefusalCode.UNKNOWN_HOST or not self.settings.restores:
                message = f"Host {host.number} was refused: {refusal}"
                raise RuntimeError(message) from refusal
            host.ready = sent
            self._enrol(host)  # it joined after the backup
            self._request_at(host, self.clock.now + 1.0)
            return
        if answered is None:
            self._ban(host)
        else:
            self._answered(host, answered, reported=bool(reports))

    def _free_seconds(self, host: SimulatedHost) -> float | None:
        end = host.presence.window_end(self.clock.now) if host.plan.tells_hours else float("inf")
        return None if end == float("inf") else end - self.clock.now

    def _usually_free_seconds(self, host: SimulatedHost) -> float | None:
        now, learn = self.clock.now, self.settings.usually_free
        on_since = host.presence.on_since(now) if learn is not None else None
        if learn is None or on_since is None:
            return None
        seconds = learn(host.presence.before(now), on_since, now)
        return None if seconds is None else min(max(0.0, seconds), LIMITS.free_seconds)

    def _is_banned(self, tx: Transaction, host: SimulatedHost) -> bool:
        project = tx.projects.find("simulated")
        return tx.hosts.find(project.id, host.fingerprint).banned_until > self.clock.now

    def _answered(self, host: SimulatedHost, answered: Answered, *, reported: bool) -> None:
        """Learn verdicts, and begin with a unit or wait for one."""
        for told in answered.verdicts:
            host.learn(told.verdict)
        host.take_receipts(answered.receipts)
        if reported:
            self._run_jobs_at(self.clock.now + _JOBS_SECONDS)
        for manifest in answered.manifests:
            self._begin(host, manifest)
        if answered.manifests:
            host.waits_for_units.append(host.waiting_for_unit)
            host.waiting_for_unit = 0.0
            if host.waits:
                self._wake(_MORE_WOKEN)
            host.waits = False
            return
        host.waits = True
        host.waiting_since = self.clock.now
        self._waiting[host.number] = host
        if host.eager:
            self._eager.append(host.number)
        refusal = answered.no_work
        pause = 0.0 if refusal is None else refusal.retry_after_seconds
        if refusal is None or refusal.reason.code != ReasonCode.CALIBRATING:
            crowd = max(1.0, len(self._waiting) / 100)
            pause = max(pause, _POLL_SECONDS * crowd * self.generator.uniform(0.7, 1.3))
        self._request_at(host, self.clock.now + pause)

    def _give_records(self, record: int) -> None:
        """Let those who joined at the start be as if they had worked for long, once calibrated."""
        started = START + self.settings.fleet.join_seconds + _RECORDS_SECONDS
        with self.store.write(durable=False) as tx:
            for host, row in self.rows() if record else ():
                is_old = not host.plan.trusted and host.joined_at <= started
                if is_old and row.determinism_class and not host.has_record:
                    host.has_record = True
                    standing = replace(standing_of(row), record=record, proven=True)
                    tx.hosts.set_standing(row.id, standing)
                    step = host.plan.unit_seconds / self.settings.local_steps
                    tx.hosts.set_fastest(row.id, step)
                    if host.member is not None:
                        host.member.made = host.member.valid = record

    def _run_jobs(self) -> None:
        if self._is_down():
            self._run_jobs_again_at(self.clock.now + _RESTART_SECONDS)
            return
        self._jobs_at = float("inf")
        until = self._coordinator.run_jobs()
        self._run_jobs_at(max(until, self.clock.now + _JOBS_SECONDS))
        self._wake_for_news()

    def _restore(self, name: str) -> None:
        """Let the coordinator go on from a backup; hosts have done more than it knows."""
        self._coordinator.restore(name)
        if self.settings.trains:
            self._versions.clear()
        ids = {host.number: row.id for host, row in self.rows()}
        with self.store.read() as tx:
            for host in self.hosts:
                unsent = {report.assignment for report, _ in host.ready}
                known = {
                    made.assignment
                    for made in host.made
                    if self._is_known(tx, ids.get(host.number), made)
                }
                host.undo({made.assignment for made in host.made} - unsent - known)
        self._newest_work = 0
        self._run_jobs_again_at(self.clock.now)

    def _is_known(self, tx: Transaction, host: int | None, made: Made) -> bool:
        """Whether the coordinator has a result of that host."""
        try:
            row = tx.assignments.get(self.deps.numbers.row(made.assignment))
        except Refusal:
            return False
        return row.host == host and row.digest == made.digest

    def _wake_for_news(self) -> None:
        """Serve some of the waiting hosts again, if work was added since this was done last."""
        if not self._waiting:
            return
        with self.store.read() as tx:
            project = tx.projects.find("simulated")
            self._newest_work, new = tx.views.unsent_after(project.id, self._newest_work)
            drawn = [tx.hosts.get(host).fingerprint for host in new if host is not None]
        self._wake(2 * new.count(None), [self._by_row[name].number for name in drawn])

    def _wake(self, most: int, drawn: Sequence[int] = ()) -> None:
        """Serve `most` waiting hosts again, those that were drawn, and all that are eager."""
        for number in [*drawn, *self._some_waiting(most), *self._eager]:
            host = self._waiting.pop(number, None)
            if host is None:
                continue  # eager, and among the chosen
            longest = _WAKE_SECONDS / 4 if host.plan.instant else _WAKE_SECONDS
            self._request_at(host, self.clock.now + self.generator.uniform(0.05, longest))
        self._eager.clear()

    def _some_waiting(self, most: int) -> list[int]:
        """Return up to `most` hosts, drawn by lot, that wait and are on."""
        if not most:
            return []
        now, waiting = self.clock.now, list(self._waiting)
        drawn = (waiting[place] for place in self.generator.permutation(len(waiting)))
        return list(islice((n for n in drawn if self._waiting[n].presence.is_on(now)), most))

    # What hosts do

    def _begin(self, host: SimulatedHost, manifest: Manifest) -> None:
        """Compute a unit: its report is sent when it is finished."""
        seconds = self._seconds(host, manifest.unit)
        if manifest.unit.kind == UnitKind.EVALUATE:
            result: Result = EvaluationResult(metrics={"loss": 1.0}, examples=8)
            self._deliver(host, manifest, result, None, seconds, seconds)
            return
        if manifest.unit.kind == UnitKind.CALIBRATE:
            data = self._calibration(host, manifest.unit)
            self._deliver_delta(host, manifest, data, seconds, seconds)
            return
        had_shards = manifest.unit.shards.first in host.shards
        choice = Choice.HONEST
        if host.member is not None:
            choice = self._chosen(host.member, host, manifest, had_shards=had_shards)
        host.shards.add(manifest.unit.shards.first)
        match choice:
            case Choice.VANISH:
                host.in_hand = [manifest.assignment]  # else it would be sent again
                self._request_at(host, self.clock.now + manifest.lease_seconds + 60)
                return
            case Choice.GIVE_BACK:
                host.failed += 1
                self._deliver(host, manifest, FailureResult(reason="busy"), None, 1.0, 1.0)
                return
            case Choice.HONEST | Choice.LIE:
                pass
        data = self._result(host, manifest, choice)
        lie = choice == Choice.LIE and data != self._honest(host, manifest.unit)
        lie = lie or self._spoiled(host)
        if lie and host.member is None:
            values = 3 * self.deltas.direction("fault", int(self.generator.integers(10**6)))
            data = self.deltas.encode(manifest.unit, values)
        took = _INSTANT_SECONDS * self.generator.uniform(0.5, 1.5)
        took = took if host.plan.instant and lie else seconds
        unit = manifest.unit
        now, presence = self.clock.now, host.presence
        finished_at = presence.finished(now, took)
        inside = finished_at <= presence.window_end(now)
        what = (manifest.assignment, unit.seed, digest_of(data), lie)
        host.made.append(Made(*what, took, unit.local_steps, inside, had_shards, finished_at))
        if host.member is not None:
            host.member.made += 1
            host.member.last_sent = data
        self._deliver_delta(host, manifest, data, took, seconds)

    def _deliver_delta(
        self, host: SimulatedHost, manifest: Manifest, data: bytes, took: float, seconds: float
    ) -> None:
        first, last = self.deltas.losses(manifest.unit)
        packed = pack(data)
        size = len(packed)
        result = DeltaResult(
            digest=digest_of(data), size=size, attached=True, loss_first=first, loss_last=last
        )
        self._deliver(host, manifest, result, packed, took, seconds)

    def _chosen(
        self, member: Member, host: SimulatedHost, manifest: Manifest, *, had_shards: bool
    ) -> Choice:
        attack = host.plan.attack
        if attack is None:
            return Choice.HONEST
        first_try = self.gang.note(manifest, member.number)
        if attack.knows:
            with self.store.read() as tx:
                row = tx.assignments.get(self.deps.numbers.row(manifest.assignment))
            first_try = row.purpose == Purpose.PRIMARY
        if self.seconds < 3600 * self.settings.fleet.calm_hours:
            return Choice.HONEST
        moment = Moment(member, manifest, first_try, self.clock.now, had_shards=had_shards)
        choice = attack.time(moment)
        if choice == Choice.LIE:
            self.gang.lied.add(manifest.unit.seed)
        return choice

    def _result(self, host: SimulatedHost, manifest: Manifest, choice: Choice) -> bytes:
        """Return the bytes that the host sends."""
        unit, attack = manifest.unit, host.plan.attack
        if host.member is None or attack is None:
            return self._honest(host, unit)
        honest = self.deltas.honest(unit, host.plan.determinism_class)
        self.gang.known[unit.version].append(honest)
        if choice == Choice.HONEST:
            return self._honest(host, unit)
        if attack.together and unit.seed in self.gang.agreed:
            return self.gang.agreed[unit.seed]
        lie = attack.lie(Moment(host.member, manifest, first_try=False, now=self.clock.now))
        data = lie if isinstance(lie, bytes) else self.deltas.encode(unit, lie)
        self.gang.agreed[unit.seed] = data
        return data

    def _honest(self, host: SimulatedHost, unit: Unit) -> bytes:
        """Return the bytes of the right result; what knows too little to lie sends them, too."""
        return self.deltas.encode(unit, self.deltas.honest(unit, host.plan.determinism_class))

    def _calibration(self, host: SimulatedHost, unit: Unit) -> bytes:
        """Return an honest calibration, or that of the class that hostile hosts have made up."""
        values = self.deltas.honest(unit, host.plan.determinism_class)
        attack = host.plan.attack
        if attack is not None and attack.made_class:
            direction = self.deltas.direction("made class", 0)
            distance = attack.made_class * self.gang.ceiling
            values = at_distance(self.deltas, self.deltas.honest(unit, 0), direction, distance)
        return self.deltas.encode(unit, values)

    def _spoiled(self, host: SimulatedHost) -> bool:
        rate = host.plan.fault_rate
        return rate > 0 and host.member is None and bool(self.generator.random() < rate)

    def _seconds(self, host: SimulatedHost, unit: Unit) -> float:
        """Return how long the PC computes a unit."""
        steps = self.settings.local_steps if unit.kind == UnitKind.EVALUATE else unit.local_steps
        share = max(1, steps) / max(1, self.settings.local_steps)
        return float(host.plan.unit_seconds * share * self.generator.uniform(0.95, 1.05))

    def _deliver(
        self,
        host: SimulatedHost,
        manifest: Manifest,
        result: Result,
        data: bytes | None,
        took: float,
        claimed: float,
    ) -> None:
        """Have the report sent after `took` seconds on; the host says that it took `claimed`.

        Hosts whose lies take no time claim always to be that fast: it makes their lies usual.
        """
        if host.plan.instant:
            claimed *= _INSTANT_SECONDS / host.plan.unit_seconds
        report = Report(
            assignment=manifest.assignment,
            nonce=manifest.nonce,
            epoch=manifest.unit.epoch,
            version=manifest.unit.version,
            result=result,
            compute_seconds=claimed,
        )
        host.ready.append((report, data))
        host.busy_seconds += took
        self._request_at(host, host.presence.finished(self.clock.now, took))

    # Bans

    def _ban(self, host: SimulatedHost) -> None:
        """Note that the host is banned; a hostile person comes back under a new name."""
        if host.banned:
            return
        host.banned = True
        host.bans += 1
        host.ready = []
        host.ticket += 1
        self._waiting.pop(host.number, None)
        if host.caught_after is None:
            host.caught_after = len(host.made)
        if host.plan.attack is not None:
            again = HostPlan(
                **{
                    **vars(host.plan),
                    "network": f"again-{len(self.hosts)}",
                    "joins_at": 0.0,
                }
            )
            self._at(self.clock.now + host.plan.attack.returns_after, "join", again)
        else:
            self._request_at(host, self.clock.now + 3600.0)

    def _unbanned(self, host: SimulatedHost) -> bool:
        """Whether a ban has ended; if not, the host tries again later."""
        with self.store.read() as tx:
            banned = self._is_banned(tx, host)
        if banned and host.plan.attack is None:
            self._request_at(host, self.clock.now + 3600.0)
        host.banned = banned
        return not banned
