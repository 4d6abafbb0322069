"""The background loop: a list of jobs, done over and over.

The tables are the queue. Each job has the same phases:

    find     in a read transaction: the next piece of work that is due and not claimed
    compute  outside of transactions: may take long, reads and writes files, changes no row
    commit   in a write transaction: updates only rows that are as `find` saw them

A claim keeps other processes from computing the same meanwhile; correctness never depends on
it, only on `commit`. So any number of loops may run at once, on any number of machines that reach
the same data. Killed at any line, a loop loses nothing: uncommitted work is found again, at once
if the process is restarted under its name, otherwise when its claim has expired.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from pleb_coordinator.core.records import Project, ProjectState
from pleb_coordinator.core.rounds import due_at
from pleb_coordinator.steps import (
    advance,
    calibrate,
    expire,
    landed,
    plan,
    retain,
    rollback,
    sweep,
    thin,
    verify,
)
from pleb_coordinator.store.engine import StoreUnavailableError
from pleb_shared.errors import PlebError, Refusal

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store, Transaction

__all__ = ["PROJECT_JOBS", "Job", "JobCounters", "Jobs", "QuickJob", "run_jobs"]

_log = logging.getLogger(__name__)

_AT_REST: Final = frozenset({ProjectState.ARCHIVED, ProjectState.MOVED})
WAKE_SECONDS: Final = 0.02
"""How often the loop asks whether any process has committed: a few microseconds each time."""
RETENTION_SECONDS: Final = 10.0
"""How often a batch of old rows is removed: 200 events a second, which is more than come."""
RARE_SECONDS: Final = 600.0
"""How often whole tables are looked through for rows that are old: no index finds those."""
IDLE_SECONDS: Final = 5.0
"""The longest sleep: clocks may jump."""
COUNT_SECONDS: Final = 30.0
"""How often hosts are counted, which reads the row of every one of them."""
TIMED_SECONDS: Final = 1.0
"""How often the loop looks for what time alone makes due, unless it knows when that will be."""
_AWAY_SECONDS: Final = 1.0
"""Pause while the store is away or full."""
_FAULT_SECONDS: Final = 30.0
"""Pause of a project whose job failed; other projects go on."""


class HasKey(Protocol):
    """Work that can be claimed."""

    @property
    def key(self) -> str:
        """What names the work among all work of its job, whichever project it belongs to."""


Scope = TypeVar("Scope")
"""What a job works on: `Project`, or None for the whole store."""
Work = TypeVar("Work")
Keyed = TypeVar("Keyed", bound=HasKey)
Made = TypeVar("Made")


@dataclass(frozen=True)
class Job(Generic[Scope, Keyed, Made]):
    """A job with all three phases. `find` skips the claimed keys that it is given."""

    name: str
    find: Callable[[Transaction, Deps, Scope, Collection[str]], Keyed | None]
    compute: Callable[[Deps, Keyed], Made]
    commit: Callable[[Transaction, Deps, Keyed, Made], object]
    most: int = 64
    """Pieces in a row, so that a long queue does not keep the other jobs waiting."""
    durable: bool = True
    """False: what it commits can be decided again after a power cut. Nobody has learnt of it by
    then: whatever is said to a host is committed durably, and with it all that came before."""


@dataclass(frozen=True)
class QuickJob(Generic[Scope, Work]):
    """A job that has nothing to compute, and so nothing to claim."""

    find: Callable[[Transaction, Deps, Scope], Work | None]
    commit: Callable[[Transaction, Deps, Work], object]
    timed: bool = False
    """Time makes it due, or it only tidies up: see `Jobs.timed_seconds`."""

    @property
    def name(self) -> str:
        """Its step and what it does there, for people."""
        return f"{self.commit.__module__.rpartition('.')[2]}.{self.commit.__name__}"


@dataclass
class JobCounters:
    """What the loops of a process have done since it started."""

    done: Counter[str] = field(default_factory=Counter)
    """Pieces of work, by job."""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The time that they took, by job."""
    failures: Counter[str] = field(default_factory=Counter)
    """By project; the empty name is the store."""
    passed_at: float = 0.0
    """When a loop last looked for work, on the machine's monotonic clock."""


AnyJob = Job[Any, Any, Any] | QuickJob[Any, Any]

