"""Reads a project's status from the store."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.api.family import family_status
from pleb_coordinator.api.privacy import privacy_status
from pleb_coordinator.core.ending import best_version, reached_at
from pleb_coordinator.core.holdout import points_of
from pleb_coordinator.core.permission import permission_warning
from pleb_coordinator.core.records import ProjectState, Purpose
from pleb_coordinator.core.waiting import Scene, Waiting, waiting_for
from pleb_coordinator.home.machine import Machine
from pleb_coordinator.steps.access import public_projects
from pleb_coordinator.steps.anchor import TRUSTED_SEEN_SECONDS
from pleb_coordinator.steps.family import family_members
from pleb_shared.protocol.project import elements
from pleb_shared.protocol.reasons import Reason
from pleb_shared.protocol.status import (
    ContributorStatus,
    Counts,
    FamilyStatus,
    HostState,
    HostStatus,
    ProjectStatus,
    ReceivedStatus,
    RestoreStatus,
    ResultStatus,
    RoundStatus,
    TeamStatus,
    UnitStatus,
    VersionPoint,
    overall,
)
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_coordinator.api.links import LinkBase
    from pleb_coordinator.core.numbers import AssignmentNumbers
    from pleb_coordinator.core.records import (
        Assignment,
        Evaluation,
        Event,
        Host,
        Project,
        Round,
        UnitRow,
        VersionRestore,
    )
    from pleb_coordinator.store.transaction import Store, Transaction
    from pleb_coordinator.store.views import FleetView

__all__ = ["StatusCache", "read_status", "trusted_queue"]

MOST_POINTS: Final = 1000
_HOSTS: Final = 200
_UNITS: Final = 25
_EVENTS: Final = 400
"""How many of the newest events are searched for decided units."""
_CONTRIBUTORS: Final = 50
_OLDEST_VIEW_SECONDS: Final = 120.0
"""Age up to which a stored view of a large fleet is shown; the background process makes one
every half minute."""
_RESTORES: Final = 10
_TRUSTED_QUEUE: Final = 8
"""With more waiting for each trusted host, they are too few or have no time."""
_AWAY_SECONDS: Final = 600.0
_FRESH_SECONDS: Final = 0.5
"""A status up to this age is sent again instead of being read."""
_CACHED: Final = 64
_GONE: Final = "a PC that has left"
_CLASS_DIGITS: Final = 16
"""A class is shown truncated: the full digest would let a host claim it without calibrating."""


class StatusCache:
    """Reads statuses in a thread, with a store of its own, since lists may be long.

    A project is read at most twice a second, however many people watch it.
    """

    def __init__(
        self,
        store: Store,
        links: LinkBase,
        numbers: AssignmentNumbers,
        clock: Callable[[], float],
        machine: Callable[[], Machine] = Machine,
    ) -> None:
        self._machine = machine
        self._store = store
        self._links = links
        self._numbers = numbers
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, ProjectStatus] = {}

    async def of(self, name: str) -> ProjectStatus:
        """Return the project's status.

        Raises:
            Refusal: `unknown_project`.
        """
        fresh = self._fresh(name)
        return await asyncio.to_thread(self._read, name) if fresh is None else fresh

    async def all(self) -> list[ProjectStatus]:
        """Return the status of every project that anybody may read."""

        def names() -> list[str]:
            with self._lock, self._store.read() as tx:
                return [project.name for project in public_projects(tx)]

        return [await self.of(name) for name in await asyncio.to_thread(names)]

    async def family(self, name: str) -> FamilyStatus:
        """Return the status of a family.

        Raises:
            Refusal: `unknown_project`.
        """

        def members() -> list[str]:
            with self._lock, self._store.read() as tx:
                return [project.name for project in family_members(tx, name)]

        found = [await self.of(project) for project in await asyncio.to_thread(members)]
        return family_status(name, found)

    def _fresh(self, name: str) -> ProjectStatus | None:
        known = self._known.get(name)
        if known is None or not 0 <= self._clock() - known.updated_at < _FRESH_SECONDS:
            return None
        return known

    def _read(self, name: str) -> ProjectStatus:
        """Read it, unless another thread did while this one waited for the lock."""
        with self._lock, self._store.read() as tx:
            if (fresh := self._fresh(name)) is not None:
                return fresh
            project = tx.projects.find(name)
            now, machine = self._clock(), self._machine()
            status = read_status(tx, project, self._links, self._numbers, now, machine)
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[name] = status
        return status


_ANY_MACHINE: Final = Machine()


def read_status(
    tx: Transaction,
    project: Project,
    links: LinkBase,
    numbers: AssignmentNumbers,
    now: float,
    machine: Machine = _ANY_MACHINE,
) -> ProjectStatus:
    """Return the project's status; `machine` is the one that the coordinator runs on."""
    metadata = project.metadata
    evaluated = tx.projects.evaluations(project.id, project.epoch)
    restores = tx.versions.restores(project.id, project.epoch)
    series = _series(tx, project, evaluated)
    hosts = tx.hosts.of_project(project.id, limit=_HOSTS)
    target = metadata.target
    measured = points_of(evaluated, restores, target)
    fleet = tx.views.fleet(
        project.id,
        ban_after=metadata.verification.ban_after,
        most=_CONTRIBUTORS,
        oldest=now - _OLDEST_VIEW_SECONDS,
    )
    current_round = tx.rounds.get(project.id, project.epoch, project.version)
    link = links.attach_link(project)
    model = metadata.model
    waiting = _waiting(tx, project, hosts, current_round, machine, now)
    return ProjectStatus(
        project=project.name,
        title=metadata.title,
        description=metadata.description,
        data_licence=metadata.data_licence,
        contact=metadata.contact,
        state=project.state,
        epoch=project.epoch,
        version=project.version,
        versions_planned=metadata.training.versions,
        target=target,
        target_reached_at_version=reached_at(measured, target),
        best_version=best_version(measured),
        waiting=waiting.sentence,
        waiting_for=waiting.code,
        waiting_level=waiting.level,
        stopped_for=project.stopped_for,
        metrics=evaluated[-1].metrics if evaluated else {},
        metrics_version=evaluated[-1].version if evaluated else None,
        has_holdout=project.facts.holdout_shards > 0,
        train_loss=series[-1].train_loss if series else None,
        series=series,
        restores=_restores(restores),
        round=msgspec.convert(current_round, RoundStatus | None, from_attributes=True),
        hosts=[_host(host, project, now) for host in hosts],
        units=_units(tx, project, {host.id: host for host in hosts}, numbers),
        contributors=_contributors(fleet),
        teams=[
            msgspec.convert(team, TeamStatus, from_attributes=True)
            for team in fleet.teams
            if team.verified
        ],
        counts=msgspec.convert(fleet.totals, Counts, from_attributes=True),
        parameters=sum(elements(spec) for spec in model.parameters),
        base_bytes=model.base.blob.size if model.base else 0,
        created_at=project.created_at,
        updated_at=now,
        permission_ends_at=metadata.delegation.expires_at,
        comparable=metadata.verification.comparable,
        trust_warning=_trust_warning(tx, project, now),
        permission_warning=_permission_warning(project, now),
        attach_link=str(link),
        pleb_link=link.pleb,
        source=tx.versions.source(project.id, project.epoch, project.version),
        family=metadata.family,
        mirrors=metadata.mirrors,
        received=ReceivedStatus(**tx.projects.received(project.id)),
        privacy=privacy_status(tx, project),
        access=metadata.access,
        own_data=metadata.data.own is not None,
    )


