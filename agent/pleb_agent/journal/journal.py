"""The journal: one SQLite file that is right after kill -9 and power loss at any point.

WAL with synchronous=FULL: a transaction that returned is on the disk. In the steady state a unit
costs two: `write_request` (its result, its report and the request that carries it, before the
request is sent) and `settle_request` (the answer: what became of it, and the next unit).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from pleb_agent.core.agent_state import FINAL_STATES, AssignmentEvent, AssignmentState, next_state
from pleb_agent.journal.chronicle import Chronicle, local_day
from pleb_agent.journal.database import JournalError
from pleb_agent.journal.reading import read_assignment, read_project, read_request
from pleb_agent.journal.rows import (
    AssignmentRow,
    NewAssignment,
    NewProject,
    ProjectRow,
    RequestRow,
    Settled,
)
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pleb_agent.core.history import Event
    from pleb_agent.core.trust import Memory
    from pleb_shared.protocol.messages import UnitVerdict

__all__ = ["Journal", "JournalError"]

_KEPT_SECONDS = 90 * 24 * 3600.0
_FINAL = tuple(state.value for state in FINAL_STATES)


class Journal(Chronicle):
    """One agent's durable memory."""

    # -- projects ---------------------------------------------------------------------------

    def add_project(self, new: NewProject, now: float) -> ProjectRow:
        """Add a project, or take the new keys, role and sequence for one that is there."""
        link = ProjectRow(
            **vars(new), id=0, name="", base_url="", detaching=False, attached_at=now
        ).attach_link
        with self.transaction():
            self.db.execute(
                """INSERT INTO projects (link, base_url, name, host_key_file, account_key_file,
                    host, role, metadata, metadata_number, metadata_digest, epoch, latest_version,
                    sequence, attached_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (base_url, name) DO UPDATE SET link = excluded.link,
                    host_key_file = excluded.host_key_file,
                    account_key_file = excluded.account_key_file, host = excluded.host,
                    role = excluded.role, metadata = excluded.metadata,
                    metadata_number = excluded.metadata_number,
                    metadata_digest = excluded.metadata_digest, epoch = excluded.epoch,
                    latest_version = excluded.latest_version,
                    sequence = max(sequence, excluded.sequence), detaching = 0""",
                (
                    new.link,
                    link.base_url,
                    link.project,
                    new.host_key_file,
                    new.account_key_file,
                    new.host,
                    new.role,
                    new.metadata,
                    new.memory.metadata_number,
                    new.memory.metadata_digest,
                    new.memory.epoch,
                    new.memory.latest_version,
                    new.sequence,
                    now,
                ),
            )
        return self.find_project(link.base_url, link.project)

    def projects(self) -> list[ProjectRow]:
        """Return the attached projects in the order of attaching."""
        return [read_project(row) for row in self.rows("SELECT * FROM projects ORDER BY id")]

    def project(self, number: int) -> ProjectRow:
        """Return one project.

        Raises:
            JournalError: it is not attached (any more).
        """
        return self._one_project("SELECT * FROM projects WHERE id = ?", (number,))

    def find_project(self, base_url: str, name: str) -> ProjectRow:
        """Return the project of that name at that coordinator.

        Raises:
            JournalError: it is not attached.
        """
        sql = "SELECT * FROM projects WHERE base_url = ? AND name = ?"
        return self._one_project(sql, (base_url, name))

    def mark_detaching(self, project: int) -> None:
        """Remember that the user wants to leave the project."""
        with self.transaction():
            self.db.execute("UPDATE projects SET detaching = 1 WHERE id = ?", (project,))

    def remove_project(self, project: int) -> None:
        """Forget a project and all its assignments."""
        with self.transaction():
            self.db.execute("DELETE FROM projects WHERE id = ?", (project,))

    def set_metadata(self, project: int, envelope: bytes, memory: Memory) -> None:
        """Remember newer metadata."""
        with self.transaction():
            self.db.execute(
                """UPDATE projects SET metadata = ?, metadata_number = ?, metadata_digest = ?,
                    epoch = ?, latest_version = ? WHERE id = ? AND metadata_number <= ?""",
                (
                    envelope,
                    memory.metadata_number,
                    memory.metadata_digest,
                    memory.epoch,
                    memory.latest_version,
                    project,
                    memory.metadata_number,
                ),
            )

    def raise_sequence(self, project: int, sequence: int, role: str) -> None:
        """Take the coordinator's count after enrolling again; it never falls."""
        with self.transaction():
            self.db.execute(
                "UPDATE projects SET sequence = max(sequence, ?), role = ? WHERE id = ?",
                (sequence, role, project),
            )

    # -- requests ---------------------------------------------------------------------------

    def pending_request(self, project: int) -> RequestRow | None:
        """Return the request whose answer is not known, if there is one."""
        rows = self.rows("SELECT * FROM requests WHERE project = ?", (project,))
        return read_request(rows[0]) if rows else None

    def write_request(self, request: RequestRow, computed: Iterable[AssignmentRow]) -> None:
        """Write a request, its sequence and the results it reports, before it is sent."""
        with self.transaction():
            self.db.execute(
                "UPDATE projects SET sequence = ? WHERE id = ? AND sequence < ?",
                (request.sequence, request.project, request.sequence),
            )
            self.db.execute(
                """INSERT INTO requests (project, sequence, body, reported, wait_seconds,
                    expires_at) VALUES (?, ?, ?, ?, ?, ?)""",
                (
                    request.project,
                    request.sequence,
                    request.body,
                    json.dumps(request.reported),
                    request.wait_seconds,
                    request.expires_at,
                ),
            )
            for row in computed:
                reported = next_state(row.state, AssignmentEvent.REQUEST_WRITTEN)
                self._save_result(row, reported)

    def save_result(self, row: AssignmentRow) -> None:
        """Write a result that cannot be reported yet."""
        with self.transaction():
            self._save_result(row, row.state)

    def settle_request(
        self,
        request: RequestRow,
        memory: Memory,
        *,
        settled: Sequence[Settled],
        units: Sequence[NewAssignment],
        verdicts: Sequence[UnitVerdict],
        events: Sequence[Event],
        now: float,
    ) -> tuple[list[AssignmentRow], list[Event]]:
        """Write an answer: what became of the reports, new units, verdicts, and their events.

        A unit that is there already (the coordinator repeats what it believes to be lost) is
        left as it is. Returns the new units, and the events with their ids.
        """
        with self.transaction():
            self.db.execute(
                "DELETE FROM requests WHERE project = ? AND sequence = ?",
                (request.project, request.sequence),
            )
            self.db.execute(
                "UPDATE projects SET latest_version = ? WHERE id = ? AND epoch = ?",
                (memory.latest_version, request.project, memory.epoch),
            )
            for change in settled:
                self._settle(change, now)
            rows = [row for unit in units for row in self._insert(request.project, unit, now)]
            for verdict in verdicts:
                self._judge(request.project, verdict, now)
            noted = self._note(events)
            self.db.execute("DELETE FROM assignments WHERE ended_at < ?", (now - _KEPT_SECONDS,))
        return rows, noted

    def drop_request(self, request: RequestRow) -> None:
        """Forget a request that may not be sent again; the next one carries its reports."""
        with self.transaction():
            self.db.execute(
                "DELETE FROM requests WHERE project = ? AND sequence = ?",
                (request.project, request.sequence),
            )
            for number in request.reported:
                self.db.execute(
                    "UPDATE assignments SET state = ? WHERE id = ? AND state = ?",
                    (AssignmentState.COMPUTED, number, AssignmentState.REPORTED),
                )

    # -- assignments ------------------------------------------------------------------------

    def open_assignments(self, project: int | None = None) -> list[AssignmentRow]:
        """Return what has not ended, oldest first."""
        sql = "SELECT * FROM assignments WHERE ended_at IS NULL"
        if project is None:
            return [read_assignment(row) for row in self.rows(sql + " ORDER BY id")]
        rows = self.rows(sql + " AND project = ? ORDER BY id", (project,))
        return [read_assignment(row) for row in rows]

    def history(self, count: int) -> list[AssignmentRow]:
        """Return the assignments that ended last, newest first."""
        sql = "SELECT * FROM assignments WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT ?"
        return [read_assignment(row) for row in self.rows(sql, (count,))]

    def our_versions(self, project: int) -> list[int]:
        """Return the versions that accepted units of this host went into, in order."""
        sql = "SELECT version FROM our_versions WHERE project = ? ORDER BY version"
        return [row["version"] for row in self.rows(sql, (project,))]

    def is_spent(self, project: int, nonce: str) -> bool:
        """Whether we have reported on this nonce, or ended it in another way."""
        sql = "SELECT state FROM assignments WHERE project = ? AND nonce = ?"
        states = [row["state"] for row in self.rows(sql, (project, nonce))]
        return bool(states) and states[0] in {*_FINAL, "reported", "uploading"}

    def end(self, ended: Settled, now: float, events: Sequence[Event] = ()) -> list[Event]:
        """End an assignment in a final state; return the events of it with their ids."""
        with self.transaction():
            self._settle(ended, now)
            return self._note(events)

    def count_try(self, number: int) -> None:
        """Remember that the worker died over this assignment, even if we die too."""
        with self.transaction():
            self.db.execute("UPDATE assignments SET tries = tries + 1 WHERE id = ?", (number,))

    # -- inside -----------------------------------------------------------------------------

    def _one_project(self, sql: str, values: tuple[Any, ...]) -> ProjectRow:
        rows = self.rows(sql, values)
        if not rows:
            raise JournalError(f"No such project is attached ({values[-1]}).")
        return read_project(rows[0])

    def _save_result(self, row: AssignmentRow, state: AssignmentState) -> None:
        self.db.execute(
            """UPDATE assignments SET state = ?, report = ?, delta_file = ?, note = ?
            WHERE id = ? AND ended_at IS NULL AND state NOT IN ('reported', 'uploading')""",
            (state, row.report, row.delta_file, row.note, row.id),
        )

    def _settle(self, change: Settled, now: float) -> None:
        ended = now if change.state in FINAL_STATES else None
        self.db.execute(
            """UPDATE assignments SET state = ?, upload = ?, note = ?, ended_at = ?,
                envelope = CASE WHEN ? IS NULL THEN envelope ELSE x'' END
            WHERE id = ? AND ended_at IS NULL""",
            (change.state, change.upload, change.note, ended, ended, change.id),
        )
        if ended is not None and self.db.execute("SELECT changes()").fetchone()[0]:
            row = self.db.execute(
                "SELECT project FROM assignments WHERE id = ?", (change.id,)
            ).fetchone()
            self._add(row["project"], local_day(now), f"units_{change.state.value}", 1)
            if change.state is AssignmentState.DONE and change.samples:
                self._add(row["project"], local_day(now), "samples", change.samples)

    def _insert(self, project: int, unit: NewAssignment, now: float) -> list[AssignmentRow]:
        cursor = self.db.execute(
            """INSERT INTO assignments (project, assignment, nonce, state, manifest, envelope,
                lease_ends_at, received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (project, nonce) DO NOTHING RETURNING *""",
            (
                project,
                unit.manifest.assignment,
                unit.manifest.nonce,
                AssignmentState.RECEIVED,
                msgspec.json.encode(unit.manifest),
                unit.envelope,
                unit.lease_ends_at,
                now,
            ),
        )
        return [read_assignment(row) for row in cursor.fetchall()]

    def _judge(self, project: int, verdict: UnitVerdict, now: float) -> None:
        """Take a verdict. A later one replaces the earlier: the counters take the difference.

        The coordinator may disprove a unit that it had accepted; its credit falls back then.
        """
        found = self.db.execute(
            """SELECT id, verdict, credit, manifest FROM assignments WHERE id =
                (SELECT max(id) FROM assignments WHERE project = ? AND assignment = ?)""",
            (project, verdict.assignment),
        ).fetchall()
        day, earlier_credit = local_day(now), 0.0
        for row in found:
            self.db.execute(
                "UPDATE assignments SET verdict = ?, credit = ?, note = ? WHERE id = ?",
                (verdict.verdict, verdict.credit, verdict.reason, row["id"]),
            )
            if row["verdict"]:
                earlier_credit = row["credit"]
                self._add(project, day, f"verdicts_{row['verdict']}", -1)
            self._remember_version(project, row["manifest"], verdict.verdict)
        self._add(project, day, f"verdicts_{verdict.verdict.value}", 1)
        self._add(project, day, "credit_flops", verdict.credit - earlier_credit)

    def _remember_version(self, project: int, manifest: bytes, verdict: Verdict) -> None:
        """Keep which versions units of ours went into, longer than the units themselves."""
        unit = msgspec.json.decode(manifest, type=Manifest).unit
        if verdict is Verdict.VALID and unit.kind is UnitKind.TRAIN:
            self.db.execute(
                "INSERT INTO our_versions (project, version) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (project, unit.version + 1),
            )
