"""The state of the projects; pausing, archiving and deleting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from pleb_coordinator.admin.access import running_server
from pleb_coordinator.admin.command import Command, Desk, Text, Value
from pleb_coordinator.api.family import family_status
from pleb_coordinator.api.status import read_status
from pleb_coordinator.core.coverage import coverage_of, rounds_of_a_pass
from pleb_coordinator.core.project_state import PROJECT_MOVES, ProjectEvent
from pleb_coordinator.core.records import ProjectState
from pleb_coordinator.home.machine import read_machine
from pleb_coordinator.home.models import remove_models
from pleb_coordinator.steps.activity import move_project, settle
from pleb_coordinator.steps.delete import remove_rest, remove_some
from pleb_coordinator.steps.family import family_members
from pleb_shared.errors import InputError
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.status import (
    Counts,
    CoverageStatus,
    FamilyStatus,
    ProjectStatus,
    RestoreStatus,
)

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "COMMANDS",
    "ArchiveProject",
    "CoordinatorState",
    "DeleteProject",
    "ExtendProject",
    "ListProjects",
    "PauseProject",
    "ProjectDeleted",
    "ProjectMoved",
    "ProjectShort",
    "ResumeProject",
    "ShowFamily",
    "ShowProject",
    "ShowStatus",
    "short",
    "status_of",
    "statuses",
]


_MOST_ROUNDS: Final = 256
_MOST_GIVEN: Final = 50_000
_SEEN_SECONDS: Final = 7 * 86_400.0
"""A host that has not asked for so long has nothing any more, as far as anybody knows."""


class ProjectShort(Value, frozen=True):
    """A project's status without its lists; the fields are those of `ProjectStatus`."""

    project: str
    title: str
    state: str
    epoch: int
    version: int
    versions_planned: int
    attach_link: str
    permission_ends_at: float
    permission_warning: str
    comparable: bool
    trust_warning: str
    waiting: str
    waiting_for: str
    waiting_level: str
    best_version: int | None
    train_loss: float | None
    metrics: dict[str, float]
    counts: Counts
    restores: list[RestoreStatus]


class CoordinatorState(Value, frozen=True):
    """Whether the coordinator is running, and its projects."""

    running: bool
    url: str
    projects: list[ProjectShort]


class ProjectMoved(Value, frozen=True):
    """The state that a project is in now."""

    project: str
    state: ProjectState


class ProjectDeleted(Value, frozen=True):
    """A project is gone; its files go within minutes, while `serve` runs."""

    project: str
    deleted: bool
    files: int


def statuses(desk: Desk) -> list[ProjectStatus]:
    """Return every project's status.

    Raises:
        InputError: the home lacks its store or its secret, even if there is no project.
    """
    _ = desk.numbers
    with desk.opened() as store, store.read() as tx:
        found = [tx.projects.find(name) for name in tx.projects.names()]
        return [status_of(desk, tx, project) for project in found]


class ShowStatus(Command[CoordinatorState], frozen=True):
    """Whether the coordinator is running, and every project in short."""

    words: ClassVar[str] = "status"

    def carry_out(self, desk: Desk) -> CoordinatorState:
        """Read it."""
        running = desk.served_at is not None or running_server(desk.home) is not None
        return CoordinatorState(running, desk.links.url, _shortened(statuses(desk)))


class ListProjects(Command[list[ProjectShort]], frozen=True):
    """Every project in short."""

    words: ClassVar[str] = "project list"

    def carry_out(self, desk: Desk) -> list[ProjectShort]:
        """Read them."""
        return _shortened(statuses(desk))


class ShowProject(Command[ProjectStatus], frozen=True):
    """One project, as its page shows it."""

    words: ClassVar[str] = "project show"
    project: Text

    def carry_out(self, desk: Desk) -> ProjectStatus:
        """Read it. Raises `Refusal` unknown_project."""
        with desk.opened() as store, store.read() as tx:
            project = tx.projects.find(self.project)
            found = status_of(desk, tx, project)
            return msgspec.structs.replace(found, coverage=coverage(tx, project, desk.clock()))


class ShowFamily(Command[FamilyStatus], frozen=True):
    """The members of a family side by side, as its page shows them."""

    words: ClassVar[str] = "family show"
    family: Text

    def carry_out(self, desk: Desk) -> FamilyStatus:
        """Read it. Raises `Refusal` unknown_project."""
        with desk.opened() as store, store.read() as tx:
            members = family_members(tx, self.family)
            return family_status(self.family, [status_of(desk, tx, one) for one in members])


class PauseProject(Command[ProjectMoved], frozen=True):
    """Issue no more units."""

    words: ClassVar[str] = "project pause"
    project: Text

    def carry_out(self, desk: Desk) -> ProjectMoved:
        """Raises `InputError`: the project cannot be paused now."""
        return _move(desk, self.project, ProjectEvent.PAUSED)


