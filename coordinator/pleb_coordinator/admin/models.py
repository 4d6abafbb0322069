"""Versions: listing them, recomputing them from the log, and going back to one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from typing_extensions import override

from pleb_coordinator.admin.command import Command, Desk, Number, Text, Value
from pleb_coordinator.aggregation.recompute import How, recompute
from pleb_coordinator.core.holdout import last_good
from pleb_coordinator.core.records import Kept, RestoreCause, StoredDelta, VersionInput
from pleb_coordinator.steps.access import blobs_of
from pleb_coordinator.steps.activity import best_of, points
from pleb_coordinator.steps.rollback import commit, compute, plan_restoration
from pleb_shared.errors import EncodingError, InputError
from pleb_shared.protocol.unit import VersionSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_coordinator.aggregation.recompute import Recomputed
    from pleb_coordinator.core.records import Project, VersionRow
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = [
    "COMMANDS",
    "ListVersions",
    "RollBack",
    "RolledBack",
    "ShowVersion",
    "VerifyModel",
    "VersionDetails",
    "VersionListed",
    "VersionShort",
    "VersionsVerified",
    "wanted_version",
]


class VersionShort(Value, frozen=True):
    """A version without what it was made of."""

    version: int
    epoch: int
    digest: str
    metadata_number: int
    train_loss: float | None
    made_at: float
    snapshot: bool
    deltas: int
    kept: Kept
    restores: int | None


class VersionListed(VersionShort, frozen=True, kw_only=True):
    """A version in the list of a project's."""

    best: bool
    """Whether it is its epoch's best one on the holdout."""


class VersionDetails(VersionShort, frozen=True, kw_only=True):
    """One version and the results that it was made of."""

    inputs: tuple[VersionInput, ...]
    source: VersionSource | None


class VersionsVerified(Value, frozen=True):
    """What recomputing the versions found."""

    verified: bool
    versions: int
    wrong: list[int]
    fault: str
    """What ended it before its end; empty: nothing."""
    recomputed: int
    read: int
    not_kept: int
    project: str = ""


class RolledBack(Value, frozen=True):
    """An earlier version is the newest one again."""

    project: str
    version: int
    restores: int
    digest: str
    keeps_momentum: bool
    """Whether its outer state was kept; otherwise momentum restarts from zero."""


class ListVersions(Command[list[VersionListed]], frozen=True):
    """A project's versions, oldest first."""

    words: ClassVar[str] = "model list"
    project: Text
    epoch: Number | None = None
    """None: all."""

    def carry_out(self, desk: Desk) -> list[VersionListed]:
        """Read them. Raises `Refusal` unknown_project."""
        with desk.opened() as store, store.read() as tx:
            project = tx.projects.find(self.project)
            epochs = _epochs(tx, project, self.epoch)
            best = {epoch: best_of(tx, project, epoch) for epoch in epochs}
            return [
                VersionListed(**_short(row), best=row.number == best[epoch])
                for epoch in epochs
                for row in _history(tx, project, epoch)
            ]


class ShowVersion(Command[VersionDetails], frozen=True):
    """One version: the newest one where nothing else is asked."""

    words: ClassVar[str] = "model show"
    project: Text
    epoch: Number | None = None
    version: Number | None = None
    best: bool = False

    def carry_out(self, desk: Desk) -> VersionDetails:
        """Raises `InputError`: there is no such version."""
        with desk.opened() as store, store.read() as tx:
            project = tx.projects.find(self.project)
            row = wanted_version(tx, project, self.epoch, self.version, best=self.best)
        return VersionDetails(**_short(row), inputs=row.inputs, source=row.source)


