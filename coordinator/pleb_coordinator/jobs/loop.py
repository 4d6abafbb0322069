"""The background loop: expire, verify, advance, plan, over and over.

The tables are the queue. Any number of loops may run at once, on any number of stores that
reach the same data: each step updates only rows that are as it found them. Killed at any
line, a loop loses nothing: what was not committed is found again by whoever comes next.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import Project, ProjectState
from pleb_coordinator.core.rounds import due_at
from pleb_coordinator.steps.advance import compute, ready_round, record_version
from pleb_coordinator.steps.calibrate import (
    calibrations_due,
    measure,
    next_measurement,
    record_calibrations,
    record_measurement,
)
from pleb_coordinator.steps.expire import expire_leases, expire_uploads, retire_versions
from pleb_coordinator.steps.plan import plan_due, plan_round
from pleb_coordinator.steps.sweep import sweep_round
from pleb_coordinator.steps.verify import examine_case, next_case, settle
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    import threading

    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store

__all__ = ["Jobs", "run_jobs"]

_log = logging.getLogger(__name__)

WAKE_SECONDS: Final = 0.02
"""How often the loop asks whether anybody has committed: a few microseconds each time."""
IDLE_SECONDS: Final = 5.0
"""The longest sleep: clocks may jump."""
TIDY_SECONDS: Final = 30.0
"""How often old versions and uploads are put away, and active accounts counted."""
_FAULT_SECONDS: Final = 30.0
"""Pause for a project whose step failed."""


def run_jobs(store: Store, deps: Deps, stop: threading.Event) -> None:
    """Work until `stop` is set. `store` belongs to this thread alone."""
    jobs = Jobs(store, deps)
    while not stop.is_set():
        until = jobs.run_due()
        while not stop.wait(WAKE_SECONDS):
            if store.changed() or deps.clock() >= until:
                break


@dataclass
class Jobs:
    """Everything that is due now, carried out step by step in short transactions."""

    store: Store
    deps: Deps

    def __post_init__(self) -> None:
        self._paused: dict[int, float] = {}
        self._tidied = float("-inf")

    def run_due(self) -> float:
        """Do what is due until nothing is; return when to look again, at the latest."""
        with self.store.read() as tx:
            names = tx.projects.names()
        self._expire()
        self._tidy(names)
        return min([self.deps.clock() + IDLE_SECONDS, *map(self._run_project, names)])

    def _expire(self) -> None:
        with self.store.read() as tx:
            end = tx.assignments.next_lease_end()
        while end is not None and end <= self.deps.clock():
            with self.store.write() as tx:
                expire_leases(tx, self.deps)
                end = tx.assignments.next_lease_end()

    def _tidy(self, names: list[str]) -> None:
        if 0 <= self.deps.clock() - self._tidied < TIDY_SECONDS:
            return
        self._tidied = self.deps.clock()
        with self.store.write() as tx:
            expire_uploads(tx, self.deps)
            for name in names:
                retire_versions(tx, self.deps, tx.projects.find(name))
                while sweep_round(tx, self.deps, tx.projects.find(name)):
                    pass

    def _run_project(self, name: str) -> float:
        """Do what is due for one project; one that fails does not stop the others."""
        now = self.deps.clock()
        project = self._project(name)
        if project.state == ProjectState.ARCHIVED:
            return now + IDLE_SECONDS
        if now < self._paused.get(project.id, 0.0) <= now + _FAULT_SECONDS:
            return self._paused[project.id]
        try:
            while self._step(name):
                pass
        except (PlebError, OSError, LookupError):
            _log.exception("A step of project %s failed; trying again later", name)
            self._paused[project.id] = now + _FAULT_SECONDS
        return self._next_due(name)

    def _step(self, name: str) -> bool:
        """Do the next thing that is due; False: nothing is."""
        calibrated = self._calibrate(name)  # one class at a time: many must not stop the rounds
        return self._verify(name) or self._advance(name) or self._plan(name) or calibrated

    def _calibrate(self, name: str) -> bool:
        project = self._project(name)
        with self.store.read() as tx:
            due = calibrations_due(tx, project)
            measurement = next_measurement(tx, project)
        if due:
            with self.store.write() as tx:
                record_calibrations(tx, self.deps, project)
        if measurement is not None:
            found = measure(self.deps, measurement)
            with self.store.write() as tx:
                record_measurement(tx, project, measurement, found)
        return due or measurement is not None

    def _verify(self, name: str) -> bool:
        project = self._project(name)
        with self.store.read() as tx:
            case = next_case(tx, project)
        if case is None:
            return False
        findings = examine_case(self.deps, case)
        with self.store.write() as tx:
            settle(tx, self.deps, case, findings)
        return True

    def _advance(self, name: str) -> bool:
        project = self._project(name)
        with self.store.read() as tx:
            work = ready_round(tx, self.deps, project)
        if work is None:
            return False
        row = compute(self.deps, work)
        with self.store.write() as tx:
            made = record_version(tx, self.deps, work, row)
            if made:
                retire_versions(tx, self.deps, tx.projects.find(name))
                sweep_round(tx, self.deps, tx.projects.find(name))
        return True

    def _plan(self, name: str) -> bool:
        project = self._project(name)
        with self.store.read() as tx:
            due = plan_due(tx, project)
        if not due:
            return False
        with self.store.write() as tx:
            return plan_round(tx, self.deps, tx.projects.find(name))

    def _project(self, name: str) -> Project:
        with self.store.read() as tx:
            return tx.projects.find(name)

    def _next_due(self, name: str) -> float:
        idle = self.deps.clock() + IDLE_SECONDS
        project = self._project(name)
        with self.store.read() as tx:
            row = tx.rounds.get(project.id, project.epoch, project.version)
            lease_end = tx.assignments.next_lease_end()
        grace_end = None if row is None else due_at(row, project.metadata.round.grace_seconds)
        times = [idle, *(at for at in (lease_end, grace_end) if at is not None)]
        return min(times)