def _permission_warning(project: Project, now: float) -> str:
    if project.state in {ProjectState.FINISHED, ProjectState.ARCHIVED, ProjectState.MOVED}:
        return ""  # nobody works for it any more
    return permission_warning(project.name, project.metadata.delegation.expires_at, now)


def _waiting(
    tx: Transaction,
    project: Project,
    hosts: Sequence[Host],
    row: Round | None,
    machine: Machine,
    now: float,
) -> Waiting:
    """Return what the project waits for; `hosts` are those that were seen last."""
    place = (project.id, project.epoch, project.version)
    active = [h for h in hosts if h.last_seen >= now - _AWAY_SECONDS and h.banned_until <= now]
    is_open = row is not None and row.closed_at is None
    _, in_hand, reported = tx.rounds.open_units(*place) if is_open else (0, 0, 0)
    evaluation = tx.units.find(*place, UnitKind.EVALUATE, 0)
    refusals = [host.refuses for host in active if host.refuses]
    queue, behind = trusted_queue(tx, project, now)
    scene = Scene(
        round=row,
        hosts=len(hosts),
        active=len(active),
        calibrated=sum(bool(host.determinism_class) for host in active),
        anchors=sum(host.trusted or host.proven for host in active),
        trusted=sum(host.trusted for host in active),
        in_hand=in_hand,
        reported=reported,
        evaluated=(
            not project.facts.holdout_shards
            or (evaluation is not None and evaluation.canonical is not None)
        ),
        warm_start=tx.units.warm_start(*place) is not None,
        refusing=len(refusals),
        refuses=refusals[0] if refusals else "",
        trusted_queue=queue,
        trusted_behind=behind,
        disk_is_full=machine.disk_is_full,
        clock_ahead_seconds=machine.clock_ahead_seconds,
    )
    return waiting_for(project, scene, now)


def _restores(restores: Sequence[VersionRestore]) -> list[RestoreStatus]:
    return [
        RestoreStatus(
            version=found.number,
            restores=found.restores,
            cause=found.restored_for,
            at=found.made_at,
        )
        for found in reversed(restores[-_RESTORES:])
    ]


def _series(tx: Transaction, project: Project, found: list[Evaluation]) -> list[VersionPoint]:
    """Return about `MOST_POINTS` versions, evenly spread and always the last one.

    `found` is what is known of them on the holdout.
    """
    target, step = project.metadata.target, project.version // MOST_POINTS + 1
    metrics = {
        evaluation.version: overall(evaluation.metrics)
        | {n: v for n, v in evaluation.metrics.items() if target and n == target.metric}
        for evaluation in found
        if evaluation.version % step == 0 or evaluation.version == project.version
    }
    return [
        VersionPoint(
            version=row.number,
            made_at=row.made_at,
            train_loss=row.train_loss,
            metrics=metrics.get(row.number, {}),
        )
        for row in tx.versions.losses(project.id, project.epoch, step=step)
    ]


