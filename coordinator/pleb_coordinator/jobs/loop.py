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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from pleb_coordinator.core.records import Project, ProjectState
from pleb_coordinator.core.rounds import due_at
from pleb_coordinator.steps import advance, calibrate, expire, plan, sweep, verify
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Sequence

    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store, Transaction

__all__ = ["PROJECT_JOBS", "Job", "Jobs", "QuickJob", "run_jobs"]

_log = logging.getLogger(__name__)

WAKE_SECONDS: Final = 0.02
"""How often the loop asks whether any process has committed: a few microseconds each time."""
IDLE_SECONDS: Final = 5.0
"""The longest sleep: clocks may jump."""
COUNT_SECONDS: Final = 30.0
"""How often active accounts are counted, which reads the row of every recently active host."""
_FAULT_SECONDS: Final = 30.0
"""Pause of a project whose job failed; other projects go on."""
_LONGEST_RUN: Final = 64
"""Pieces of one job in a row, so that a long queue does not keep the other jobs waiting."""


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


@dataclass(frozen=True)
class QuickJob(Generic[Scope, Work]):
    """A job that has nothing to compute, and so nothing to claim."""

    find: Callable[[Transaction, Deps, Scope], Work | None]
    commit: Callable[[Transaction, Deps, Work], object]


AnyJob = Job[Any, Any, Any] | QuickJob[Any, Any]

STORE_JOBS: Final[Sequence[AnyJob]] = (
    QuickJob(expire.find_leases, expire.expire_leases),
    QuickJob(expire.find_uploads, expire.expire_uploads),
    QuickJob(sweep.find_due_files, sweep.condemn_files),
    Job("delete", sweep.find_files, sweep.delete_files, sweep.forget_files),
)
COUNT_ACCOUNTS: Final = QuickJob(expire.find_accounts, expire.count_accounts)
CLASSES: Final[Sequence[AnyJob]] = (
    QuickJob(calibrate.find_reports, calibrate.record_reports),
    Job("measure", calibrate.find, calibrate.compute, calibrate.commit),
)
"""One piece of each per step: a liar can make many classes, and rounds must not wait for them."""
PROJECT_JOBS: Final[Sequence[AnyJob]] = (
    Job("verify", verify.find, verify.compute, verify.commit),
    Job("advance", advance.find, advance.compute, advance.commit),
    QuickJob(plan.find, plan.commit),
    QuickJob(expire.find_old_units, expire.retire_units),
    QuickJob(sweep.find_round, sweep.sweep_round),
)
"""In this order: jobs that bring new work to waiting hosts come before tidying up."""


