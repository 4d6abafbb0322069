"""The projects and units in the journal, as the faces show them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.control.overrides import Overrides
from pleb_agent.control.views import (
    AssignmentView,
    HabitsView,
    MessageView,
    ProjectView,
    StatusView,
    UnitsView,
)
from pleb_agent.core.agent_state import AssignmentState
from pleb_agent.core.override import OverrideKind
from pleb_agent.core.permission import permission_notice
from pleb_agent.core.sentence import Sentence, say
from pleb_agent.core.shares import share_of
from pleb_agent.journal.unit_list import count_parts, units_of_part
from pleb_agent.program.clock import local_time, system_clock
from pleb_shared.errors import InputError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.signing import peek_payload
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.unit_parts import UnitPart
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.keys import KeyStore
    from pleb_agent.journal.rows import AssignmentRow, ProjectRow

__all__ = ["JournalReader", "find_all_attached", "find_attached", "is_unconfirmed", "message_of"]

_SENTENCE: Final = msgspec.json.Decoder(Sentence)
_RECENT: Final = 10
"""Ended units that the status lists."""
_UNITS: Final = 50
"""On one page of the list."""


class JournalReader:
    """The projects and units in the journal; `pleb-agent status` reads them without an agentd."""

    def __init__(self, journal: Journal, keys: KeyStore) -> None:
        self._journal = journal
        self._keys = keys
        self._metadata: dict[int, tuple[int, ProjectMetadata]] = {}
        """By project: the metadata's number, and the decoded metadata."""
        self._accounts: dict[str, str] = {}
        self._readers: dict[str, str] = {}

    def status(self, preferences: Preferences) -> StatusView:
        """Return the status while no agentd runs."""
        override = Overrides(self._journal).in_force
        paused = override.kind is OverrideKind.PAUSE
        sentence = say("The agent is not running: `pleb-agent start`.")
        if paused:
            sentence = say(
                "The agent is not running, and is paused: `pleb-agent start`, and "
                "`pleb-agent resume` to let it work."
            )
        return StatusView(
            running=False,
            activity="stopped",
            sentence=str(sentence),
            message=message_of(sentence),
            reason="not_running",
            override=override,
            paused=paused,
            projects=[self.project(row, preferences, "") for row in self.attached()],
            open=self.open(),
            history=self.ended(),
        )

    def attached(self) -> list[ProjectRow]:
        """Return the attached projects; those that are being left are not among them."""
        return [row for row in self._journal.projects() if not row.detaching]

    def metadata(self, row: ProjectRow) -> ProjectMetadata:
        """Return a project's metadata, which was verified when it arrived."""
        number, metadata = self._metadata.get(row.id, (-1, None))
        if metadata is None or number != row.memory.metadata_number:
            payload = peek_payload(
                row.metadata, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes
            )
            metadata = msgspec.json.decode(payload, type=ProjectMetadata)
            self._metadata[row.id] = (row.memory.metadata_number, metadata)
        return metadata

    def project(self, row: ProjectRow, preferences: Preferences, problem: str) -> ProjectView:
        """Return an attached project."""
        counters = self._journal.counters(row.id)
        judged = any(name.startswith("verdicts_") for name in counters)
        waits = not judged and any(
            is_unconfirmed(ended, row.id) for ended in self._journal.history(_RECENT)
        )
        metadata = self.metadata(row)
        ends_at = metadata.delegation.expires_at
        notice = None if problem else permission_notice(ends_at, system_clock())
        showcase, since_ours = self._showcase_of(row, metadata)
        return ProjectView(
            project=row.name,
            title=metadata.title or row.name,
            url=row.base_url,
            link=row.link,
            host=row.host,
            role=row.role,
            account=self._account(row.account_key_file),
            latest_version=row.memory.latest_version,
            share=share_of(
                preferences.shares,
                row.name,
                row.family,
                sum(other.family == row.family for other in self.attached()),
            ),
            problem=problem,
            counters=counters,
            attached_at=row.attached_at,
            waits_for_confirmation=waits,
            permission_ends_at=ends_at,
            no_new_work=row.no_new_work,
            contact=metadata.contact,
            notice=None if notice is None else message_of(notice),
            family=row.family,
            own_data=metadata.data.own is not None,
            own_folder=self._journal.own_folder(row.id),
            showcase=showcase,
            showcase_since_ours=since_ours,
        )

    def open(self) -> list[AssignmentView]:
        """Return the units that have not ended, oldest first."""
        return self._assignments(self._journal.open_assignments())

    def ended(self) -> list[AssignmentView]:
        """Return the units that ended last, newest first."""
        return self._assignments(self._journal.history(_RECENT))

    def habits(self, preferences: Preferences, now: float) -> HabitsView:
        """Return for how long this PC usually stays free from now on."""
        habits = self._journal.habits(now)
        return HabitsView(
            learns=preferences.learn_habits,
            times=len(habits.times),
            free_seconds=habits.usually_free_seconds(now, local_time(now).weekday),
        )

    def units(self, part: UnitPart, before: int | None = None) -> UnitsView:
        """Return a page of the units of one part; `before`: the `older` of the page before."""
        rows = units_of_part(self._journal, part, before, _UNITS + 1)
        return UnitsView(
            part=part.value,
            units=self._assignments(rows[:_UNITS]),
            counts={one.value: count for one, count in count_parts(self._journal).items()},
            older=rows[_UNITS - 1].id if len(rows) > _UNITS else None,
        )

    def _assignments(self, rows: list[AssignmentRow]) -> list[AssignmentView]:
        hosts = {row.id: row for row in self._journal.hosts()}
        titles = {row.id: self.metadata(row).title or row.name for row in hosts.values()}
        return [
            AssignmentView(
                id=row.id,
                unit=row.unit,
                page=self.page_of(hosts[row.project], row.unit),
                title=titles[row.project],
                device=hosts[row.project].device,
                held=row.held.value,
                reason=message_of(_SENTENCE.decode(row.reason)) if row.reason else None,
                distance=row.distance,
                tolerance=row.tolerance,
                assignment=row.assignment,
                project=hosts[row.project].name,
                kind=row.manifest.unit.kind.value,
                version=row.manifest.unit.version,
                state=row.state.value,
                received_at=row.received_at,
                ended_at=row.ended_at,
                lease_ends_at=row.lease_ends_at,
                verdict=row.verdict,
                credit=row.credit,
                note=row.note,
            )
            for row in rows
        ]

    def page_of(self, row: ProjectRow, unit: int = 0) -> str:
        """Return the address of the project's page, at the unit if its number is known.

        Of a private project it has by what this PC reads it, which only the browser sees.
        """
        return self._address(row, "", f"unit-{unit}" if unit else "")

    def _showcase_of(self, row: ProjectRow, metadata: ProjectMetadata) -> tuple[str, bool]:
        """Return where the page shows what the model does, and whether beside our beginning.

        That is the version before the first one of this epoch that has a unit of this PC. The
        address is empty if the project shows nothing.
        """
        if metadata.showcase is msgspec.UNSET:
            return "", False
        ours = self._journal.our_versions(row.id)
        query = f"?from={max(0, ours[0] - 1)}" if ours else ""
        return self._address(row, query, "showcase"), bool(ours)

    def _address(self, row: ProjectRow, query: str, mark: str) -> str:
        name = row.host_key_file
        if name not in self._readers:
            with suppress(InputError):
                reading = self._keys.reading(name)
                self._readers[name] = "" if reading is None else f"reader={reading.reader}"
        shown = "&".join(filter(None, [mark, self._readers.get(name, "")]))
        return f"{row.base_url}/projects/{row.name}{query}" + (f"#{shown}" if shown else "")

    def _account(self, key_file: str) -> str:
        """The fingerprint of an account's key; empty if it cannot be read (doctor says why)."""
        if key_file not in self._accounts:
            with suppress(InputError):
                self._accounts[key_file] = self._keys.load(key_file).fingerprint
        return self._accounts.get(key_file, "")