FILE_JOBS: Final[Sequence[AnyJob]] = (
    QuickJob(sweep.find_due_files, sweep.condemn_files),
    Job("delete", sweep.find_files, sweep.delete_files, sweep.forget_files),
)
STORE_JOBS: Final[Sequence[AnyJob]] = (
    QuickJob(expire.find_leases, expire.expire_leases),
    QuickJob(expire.find_unfetched, expire.draw_again),
    QuickJob(verify.find_look, verify.look),
    QuickJob(expire.find_uploads, expire.expire_uploads),
    *FILE_JOBS,
)
COUNT_FLEET: Final[Sequence[Sequence[AnyJob]]] = (
    [QuickJob(expire.find_fleet, expire.count_fleet)],
    [QuickJob(expire.find_view, expire.store_view)],
)
CLASS_JOBS: Final[Sequence[AnyJob]] = (
    QuickJob(calibrate.find_reports, calibrate.record_reports),
    Job("measure", calibrate.find, calibrate.compute, calibrate.commit, most=1),
)
"""One piece of each in a pass: a liar can make many classes, and rounds must not wait for them."""
PROJECT_JOBS: Final[Sequence[AnyJob]] = (
    Job("check", landed.find, landed.compute, landed.commit),
    Job("verify", verify.find, verify.compute, verify.commit, durable=False),
    Job("rollback", rollback.find, rollback.compute, rollback.commit),
    Job("advance", advance.find, advance.compute, advance.commit),
    QuickJob(plan.find, plan.commit),
    QuickJob(plan.find_young, plan.ease_round, timed=True),
    QuickJob(plan.find_vain_warm_start, plan.end_warm_start, timed=True),
    QuickJob(expire.find_unserved, expire.give_to_volunteers, timed=True),
    QuickJob(expire.find_old_units, expire.retire_units, timed=True),
    QuickJob(sweep.find_round, sweep.sweep_round, timed=True),
)
"""In this order: jobs that bring new work to waiting hosts come before tidying up."""
RETENTION: Final[Sequence[tuple[float, Sequence[Sequence[AnyJob]], Sequence[Sequence[AnyJob]]]]] = (
    (
        RETENTION_SECONDS,
        [[QuickJob(retain.find_events, retain.remove_events)]],
        [
            [QuickJob(retain.find_rounds, retain.retire_rounds)],
            [QuickJob(retain.find_spent_rounds, retain.remove_rounds)],
            [Job("thin", thin.find, thin.compute, thin.commit)],
        ],
    ),
    (
        RARE_SECONDS,
        [
            [QuickJob(retain.find_uploads, retain.remove_uploads)],
            [QuickJob(retain.find_audit, retain.remove_audit)],
        ],
        [
            [QuickJob(retain.find_hosts, retain.remove_hosts)],
            [QuickJob(retain.find_runtimes, retain.remove_runtimes)],
            [QuickJob(retain.find_classes, retain.remove_classes)],
            [QuickJob(retain.find_calibrations, retain.remove_calibrations)],
        ],
    ),
)
"""How often a batch of rows is removed, by which jobs of the store and of each project."""


def run_jobs(
    store: Store,
    deps: Deps,
    stop: threading.Event,
    *,
    holder: str = "jobs",
    counters: JobCounters | None = None,
    passed: Callable[[], None] = lambda: None,
) -> None:
    """Work until `stop` is set. `store` belongs to this thread alone; `holder` names it.

    `passed` is called whenever all projects have had their turn.
    """
    jobs = Jobs(
        store,
        deps,
        holder,
        counters=counters or JobCounters(),
        timed_seconds=TIMED_SECONDS,
        passed=passed,
    )
    while not stop.is_set():
        try:
            until = jobs.run_due()
        except Refusal:  # what fails for one project alone is caught there
            _log.exception("The store cannot be used; trying again")
            jobs.counters.failures[""] += 1
            until = deps.clock() + _AWAY_SECONDS
        jobs.counters.passed_at = monotonic()
        while not stop.wait(WAKE_SECONDS):
            if store.commits_of_others() != jobs.seen or deps.clock() >= until:
                break