class VerifyModel(Command[VersionsVerified], frozen=True):
    """Recompute every version from version 0 and the log."""

    words: ClassVar[str] = "model verify"
    project: Text
    epoch: Number | None = None

    def carry_out(self, desk: Desk) -> VersionsVerified:
        """Raises `Refusal` unknown_project."""
        with desk.opened() as store, store.read() as tx:
            project = tx.projects.find(self.project)
            blobs = blobs_of(desk.deps, project)

            def delta(assignment: int) -> memoryview:
                stored = tx.assignments.delta(assignment)
                given = stored or StoredDelta(assignment, 0, None)
                return blobs.delta_view(given, None)  # it hashes

            def metadata_at(number: int) -> ProjectMetadata:
                return tx.projects.metadata_at(project.id, number)

            found: list[Recomputed] = []
            fault = ""
            try:
                for epoch in _epochs(tx, project, self.epoch):
                    history = _history(tx, project, epoch)
                    kept = {found.restores for found in tx.versions.restores(project.id, epoch)}
                    found.extend(
                        recompute(
                            history,
                            metadata_at,
                            blobs.get,
                            delta,
                            restored=kept,
                            noise_key=desk.deps.noise_key,
                        )
                    )
            except EncodingError as error:
                fault = str(error)
        wrong = [version.number for version in found if not version.matches]
        done = Counter(version.how for version in found)
        return VersionsVerified(
            verified=not wrong and not fault and bool(found),
            versions=len(found),
            wrong=wrong,
            fault=fault,
            recomputed=done[How.RECOMPUTED],
            read=done[How.READ],
            not_kept=done[How.NOT_KEPT],
            project=project.name,
        )


class RollBack(Command[RolledBack], frozen=True):
    """Make an earlier version the newest one, with its outer state, as a new version."""

    words: ClassVar[str] = "model rollback"
    project: Text
    to: Number | None = None
    """None: the last one that did well on the holdout."""

    @override
    def told(self, answer: RolledBack) -> dict[str, Any]:
        """Return which version it is again, and as which one."""
        return {"to": answer.restores, "version": answer.version}

    def carry_out(self, desk: Desk) -> RolledBack:
        """Raises `InputError`: there is no such version, or a new one was made meanwhile."""
        with desk.opened() as store:
            with store.read() as tx:
                project = tx.projects.find(self.project)
                number = _good_version(tx, project) if self.to is None else self.to
                work = plan_restoration(tx, project, number, RestoreCause.OPERATOR)
            row = compute(desk.deps, work)
            with store.write() as tx:
                if not commit(tx, desk.deps, work, row):
                    message = f"{project.name} got a new version meanwhile: run the command again."
                    raise InputError(message)
        return RolledBack(project.name, row.number, number, row.digest, work.keeps_momentum)


def _good_version(tx: Transaction, project: Project) -> int:
    found = last_good(points(tx, project), project.metadata.verification.max_holdout_regression)
    if found is not None:  # or the milestone before it
        found = tx.versions.newest_readable(project.id, project.epoch, found)
    if found is None:
        message = (
            f"No two versions of {project.name} were evaluated, so nothing shows which one was "
            "good: name it with --to."
        )
        raise InputError(message)
    return found


def _epochs(tx: Transaction, project: Project, wanted: int | None) -> list[int]:
    return tx.versions.epochs(project.id) if wanted is None else [wanted]


def _history(tx: Transaction, project: Project, epoch: int) -> Iterator[VersionRow]:
    after = -1
    while rows := tx.versions.history(project.id, epoch, after=after, limit=100):
        yield from rows
        after = rows[-1].number


def wanted_version(
    tx: Transaction, project: Project, epoch: int | None, number: int | None, *, best: bool
) -> VersionRow:
    """Return a version: of the current epoch and the newest one where nothing else is asked.

    Raises:
        InputError: there is no such version, or none was evaluated.
    """
    current = project.epoch if epoch is None else epoch
    if best and (number := best_of(tx, project, current)) is None:
        raise InputError(f"No version of epoch {current} of {project.name} was evaluated.")
    if number is None and current == project.epoch:
        number = project.version
    if number is None:
        number = max((row.number for row in _history(tx, project, current)), default=0)
    try:
        return tx.versions.get(project.id, current, number)
    except LookupError as error:
        message = (
            f"{project.name} has no such version in epoch {current}; the newest is version "
            f"{project.version} of epoch {project.epoch}: see `pleb-coordinator model list`."
        )
        raise InputError(message) from error


def _short(row: VersionRow) -> dict[str, Any]:
    """Return the fields of a `VersionShort`."""
    names = ("epoch", "digest", "metadata_number", "train_loss", "made_at", "kept", "restores")
    values: dict[str, Any] = {name: getattr(row, name) for name in names}
    more = {"version": row.number, "snapshot": bool(row.snapshot), "deltas": row.results}
    return values | more


COMMANDS: Final = (ListVersions, ShowVersion, VerifyModel, RollBack)