def run_jobs(store: Store, deps: Deps, stop: threading.Event, *, holder: str = "jobs") -> None:
    """Work until `stop` is set. `store` belongs to this thread alone; `holder` names it."""
    jobs = Jobs(store, deps, holder)
    while not stop.is_set():
        until = jobs.run_due()
        while not stop.wait(WAKE_SECONDS):
            if store.changed() or deps.clock() >= until:
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
    _paused: dict[str, float] = field(default_factory=dict, init=False)
    """Until when, by the project's name; "" is the store."""
    _counted: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        with self.store.read() as tx:
            left = tx.claims.held_by(self.holder)
        if left:
            with self.store.write() as tx:
                tx.claims.release_all(self.holder)

    def run_due(self) -> float:
        """Do what is due until nothing is; return when to look again, at the latest."""
        now = self.deps.clock()
        with self.store.read() as tx:
            names = tx.projects.names()
        self._guarded("", lambda: self._first_due(STORE_JOBS, ""))
        if not 0 <= now - self._counted < COUNT_SECONDS:
            self._counted = now
            for name in names:
                self._first_due([COUNT_ACCOUNTS], name)
        return min([self.deps.clock() + IDLE_SECONDS, *map(self._run_project, names)])

    def _run_project(self, name: str) -> float:
        """Do what is due for one project; return when to look again."""
        with self.store.read() as tx:
            if tx.projects.find(name).state == ProjectState.ARCHIVED:
                return self.deps.clock() + IDLE_SECONDS
        paused_until = self._guarded(name, lambda: self._step(name))
        return paused_until or self._next_due(name)

    def _guarded(self, name: str, step: Callable[[], bool]) -> float | None:
        """Repeat a step until nothing is due; return until when the project is paused, or None."""
        now = self.deps.clock()
        if now < self._paused.get(name, 0.0) <= now + _FAULT_SECONDS:
            return self._paused[name]
        try:
            while step():
                pass
        except (PlebError, OSError, LookupError):
            what = f"project {name}" if name else "the store"
            _log.exception("A job of %s failed; trying again later", what)
            self._paused[name] = now + _FAULT_SECONDS
        return None

    def _step(self, name: str) -> bool:
        """Do the first job that is due; False: none is."""
        classified = [self._first_due([job], name, most=1) for job in CLASSES]
        return self._first_due(self.project_jobs, name) or any(classified)

    def _first_due(self, jobs: Sequence[AnyJob], name: str, *, most: int = _LONGEST_RUN) -> bool:
        """Do the first of the jobs that is due, at most `most` pieces; False: none is."""
        with self.store.read() as tx:
            scope = _scope(tx, name)
            found = ((job, self._find(tx, job, scope)) for job in jobs)
            due = next((pair for pair in found if pair[1] is not None), None)
        if due is None:
            return False
        job, work = due
        if isinstance(job, QuickJob):
            with self.store.write() as tx:
                job.commit(tx, self.deps, work)
            return True
        key = work.key
        with self.store.write() as tx:
            taken = tx.claims.take(job.name, key, self.holder, self.deps.clock())
        done = 0
        while taken:
            done += 1
            key, taken = self._do(job, name, key, more=done < most)
        return True

    def _do(self, job: Job[Any, Any, Any], name: str, key: str, *, more: bool) -> tuple[str, bool]:
        """Do the claimed work of that key; return the next key, and whether it is claimed.

        One transaction commits a piece, releases it and claims the next: a commit waits for the
        disk, and a queue needs hardly more of them than without claims.
        """
        try:
            # found again now that it is claimed: another process may have just done it
            with self.store.read() as tx:
                work = self._find(tx, job, _scope(tx, name), own=key)
            ours = work is not None and work.key == key
            made = job.compute(self.deps, work) if ours else None
            following = None
            if ours and more:
                with self.store.read() as tx:
                    following = self._find(tx, job, _scope(tx, name))
            with self.store.write() as tx:
                if ours:
                    job.commit(tx, self.deps, work, made)
                tx.claims.release(job.name, key, self.holder)
                if following is None:
                    return "", False
                now = self.deps.clock()
                return following.key, tx.claims.take(job.name, following.key, self.holder, now)
        except Exception:
            with self.store.write() as tx:
                tx.claims.release(job.name, key, self.holder)
            raise

    def _find(self, tx: Transaction, job: AnyJob, scope: Project | None, own: str = "") -> Any:
        """Return the next work that is not claimed, or is claimed by this loop under `own`."""
        if isinstance(job, QuickJob):
            return job.find(tx, self.deps, scope)
        claimed = tx.claims.live(job.name, self.deps.clock()) - {own}
        return job.find(tx, self.deps, scope, claimed)

    def _next_due(self, name: str) -> float:
        """Return when time alone makes something due: a lease, a grace window, or an idle look."""
        with self.store.read() as tx:
            project = tx.projects.find(name)
            row = tx.rounds.get(project.id, project.epoch, project.version)
            lease_end = tx.assignments.next_lease_end()
        grace_end = None if row is None else due_at(row, project.metadata.round.grace_seconds)
        idle = self.deps.clock() + IDLE_SECONDS
        return min([idle, *(at for at in (lease_end, grace_end) if at is not None)])


def _scope(tx: Transaction, name: str) -> Project | None:
    return tx.projects.find(name) if name else None
