"""What an operator wants to see at a glance: rates, rounds, hosts, refusals, storage, backups."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from pleb_coordinator.admin.command import Command, Desk, Value
from pleb_coordinator.admin.projects import ProjectShort, short, status_of
from pleb_coordinator.api.status import trusted_queue
from pleb_coordinator.core.records import Event, VersionLoad
from pleb_coordinator.home.layout import LastBackup
from pleb_coordinator.home.machine import read_machine
from pleb_coordinator.store.fleets import ClassOfHosts, NetworkOfHosts
from pleb_shared.protocol.reasons import Reason
from pleb_shared.protocol.status import RoundStatus

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.home.layout import Home
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["COMMANDS", "Case", "Overview", "ProjectOverview", "Rate", "ReadOverview", "Signal"]

_HOUR: Final = 3600.0
_DAY: Final = 86_400.0
_ACTIVE_SECONDS: Final = 600.0
_EVENTS: Final = 50_000
"""How many of the newest events are counted; a busy project's day may have more."""
_CASES_IN: Final = 1_000
"""How many of the newest events are searched for cases and signals."""
_CASES: Final = 10
_CASE_KINDS: Final = frozenset({"convicted", "doubted", "suspended", "banned", "pardoned", "held"})
_ACCOUNTS: Final = 3
"""With so many accounts in one network it is worth a look whether they are one person's."""
_ROWS: Final = 10


class Rate(Value, frozen=True):
    """What happened in the last hour, or day."""

    versions: int
    results: int
    """That went into these versions."""
    issued: int
    """Units given to hosts."""
    enrolled: int
    convicted: int


class Case(Value, frozen=True):
    """What was decided about a host."""

    at: float
    kind: str
    unit: int | None
    host: str
    """The beginning of its fingerprint, or empty."""
    name: str


class Signal(Value, frozen=True):
    """What made results look suspicious, and how many of the newest decisions named it."""

    reason: Reason
    count: int


class Refusing(Value, frozen=True):
    """Why hosts refuse what the coordinator answers, and how many do."""

    sentence: str
    hosts: int


class ProjectOverview(Value, frozen=True):
    """One project."""

    project: ProjectShort
    round: RoundStatus | None
    hour: Rate
    day: Rate
    classes: list[ClassOfHosts]
    networks: list[NetworkOfHosts]
    """Those with several accounts."""
    refusing: list[Refusing]
    signals: list[Signal]
    cases: list[Case]
    """Newest first."""
    trusted_queue: int
    """What waits for trusted hosts."""
    storage: VersionLoad


class Overview(Value, frozen=True):
    """The whole coordinator."""

    at: float
    projects: list[ProjectOverview]
    store_bytes: int | None
    """None: the rows are in a database elsewhere."""
    free_bytes: int | None
    files_to_delete: int
    backup: LastBackup | None


class ReadOverview(Command[Overview], frozen=True):
    """The coordinator at a glance."""

    words: ClassVar[str] = "overview"

    def carry_out(self, desk: Desk) -> Overview:
        """Read it."""
        now = desk.clock()
        with desk.opened() as store, store.read() as tx:
            projects = [tx.projects.find(name) for name in tx.projects.names()]
            found = [_of_project(desk, tx, project, now) for project in projects]
            doomed = tx.tombstones.count()
        return Overview(
            at=now,
            projects=found,
            store_bytes=_size(desk.home),
            free_bytes=read_machine(desk.home, now).free_bytes,
            files_to_delete=doomed,
            backup=_last_backup(desk.home),
        )


def _of_project(desk: Desk, tx: Transaction, project: Project, now: float) -> ProjectOverview:
    status = status_of(desk, tx, project)
    queue, _ = trusted_queue(tx, project, now)
    newest = tx.events.last(project.id, _CASES_IN)
    since = now - _ACTIVE_SECONDS
    return ProjectOverview(
        project=short(status),
        round=status.round,
        hour=_rate(tx, project, now - _HOUR),
        day=_rate(tx, project, now - _DAY),
        classes=tx.fleets.classes(project.id, since, now),
        networks=tx.fleets.networks(project.id, least_accounts=_ACCOUNTS, now=now, limit=_ROWS),
        refusing=[Refusing(*one) for one in tx.fleets.refusing(project.id, since, _ROWS)],
        signals=_signals(newest),
        cases=_cases(tx, newest),
        trusted_queue=queue,
        storage=tx.versions.load(project.id),
    )


def _rate(tx: Transaction, project: Project, since: float) -> Rate:
    counts = tx.fleets.event_counts(project.id, since, _EVENTS)
    versions, results = tx.fleets.versions_since(project.id, project.epoch, since)
    return Rate(
        versions=versions,
        results=results,
        issued=counts.get("issued", 0),
        enrolled=counts.get("enrolled", 0),
        convicted=counts.get("convicted", 0),
    )


def _signals(newest: list[Event]) -> list[Signal]:
    """Return why results were looked at again, by how often; values are an example's."""
    counts: Counter[str] = Counter()
    examples: dict[str, Reason] = {}
    for event in newest:
        for told in event.detail.get("suspicions", ()):
            reason = msgspec.convert(told, Reason)
            counts[reason.code] += 1
            examples[reason.code] = reason
    return [Signal(examples[code], count) for code, count in counts.most_common(_ROWS)]


def _cases(tx: Transaction, newest: list[Event]) -> list[Case]:
    found = [event for event in reversed(newest) if event.kind in _CASE_KINDS][:_CASES]
    cases = []
    for event in found:
        host = None if event.host is None else tx.hosts.of_id(event.host)
        fingerprint, name = (host.fingerprint[:12], host.display_name) if host else ("", "")
        cases.append(Case(event.at, event.kind, event.unit, fingerprint, name))
    return cases


def _size(home: Home) -> int | None:
    try:
        return home.store_file.stat().st_size
    except OSError:
        return None


def _last_backup(home: Home) -> LastBackup | None:
    try:
        return msgspec.json.decode(home.last_backup_file.read_bytes(), type=LastBackup)
    except (OSError, msgspec.DecodeError):
        return None


COMMANDS: Final = (ReadOverview,)