def _host(host: Host, project: Project, now: float) -> HostStatus:
    rules = project.metadata.verification
    return HostStatus(
        host=host.fingerprint,
        name=host.display_name,
        role=host.role,
        state=_host_state(host, now),
        determinism_class=host.determinism_class[:_CLASS_DIGITS],
        verified=host.units_valid,
        refused=host.refused + host.bans * rules.ban_after,
        credit=host.credit,
        last_seen_at=host.last_seen,
        agent=host.agent,
        team=host.team,
    )


def _trust_warning(tx: Transaction, project: Project, now: float) -> str:
    """Return what the project's operator should know about trusted hosts, or an empty text."""
    if project.state is not ProjectState.ACTIVE or project.metadata.data.own is not None:
        return ""  # of own data nothing is anchored, and `OWN_DATA` says so
    trusted = tx.hosts.trusted(project.id, now - TRUSTED_SEEN_SECONDS)
    if not trusted and not project.proven_hosts:
        return (
            "Not anchored: no trusted host is around and no host is proven yet, so most of the "
            "fleet has to agree on each unit. Start a trusted host: pleb-coordinator invite new "
            "--role trusted."
        )
    queue, behind = trusted_queue(tx, project, now)
    if behind:
        return f"{queue} checks and disputes wait for a trusted host: let one run, or one more."
    return ""


def trusted_queue(tx: Transaction, project: Project, now: float) -> tuple[int, bool]:
    """Return how much waits for trusted hosts, and whether it is more than they manage."""
    trusted = tx.hosts.trusted(project.id, now - TRUSTED_SEEN_SECONDS)
    purposes = (Purpose.DECIDER, Purpose.APPEAL, Purpose.CHECK)
    queue = sum(tx.assignments.count_for_trusted(project.id, one) for one in purposes)
    return queue, queue > _TRUSTED_QUEUE * trusted


def _host_state(host: Host, now: float) -> HostState:
    if host.banned_until > now:
        return HostState.BANNED
    if host.last_seen < now - _AWAY_SECONDS:
        return HostState.AWAY
    if not host.determinism_class:
        return HostState.CALIBRATING
    if host.trusted or host.proven:
        return HostState.ACTIVE
    return HostState.PROBATION


def _units(
    tx: Transaction, project: Project, hosts: dict[int, Host], numbers: AssignmentNumbers
) -> list[UnitStatus]:
    """Return units with verdicts, the most recently changed first.

    Only of rounds that are closed: who knew that a unit of the open round has a result would know
    that a copy of it is a check.
    """
    latest: dict[int, Event] = {}
    for event in reversed(tx.events.last(project.id, _EVENTS)):
        if event.unit is not None and event.kind in {"verified", "evaluated", "convicted"}:
            latest.setdefault(event.unit, event)
    found: list[UnitStatus] = []
    for number, event in latest.items():
        unit = tx.units.get(number)
        is_open = (unit.epoch, unit.version) >= (project.epoch, project.version)
        if unit.kind == UnitKind.TRAIN and is_open:
            continue
        status = _unit(tx, unit, event, hosts, numbers)
        if status.results:
            found.append(status)
        if len(found) == _UNITS:
            break
    return found


def _unit(
    tx: Transaction,
    unit: UnitRow,
    event: Event,
    hosts: dict[int, Host],
    numbers: AssignmentNumbers,
) -> UnitStatus:
    judged = [found for found in tx.assignments.of_unit(unit.id) if found.verdict is not None]
    # why the canonical result counts, else what was decided last
    canonical = next((found.reason for found in judged if found.id == unit.canonical), None)
    return UnitStatus(
        unit=unit.id,
        kind=unit.kind,
        version=unit.version,
        position=unit.position,
        state=unit.state,
        reason=canonical or msgspec.convert(event.detail.get("reason"), Reason | None),
        at=event.at,
        results=[_result(tx, found, hosts, numbers) for found in judged],
    )


def _result(
    tx: Transaction, found: Assignment, hosts: dict[int, Host], numbers: AssignmentNumbers
) -> ResultStatus:
    host = hosts.get(found.host or 0) or tx.hosts.of_id(found.host or 0)
    return ResultStatus(
        assignment=numbers.shown(found.id),
        host=host.fingerprint if host else "",
        name=host.display_name if host else _GONE,
        verdict=found.verdict or "",
        credit=found.credit,
        reason=found.reason,
    )


def _contributors(fleet: FleetView) -> list[ContributorStatus]:
    return [
        ContributorStatus(
            name=found.display_name,
            team=found.team,
            hosts=found.hosts,
            verified=found.units_valid,
            credit=found.credit,
        )
        for found in fleet.contributors
        if found.units_valid
    ]