def find_attached(journal: Journal, name: str) -> ProjectRow:
    """Return the attached project of this name, or with this link.

    Raises:
        InputError: none, or several of that name at different coordinators.
    """
    rows = [row for row in journal.projects() if not row.detaching]
    found = [row for row in rows if name in {row.name, row.link, row.base_url}]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"No project {name!r} is attached; `pleb-agent projects` lists them.")
    raise InputError(f"{len(found)} projects are called {name!r}: give the whole attach link.")


def find_all_attached(journal: Journal, name: str) -> list[ProjectRow]:
    """Return the attached project of this name or link, or all members of the family of this name.

    Raises:
        InputError: as `find_attached`.
    """
    members = [row for row in journal.projects() if not row.detaching and row.family == name]
    return members if name and members else [find_attached(journal, name)]


def is_unconfirmed(row: AssignmentRow, project: int) -> bool:
    """Whether a second PC must confirm it; a calibration is compared with a known result."""
    calibrates = row.manifest.unit.kind is UnitKind.CALIBRATE
    return row.project == project and row.state is AssignmentState.DONE and not calibrates


def message_of(sentence: Sentence) -> MessageView:
    """Return a sentence with its template and values, so that a page can translate it."""
    return MessageView(text=str(sentence), template=sentence.template, values=sentence.values)
