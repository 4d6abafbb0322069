"""Builds what the faces show from the journal and the loop."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.agent_state import AssignmentState
from pleb_agent.core.readings import PresenceKind
from pleb_agent.core.sentence import Sentence, say
from pleb_agent.core.shares import USUAL_SHARE
from pleb_agent.core.wish import NO_WISH, UserWish
from pleb_agent.web.views import (
    AssignmentView,
    Message,
    ProjectView,
    StatusView,
    UnitView,
    WishView,
)
from pleb_shared.errors import InputError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.signing import peek_payload
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Presence
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.keys import KeyStore
    from pleb_agent.journal.rows import AssignmentRow, ProjectRow
    from pleb_agent.loop.status import CurrentUnit

__all__ = ["Shower", "is_unconfirmed", "message_of", "presence_sentence", "unit_view", "wish_view"]

_HISTORY: Final = 10
_NOT_RUNNING: Final = "not_running"


class Shower:
    """Reads projects and assignments; remembers each project's decoded metadata."""

    def __init__(self, journal: Journal, keys: KeyStore) -> None:
        self._journal = journal
        self._keys = keys
        self._metadata: dict[int, tuple[int, ProjectMetadata]] = {}
        self._accounts: dict[str, str] = {}

    def metadata(self, row: ProjectRow) -> ProjectMetadata:
        """Return the metadata that was verified when it came."""
        number, metadata = self._metadata.get(row.id, (-1, None))
        if metadata is None or number != row.memory.metadata_number:
            payload = peek_payload(
                row.metadata, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes
            )
            metadata = msgspec.json.decode(payload, type=ProjectMetadata)
            self._metadata[row.id] = (row.memory.metadata_number, metadata)
        return metadata

    def projects(self, preferences: Preferences, problems: Mapping[int, str]) -> list[ProjectView]:
        """Return the attached projects."""
        return [
            self.project(row, preferences, problems.get(row.id, ""))
            for row in self._journal.projects()
            if not row.detaching
        ]

    def project(self, row: ProjectRow, preferences: Preferences, problem: str) -> ProjectView:
        """Return one attached project."""
        counters = self._journal.counters(row.id)
        judged = any(name.startswith("verdicts_") for name in counters)
        waits = not judged and any(is_unconfirmed(ended, row.id) for ended in self._ended())
        return ProjectView(
            project=row.name,
            title=self.metadata(row).title or row.name,
            url=row.base_url,
            link=row.link,
            host=row.host,
            role=row.role,
            account=self._account(row.account_key_file),
            latest_version=row.memory.latest_version,
            share=preferences.shares.get(row.name, USUAL_SHARE),
            problem=problem,
            counters=counters,
            attached_at=row.attached_at,
            waits_for_confirmation=waits,
        )

    def open(self) -> list[AssignmentView]:
        """Return what is in hand, oldest first."""
        return self._assignments(self._journal.open_assignments())

    def history(self) -> list[AssignmentView]:
        """Return what ended last, newest first."""
        return self._assignments(self._ended())

    def stopped(self, preferences: Preferences) -> StatusView:
        """Return what is known while no agentd runs."""
        sentence = say("The agent is not running: `pleb-agent start`.")
        return StatusView(
            running=False,
            activity="stopped",
            sentence=str(sentence),
            message=message_of(sentence),
            next_look_at=None,
            reason=_NOT_RUNNING,
            wish=wish_view(NO_WISH, 0),
            paused=False,
            unit=None,
            units_finished=0,
            pid=None,
            desktop=False,
            first_run=False,
            projects=self.projects(preferences, {}),
            open=self.open(),
            history=self.history(),
        )

    def _ended(self) -> list[AssignmentRow]:
        return self._journal.history(_HISTORY)

    def _assignments(self, rows: list[AssignmentRow]) -> list[AssignmentView]:
        names = {row.id: row.name for row in self._journal.projects()}
        return [_assignment(row, names.get(row.project, "")) for row in rows]

    def _account(self, key_file: str) -> str:
        """The fingerprint of an account's key; empty if the key cannot be read (doctor tells)."""
        if key_file not in self._accounts:
            with suppress(InputError):
                self._accounts[key_file] = self._keys.load(key_file).fingerprint
        return self._accounts.get(key_file, "")


def message_of(sentence: Sentence) -> Message:
    """Return a sentence with its parts."""
    return Message(text=str(sentence), template=sentence.template, values=sentence.values)


def wish_view(wish: UserWish, now: float) -> WishView:
    """Return the wish, or none if it has ended."""
    held = wish if wish.holds(wish.kind, now) else NO_WISH
    return WishView(kind=held.kind.value, until=held.until)


def unit_view(unit: CurrentUnit | None) -> UnitView | None:
    """Return the unit in hand."""
    if unit is None:
        return None
    return UnitView(
        project=unit.project,
        assignment=unit.assignment,
        kind=unit.kind,
        version=unit.version,
        steps_done=unit.steps_done,
        steps_total=unit.steps_total,
        loss=unit.loss,
        compute_seconds=unit.compute_seconds,
        losses=list(unit.losses),
    )


def is_unconfirmed(row: AssignmentRow, project: int) -> bool:
    """Whether a second PC shall confirm it; a calibration is compared with a known result."""
    calibrates = row.manifest.unit.kind is UnitKind.CALIBRATE
    return row.project == project and row.state is AssignmentState.DONE and not calibrates


def _assignment(row: AssignmentRow, project: str) -> AssignmentView:
    return AssignmentView(
        assignment=row.assignment,
        project=project,
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


def presence_sentence(presence: Presence) -> str:
    """Return how input is watched, or why it cannot be."""
    if presence.kind is PresenceKind.READABLE:
        return f"Keyboard and mouse are watched by {presence.method}."
    if presence.kind is PresenceKind.NOBODY:
        return "Nobody's keyboard and mouse are watched: there is no session."
    return presence.problem