@dataclass
class Jobs:
    """One loop. Only one at a time may have the same `holder` name.

    What a killed process of that name had claimed is released at the start.
    """

    store: Store
    deps: Deps
    holder: str = "jobs"
    project_jobs: Sequence[AnyJob] = PROJECT_JOBS
    counters: JobCounters = field(default_factory=JobCounters)
    timed_seconds: float = 0.0
    """For so long after a search in vain, what time makes due is searched for only if it was known
    to be due by then. Passes follow one another as often as anything changes."""
    passed: Callable[[], None] = lambda: None
    """Called whenever all projects have had their turn."""
    seen: int = field(default=-1, init=False)
    """`Store.commits_of_others` when the last pass began."""
    _paused: dict[str, float] = field(default_factory=dict, init=False)
    """Until when, by the project's name; "" is the store."""
    _timed: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    """When what time makes due was last searched for in vain, and when it is to be again."""
    _counted: float = field(default=float("-inf"), init=False)
    _retained: dict[float, float] = field(default_factory=dict, init=False)
    """When old rows were last removed, by how often they are."""

    _may_hold: bool = field(default=True, init=False)
    """Whether there may be claims that nobody works on: of a killed process, of a failed job."""

    def _release_left(self) -> None:
        """Give up claims that nobody works on, or others would wait for them until they expire.

        Raises:
            Refusal: the store is away, busy or full; the next pass tries again.
        """
        self._may_hold = True
        with self.store.read() as tx:
            left = tx.claims.held_by(self.holder)
        if left:
            with self.store.write() as tx:
                tx.claims.release_all(self.holder)
        self._may_hold = False

    def run_due(self) -> float:
        """Do what is due until nothing is; return when to look again, at the latest.

        Raises:
            Refusal: the store cannot be used.
        """
        if self._may_hold:
            self._release_left()
        times: dict[str, float | None] = {}
        while None in times.values() or not times:
            before, self.seen = self.seen, self.store.commits_of_others()
            if not times or self.seen != before:
                times = dict.fromkeys(["", *self._projects()])
            # the store's own jobs and other projects do not depend on what was done for one
            for name in [name for name, at in times.items() if at is None]:
                times[name] = self._pass(name)
            self.passed()
        return min(at for at in times.values() if at is not None)

    def _pass(self, name: str) -> float | None:
        """Do what is due of a project or the store, as `_do_due`, but what is not searched for."""
        now, turns = self.deps.clock(), [STORE_JOBS]
        since, until = self._timed.get(name, (now, now))
        timed = not since <= now < until  # a clock may be set back
        if not timed and not name:
            return until
        if name:
            jobs = self.project_jobs
            turns = [[job] for job in CLASS_JOBS]
            turns += [jobs if timed else [job for job in jobs if not _is_timed(job)]]
        at = self._guarded(name, turns)
        if at is None:
            return None
        if timed:
            self._timed[name] = (now, min(at, now + self.timed_seconds))
            return at
        return min(at, until)

    def retain(self) -> None:
        """Remove all that is not kept any more now, instead of a batch now and then.

        Raises:
            PlebError, LookupError, OSError: as the job that has failed.
        """
        with self.store.read() as tx:
            names = tx.projects.names()
        for _, of_store, of_project in RETENTION:
            for name in ("", *names):
                while self._do_due(name, of_project if name else of_store) is None:
                    pass
        while self._do_due("", [[job] for job in FILE_JOBS]) is None:
            pass

    def _projects(self) -> list[str]:
        """Return all projects' names; now and then hosts are counted and old rows removed."""
        with self.store.read() as tx:
            names = tx.projects.names()
        now = self.deps.clock()
        if not 0 <= now - self._counted < COUNT_SECONDS:
            self._counted = now
            for name in names:
                self._do_due(name, COUNT_FLEET)
        for seconds, of_store, of_project in RETENTION:
            if not 0 <= now - self._retained.get(seconds, float("-inf")) < seconds:
                self._retained[seconds] = now
                for name in ("", *names):
                    self._guarded(name, of_project if name else of_store)
        return names

    def _guarded(self, name: str, turns: Sequence[Sequence[AnyJob]]) -> float | None:
        """Do what is due, as `_do_due`; a project whose job fails is paused.

        Raises:
            StoreUnavailableError: that is no fault of a project, and soon over.
        """
        now = self.deps.clock()
        if now < self._paused.get(name, 0.0) <= now + _FAULT_SECONDS:
            return self._paused[name]
        try:
            return self._do_due(name, turns)
        except StoreUnavailableError:
            self._may_hold = True  # a commit may be done although nothing said so
            raise
        except (PlebError, OSError, LookupError):
            what = f"project {name}" if name else "the store"
            _log.exception("A job of %s failed; trying again later", what)
            self.counters.failures[name] += 1
            self._paused[name] = now + _FAULT_SECONDS
            return self._paused[name]

    def _do_due(self, name: str, turns: Sequence[Sequence[AnyJob]]) -> float | None:
        """Do of each turn the first job that is due.

        Returns:
            None if there was one, otherwise when time alone makes something due.
        """
        nothing = True
        while turns:
            with self.store.read() as tx:
                scope = _scope(tx, name)
                if scope is not None and scope.state in _AT_REST:
                    return self.deps.clock() + IDLE_SECONDS
                claimed = tx.claims.live(self.deps.clock())
                due = (
                    (number, job, work)
                    for number, jobs in enumerate(turns)
                    for job in jobs
                    if (work := self._find(tx, job, scope, claimed)) is not None
                )
                found = next(due, None)
                if found is None:
                    return self._next_due(tx, scope) if nothing else None
            number, job, work = found
            began = monotonic()
            if isinstance(job, QuickJob):
                with self.store.write() as tx:
                    job.commit(tx, self.deps, work)
                self.counters.done[job.name] += 1
            else:
                self._do_queue(job, name, work)
            self.counters.seconds[job.name] += monotonic() - began
            turns, nothing = turns[number + 1 :], False
        return None

    def _do_queue(self, job: Job[Any, Any, Any], name: str, work: Any) -> None:
        """Claim the work, do it, and then what else the job has to do, up to `job.most` pieces.

        One transaction commits a piece, releases it and claims the next: a commit waits for the
        disk, and a queue needs hardly more of them than without claims.
        """
        with self.store.write(durable=False) as tx:
            if self.store.commits_of_others() == self.seen:
                taken = self._take(tx, job, work)
            else:  # another process may have just done it
                taken = self._take_next(tx, job, name)
        done = 0
        while taken is not None:
            done += 1
            self.counters.done[job.name] += 1
            try:
                made = job.compute(self.deps, taken)
                with self.store.write(durable=job.durable) as tx:
                    job.commit(tx, self.deps, taken, made)
                    tx.claims.release(job.name, taken.key, self.holder)
                    following = self._take_next(tx, job, name) if done < job.most else None
            except Exception:
                self._release_left()
                raise
            taken = following

    def _take_next(self, tx: Transaction, job: Job[Any, Any, Any], name: str) -> Any:
        work = self._find(tx, job, _scope(tx, name), tx.claims.live(self.deps.clock()))
        return None if work is None else self._take(tx, job, work)

    def _take(self, tx: Transaction, job: Job[Any, Any, Any], work: Any) -> Any:
        """Claim the work and return it; None: another process has it."""
        taken = tx.claims.take(job.name, work.key, self.holder, self.deps.clock())
        return work if taken else None

    def _find(
        self, tx: Transaction, job: AnyJob, scope: Project | None, claimed: Mapping[str, set[str]]
    ) -> Any:
        if isinstance(job, QuickJob):
            return job.find(tx, self.deps, scope)
        return job.find(tx, self.deps, scope, claimed.get(job.name, ()))

    def _next_due(self, tx: Transaction, project: Project | None) -> float:
        """Return when time alone makes something due: a lease, a grace window..."""
        idle = self.deps.clock() + IDLE_SECONDS
        if project is None:
            looks, leases = tx.units.next_look(), tx.assignments.next_lease_end()
            times = (looks, leases, tx.assignments.next_fetch())
            return min([idle, *(at for at in times if at is not None)])
        row = tx.rounds.get(project.id, project.epoch, project.version)
        grace_end = None if row is None else due_at(row, project.metadata.round.grace_seconds)
        return idle if grace_end is None else min(idle, grace_end)


def _is_timed(job: AnyJob) -> bool:
    return isinstance(job, QuickJob) and job.timed


def _scope(tx: Transaction, name: str) -> Project | None:
    return tx.projects.find(name) if name else None