class ResumeProject(Command[ProjectMoved], frozen=True):
    """Issue units again."""

    words: ClassVar[str] = "project resume"
    project: Text

    def carry_out(self, desk: Desk) -> ProjectMoved:
        """Raises `InputError`: the project cannot be resumed now."""
        return _move(desk, self.project, ProjectEvent.RESUMED)


class ArchiveProject(Command[ProjectMoved], frozen=True):
    """Issue no more units, and do no more work in the background."""

    words: ClassVar[str] = "project archive"
    project: Text

    def carry_out(self, desk: Desk) -> ProjectMoved:
        """Raises `InputError`: the project cannot be archived now."""
        return _move(desk, self.project, ProjectEvent.ARCHIVED)


class ExtendProject(Command[ProjectMoved], frozen=True):
    """Go on to the last version that is planned, past the target and the patience."""

    words: ClassVar[str] = "project extend"
    project: Text

    def carry_out(self, desk: Desk) -> ProjectMoved:
        """Raises `InputError`: its last version is made, or nothing else would end it."""
        with desk.opened() as store, store.write() as tx:
            project = tx.projects.find(self.project)
            planned, target = project.metadata.training.versions, project.metadata.target
            if project.version >= planned:
                raise InputError(
                    f"All {planned} versions of {project.name} are made: its researcher can "
                    "publish it again with more (`versions` in [training])."
                )
            if target is None or not (target.stop_at_target or target.patience):
                raise InputError(
                    f"{project.name} goes on to version {planned} anyway: no target ends it."
                )
            if tx.projects.extend(project.id):
                tx.events.add(project.id, desk.clock(), "extended", version=project.version)
                settle(tx, project.id, desk.clock())
            return ProjectMoved(project.name, tx.projects.get(project.id).state)


class DeleteProject(Command[ProjectDeleted], frozen=True):
    """Remove an archived project: rows, models, data, results."""

    words: ClassVar[str] = "project delete"
    project: Text

    def carry_out(self, desk: Desk) -> ProjectDeleted:
        """Raises `InputError`: the project is not archived."""
        with desk.opened() as store:
            with store.read() as tx:
                project = tx.projects.find(self.project)
            if project.state not in {ProjectState.ARCHIVED, ProjectState.MOVED}:
                raise InputError(
                    f"{project.name} is {project.state}: archive it first (`project archive "
                    f"{project.name}`), so that its volunteers are told, then delete it."
                )
            while remove_some(store, desk.deps, project.id):
                pass
            files = remove_rest(store, desk.deps, project.id)
        remove_models(desk.home.models, project.name)
        return ProjectDeleted(project.name, deleted=True, files=files)


_WHY: Final = {
    ProjectEvent.PAUSED: because(ReasonCode.PROJECT_PAUSED),
    ProjectEvent.ARCHIVED: because(ReasonCode.PROJECT_ARCHIVED),
    ProjectEvent.RESUMED: None,
}


def _move(desk: Desk, name: str, event: ProjectEvent) -> ProjectMoved:
    with desk.opened() as store, store.write() as tx:
        project = tx.projects.find(name)
        again = project.state in {found for (_, e), found in PROJECT_MOVES.items() if e is event}
        if not (move_project(tx, project, event, _WHY[event], desk.clock()) or again):
            raise InputError(f"{name} is {project.state} and cannot be {event}.")
        return ProjectMoved(project.name, tx.projects.get(project.id).state)


def status_of(desk: Desk, tx: Transaction, project: Project) -> ProjectStatus:
    """Return a project's status, in a transaction that is open."""
    now = desk.clock()
    machine = read_machine(desk.home, now)
    return read_status(tx, project, desk.links, desk.numbers, now, machine)


def coverage(tx: Transaction, project: Project, now: float) -> CoverageStatus:
    """Return on how many hosts the shards are that the last rounds used, of a pass over them."""
    training, shards = project.metadata.training, project.facts.train_shards
    a_pass = rounds_of_a_pass(shards, project.metadata.round.units, training.shards_per_unit)
    rounds = min(a_pass, _MOST_ROUNDS)
    given = tx.views.shards_given(
        project.id,
        project.epoch,
        project.version + 1 - rounds,
        seen=now - _SEEN_SECONDS,
        most=_MOST_GIVEN,
    )
    found = coverage_of(shards, given)
    return CoverageStatus(
        shards=found.shards,
        covered=found.covered,
        fewest_hosts=found.fewest_hosts,
        rounds=rounds,
    )


def short(found: ProjectStatus) -> ProjectShort:
    """Return a status without its lists."""
    return msgspec.convert(found, ProjectShort, from_attributes=True)


def _shortened(found: list[ProjectStatus]) -> list[ProjectShort]:
    return [short(one) for one in found]


COMMANDS: Final = (
    ShowStatus,
    ListProjects,
    ShowProject,
    ShowFamily,
    PauseProject,
    ResumeProject,
    ArchiveProject,
    ExtendProject,
    DeleteProject,
)
