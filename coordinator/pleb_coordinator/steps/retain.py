"""retain: remove rows that have served their purpose, so that no table grows for ever.

What made an exact version stays: its round, units and the results that counted, so that it
recomputes (`model verify`); `thin` says how many versions are exact. The rest goes after the times
in the configuration:

- rounds and units of versions that are not exact any more;
- events, and the results that did not count, once `unit show` has had its time to explain them;
- hosts that have not been seen for long: their account keeps its credit (`departed`). None goes
  before all versions that it may have a result of are too old for a check;
- determinism classes that no host belongs to, with their bytes;
- calibrations of which no class keeps the bytes, and uploads that are complete.

Each job removes a batch, and the background process does one of each now and then, so requests
never wait for a long transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.steps.files import remove_delta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.core.records import CalibrationClass, Project, Round
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "find_audit",
    "find_calibrations",
    "find_classes",
    "find_events",
    "find_hosts",
    "find_rounds",
    "find_runtimes",
    "find_spent_rounds",
    "find_uploads",
    "remove_audit",
    "remove_calibrations",
    "remove_classes",
    "remove_events",
    "remove_hosts",
    "remove_rounds",
    "remove_runtimes",
    "remove_uploads",
    "retire_rounds",
]

_DAY_SECONDS: Final = 86_400.0
_EVENTS: Final = 2000
_ROUNDS: Final = 8
_ROWS: Final = 500
"""Of one transaction: a few milliseconds."""


def find_events(tx: Transaction, deps: Deps, _: None) -> list[int] | None:
    """Return the oldest events if they are older than the history that is kept, else None."""
    return tx.retention.old_events(_before(deps, deps.retention.history_days), _EVENTS) or None


def remove_events(tx: Transaction, _: Deps, events: Sequence[int]) -> None:
    """Remove events."""
    tx.retention.remove_events(events)


def find_audit(tx: Transaction, deps: Deps, _: None) -> bool | None:
    """Return True if the oldest command is older than those that are kept, else None."""
    return tx.audit.any_before(_before(deps, deps.retention.audit_days)) or None


def remove_audit(tx: Transaction, deps: Deps, _: bool) -> None:
    """Remove the oldest commands."""
    tx.audit.forget(_before(deps, deps.retention.audit_days), _ROWS)


def find_uploads(tx: Transaction, deps: Deps, _: None) -> list[str] | None:
    """Return complete uploads that expired a day ago, or None."""
    return tx.retention.old_uploads(deps.clock() - _DAY_SECONDS, _ROWS) or None


def remove_uploads(tx: Transaction, _: Deps, tokens: Sequence[str]) -> None:
    """Forget uploads; what was uploaded stays."""
    for token in tokens:
        tx.uploads.remove(token)


def find_rounds(tx: Transaction, deps: Deps, project: Project) -> list[Round] | None:
    """Return the oldest rounds that are older than the history that is kept, or None."""
    before = _before(deps, deps.retention.history_days)
    return tx.retention.unretired_rounds(project.id, before, _ROUNDS) or None


def retire_rounds(tx: Transaction, deps: Deps, rounds: Sequence[Round]) -> None:
    """Remove results of the rounds that did not count; note of which all are gone.

    Several rounds at once, or those of a fast project would become ever more.
    """
    left = _ROWS
    for row in rounds:
        copies = tx.retention.copies_of(row, left)
        _remove_assignments(tx, deps, copies)
        left -= len(copies)
        if not left:
            return  # there may be more
        tx.retention.set_retired(row, deps.clock())


def find_spent_rounds(tx: Transaction, _: Deps, project: Project) -> list[Round] | None:
    """Return retired rounds whose version cannot be recomputed any more, or None."""
    return tx.retention.spent_rounds(project.id, _ROUNDS) or None


def remove_rounds(tx: Transaction, deps: Deps, rounds: Sequence[Round]) -> None:
    """Remove rounds with their units and results."""
    for row in rounds:
        _remove_assignments(tx, deps, tx.retention.assignments_of(row))
        tx.retention.remove_round(row)


def find_hosts(tx: Transaction, deps: Deps, project: Project) -> list[int] | None:
    """Return hosts that have not been seen for long, or None."""
    oldest = project.oldest_accepted
    settled = tx.retention.settled_at(project.id, project.epoch, oldest)
    if settled is None:
        return None  # so young that a result of any host may still wait for its verdict
    found = tx.retention.absent_hosts(
        project.id,
        before=_before(deps, deps.retention.host_days),
        new_before=_before(deps, deps.retention.new_host_days),
        settled=settled,
        now=deps.clock(),
        limit=_ROWS,
    )
    return found or None


def remove_hosts(tx: Transaction, deps: Deps, hosts: Sequence[int]) -> None:
    """Remove hosts unless they have been seen meanwhile."""
    rows = [tx.hosts.get(host) for host in hosts]
    absent = [host for host in rows if host.last_seen < deps.clock() - _DAY_SECONDS]
    tx.retention.remove_hosts(rows[0].project, [host.id for host in absent])


def find_runtimes(tx: Transaction, deps: Deps, project: Project) -> list[tuple[int, str]] | None:
    """Return what hosts once calibrated with runtimes that they do not have any more, or None."""
    before = _before(deps, deps.retention.host_days)
    return tx.retention.old_runtimes(project.id, before, _ROWS) or None


def remove_runtimes(tx: Transaction, _: Deps, found: Sequence[tuple[int, str]]) -> None:
    """Forget those calibrations."""
    for host, runtime in found:
        tx.retention.remove_runtime(host, runtime)


def find_classes(tx: Transaction, deps: Deps, project: Project) -> list[CalibrationClass] | None:
    """Return classes that no host belongs to, or None."""
    before = _before(deps, deps.retention.new_host_days)
    return tx.retention.empty_classes(project.id, before, _ROWS) or None


def remove_classes(tx: Transaction, deps: Deps, classes: Sequence[CalibrationClass]) -> None:
    """Remove classes, their distances and their bytes."""
    for found in classes:
        remove_delta(tx, deps, found.assignment)
        tx.retention.remove_class(found.project, found.digest)


def find_calibrations(tx: Transaction, deps: Deps, project: Project) -> list[int] | None:
    """Return old calibrations of which no class keeps the bytes, or None."""
    before = _before(deps, deps.retention.new_host_days)
    found: list[int] = []
    for epoch in tx.versions.epochs(project.id):
        found += tx.retention.old_calibrations(project.id, epoch, before, _ROWS - len(found))
    return found or None


def remove_calibrations(tx: Transaction, deps: Deps, assignments: Sequence[int]) -> None:
    """Remove calibrations."""
    _remove_assignments(tx, deps, assignments)


def _before(deps: Deps, days: float) -> float:
    """Return the time so many days ago; 0 days: what is kept is kept for ever."""
    return deps.clock() - days * _DAY_SECONDS if days else float("-inf")


def _remove_assignments(tx: Transaction, deps: Deps, assignments: Sequence[int]) -> None:
    for assignment in assignments:
        remove_delta(tx, deps, assignment)
        tx.retention.remove_assignment(assignment)
