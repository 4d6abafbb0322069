"""The journal: one SQLite file that stays consistent through kill -9 and power loss.

WAL with synchronous=FULL: a transaction that returned is on the disk. In the steady state a unit
costs two: `write_request` (its result, its report and the request that carries it, before the
request is sent) and `settle_request` (the answer: what became of it, and the next unit).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.agent_state import FINAL_STATES, AssignmentEvent, AssignmentState, next_state
from pleb_agent.core.devices import CPU
from pleb_agent.core.sentence import say_reason
from pleb_agent.journal.activity_log import ActivityLog, local_day
from pleb_agent.journal.database import JournalError
from pleb_agent.journal.receipts import remove_old_receipts, write_receipt
from pleb_agent.journal.rows import (
    AssignmentRow,
    Change,
    NewProject,
    ProjectRow,
    RequestRow,
    read_assignment,
    read_project,
    read_request,
)
from pleb_shared.protocol.ids import parse_attach_link
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pleb_agent.core.history import Event
    from pleb_agent.core.trust import Memory
    from pleb_agent.core.unit_parts import Held
    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.messages import UnitVerdict, WorkReply

__all__ = ["Journal", "JournalError"]

_KEPT_SECONDS: Final = 90 * 24 * 3600.0
"""How long an assignment that has ended stays, for late verdicts and the page."""
_SAME_PROJECT: Final = """SELECT * FROM projects WHERE (base_url, name) =
    (SELECT base_url, name FROM projects WHERE id = ?) ORDER BY id"""
_SPENT: Final = FINAL_STATES | {AssignmentState.REPORTED, AssignmentState.UPLOADING}
"""Where a nonce must not come again."""


class Journal(ActivityLog):
    """One agent's durable memory."""

    # -- projects ---------------------------------------------------------------------------

    def add_project(self, new: NewProject, now: float) -> ProjectRow:
        """Add a project, or update the keys, role and sequence of one that is attached."""
        link = parse_attach_link(new.link)
        values = {
            **vars(new),
            **vars(new.memory),
            "base_url": link.base_url,
            "name": link.project,
            "now": now,
        }
        del values["memory"]
        with self.transaction():
            number = self.db.execute(
                """INSERT INTO projects (link, base_url, name, host_key_file, account_key_file,
                    host, role, metadata, metadata_number, metadata_digest, epoch, latest_version,
                    root, restored_at, sequence, attached_at, device, family)
                VALUES (:link, :base_url, :name, :host_key_file, :account_key_file, :host, :role,
                    :metadata, :metadata_number, :metadata_digest, :epoch, :latest_version,
                    :root, :restored_at, :sequence, :now, :device, :family)
                ON CONFLICT (base_url, name, device) DO UPDATE SET link = excluded.link,
                    host_key_file = excluded.host_key_file,
                    account_key_file = excluded.account_key_file, host = excluded.host,
                    role = excluded.role, metadata = excluded.metadata,
                    metadata_number = excluded.metadata_number,
                    metadata_digest = excluded.metadata_digest, epoch = excluded.epoch,
                    latest_version = excluded.latest_version,
                    root = excluded.root, restored_at = excluded.restored_at,
                    family = excluded.family,
                    sequence = max(sequence, excluded.sequence), detaching = 0
                RETURNING id""",
                values,
            ).fetchone()["id"]
        return self.project(number)

    def projects(self, device: str = CPU) -> list[ProjectRow]:
        """Return the projects that a device is a host of, in the order of attaching.

        The processor is a host of all that are attached, whether it computes or not.
        """
        rows = self.rows("SELECT * FROM projects WHERE device = ? ORDER BY id", (device,))
        return [read_project(row) for row in rows]

    def hosts(self, project: int | None = None) -> list[ProjectRow]:
        """Return the hosts of all projects, or of one: the devices of this PC."""
        if project is None:
            return [read_project(row) for row in self.rows("SELECT * FROM projects ORDER BY id")]
        rows = self.rows(_SAME_PROJECT, (project,))
        return [read_project(row) for row in rows]

    def project(self, number: int) -> ProjectRow:
        """Return one project.

        Raises:
            JournalError: it is not attached.
        """
        rows = self.rows("SELECT * FROM projects WHERE id = ?", (number,))
        if not rows:
            raise JournalError(f"No such project is attached ({number}).")
        return read_project(rows[0])

    def mark_detaching(self, project: int) -> None:
        """Remember that the user wants to leave the project, with all devices."""
        with self.transaction():
            self.db.execute(
                """UPDATE projects SET detaching = 1 WHERE (base_url, name) =
                    (SELECT base_url, name FROM projects WHERE id = ?)""",
                (project,),
            )

    def set_no_new_work(self, project: int, *, on: bool) -> None:
        """Take no further units of a project, with any device, or take them again."""
        with self.transaction():
            self.db.execute(
                """UPDATE projects SET no_new_work = ? WHERE (base_url, name) =
                    (SELECT base_url, name FROM projects WHERE id = ?)""",
                (int(on), project),
            )

    def set_own_folder(self, project: int, folder: str) -> None:
        """Remember where the user's own data for a project are, for all devices; empty: nowhere."""
        with self.transaction():
            self.db.execute(
                """UPDATE projects SET own_folder = ? WHERE (base_url, name) =
                    (SELECT base_url, name FROM projects WHERE id = ?)""",
                (folder, project),
            )

    def own_folder(self, project: int) -> str:
        """Return where the user's own data for a project are, whichever device asks."""
        return next((row.own_folder for row in self.hosts(project) if row.own_folder), "")

    def remove_project(self, project: int) -> None:
        """Forget a project and all its assignments."""
        with self.transaction():
            self.db.execute("DELETE FROM projects WHERE id = ?", (project,))

    def set_metadata(self, project: int, envelope: bytes, memory: Memory) -> None:
        """Remember newer metadata; a new epoch has versions of its own."""
        with self.transaction():
            self.db.execute(
                """DELETE FROM our_versions WHERE project =
                    (SELECT id FROM projects WHERE id = ? AND epoch < ?)""",
                (project, memory.epoch),
            )
            self.db.execute(
                """UPDATE projects SET metadata = :metadata, metadata_number = :metadata_number,
                    metadata_digest = :metadata_digest, epoch = :epoch,
                    latest_version = :latest_version, root = :root
                WHERE id = :project AND metadata_number <= :metadata_number""",
                {**vars(memory), "metadata": envelope, "project": project},
            )

    def move_project(self, project: int, link: AttachLink) -> None:
        """Remember another address of a project's coordinator, for all devices."""
        with self.transaction():
            self.db.execute(
                """UPDATE OR IGNORE projects SET link = ?, base_url = ? WHERE (base_url, name) =
                    (SELECT base_url, name FROM projects WHERE id = ?)""",
                (str(link), link.base_url, project),
            )

    def raise_sequence(self, project: int, sequence: int, role: str) -> None:
        """Adopt the coordinator's sequence after enrolling again; it never decreases."""
        with self.transaction():
            self.db.execute(
                "UPDATE projects SET sequence = max(sequence, ?), role = ? WHERE id = ?",
                (sequence, role, project),
            )

    # -- requests ---------------------------------------------------------------------------

    def pending_request(self, project: int) -> RequestRow | None:
        """Return the request whose answer is not known; None if there is none."""
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
                """INSERT INTO requests (project, sequence, body, reported, max_units,
                    wait_seconds, expires_at)
                VALUES (:project, :sequence, :body, :reported, :max_units, :wait_seconds,
                    :expires_at)""",
                {**vars(request), "reported": json.dumps(request.reported)},
            )
            for row in computed:
                self._save_report(row)
                self._change(row.id, AssignmentEvent.REQUEST_WRITTEN)

    def save_report(self, row: AssignmentRow) -> None:
        """Write a result, or a failure, that no request carries yet."""
        with self.transaction():
            self._save_report(row)

    def settle_request(
        self,
        request: RequestRow,
        reply: WorkReply,
        *,
        lease_from: float,
        changes: Sequence[Change],
        events: Sequence[Event],
        now: float,
    ) -> tuple[list[AssignmentRow], list[Event]]:
        """Write an answer: what became of the reports, new units, verdicts, and their events.

        A unit that is in the journal already (the coordinator repeats what it takes for lost)
        stays as it is. Returns the new units, and the events with their ids.

        `lease_from`: when the leases of the units began, in seconds since 1970.
        """
        with self.transaction():
            self._delete_request(request)
            self.db.execute(  # versions that a restored coordinator does not have
                """DELETE FROM our_versions WHERE version > ? AND project =
                    (SELECT id FROM projects WHERE id = ? AND restored_at < ?)""",
                (reply.latest_version, request.project, reply.restored_at),
            )
            self.db.execute(
                """UPDATE projects SET latest_version = ?, restored_at = ?
                WHERE id = ? AND epoch = ?""",
                (reply.latest_version, reply.restored_at, request.project, reply.epoch),
            )
            for change in changes:
                self._settle(change, now)
            units = []
            for manifest in reply.manifests:
                lease_ends_at = lease_from + manifest.lease_seconds
                units += self._insert(request.project, manifest, lease_ends_at, now)
            for verdict in reply.verdicts:
                self._judge(request.project, verdict, now)
            noted = self._note(events)
            self.db.execute("DELETE FROM assignments WHERE ended_at < ?", (now - _KEPT_SECONDS,))
            remove_old_receipts(self.db, now)
        return units, noted

    def drop_request(self, request: RequestRow) -> None:
        """Forget a request that may not be sent again; the next one carries its reports."""
        with self.transaction():
            self._delete_request(request)
            for number in request.reported:
                self._change(number, AssignmentEvent.REQUEST_DROPPED)

    # -- assignments ------------------------------------------------------------------------

    def open_assignments(
        self, project: int | None = None, *, device: str | None = None
    ) -> list[AssignmentRow]:
        """Return the assignments that have not ended, oldest first; all, or of a host or device."""
        sql = "SELECT * FROM assignments WHERE ended_at IS NULL"
        values: list[int | str] = []
        if project is not None:
            sql, values = sql + " AND project = ?", [project]
        elif device is not None:
            sql += " AND project IN (SELECT id FROM projects WHERE device = ?)"
            values = [device]
        rows = self.rows(sql + " ORDER BY id", tuple(values))
        return [read_assignment(row) for row in rows]

    def history(self, count: int) -> list[AssignmentRow]:
        """Return the `count` assignments that ended last, newest first."""
        sql = "SELECT * FROM assignments WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT ?"
        return [read_assignment(row) for row in self.rows(sql, (count,))]

    def our_versions(self, project: int) -> list[int]:
        """Return the versions that accepted units of this PC went into, in order."""
        sql = """SELECT DISTINCT version FROM our_versions WHERE project IN
            (SELECT id FROM projects WHERE (base_url, name) =
                (SELECT base_url, name FROM projects WHERE id = ?)) ORDER BY version"""
        return [row["version"] for row in self.rows(sql, (project,))]

    def is_spent(self, project: int, nonce: str) -> bool:
        """Whether we have reported on this nonce, or ended it in another way."""
        sql = "SELECT state FROM assignments WHERE project = ? AND nonce = ?"
        return any(row["state"] in _SPENT for row in self.rows(sql, (project, nonce)))

    def settle(self, change: Change, now: float, events: Sequence[Event] = ()) -> list[Event]:
        """Write what happened to one assignment; return the events of it with their ids."""
        with self.transaction():
            self._settle(change, now)
            return self._note(events)

    def hold_unit(self, number: int, held: Held) -> bool:
        """Hold a unit, or let it go; return whether it was still to be computed.

        One that is handed back stays so: the coordinator may have given it to another host.
        """
        with self.transaction():
            changed = self.db.execute(
                """UPDATE assignments SET held = ?
                WHERE id = ? AND state = 'received' AND held <> 'handed_back'""",
                (held.value, number),
            )
            return changed.rowcount == 1

    def count_try(self, number: int) -> None:
        """Remember that the worker died over this assignment, even if we die too."""
        with self.transaction():
            self.db.execute("UPDATE assignments SET tries = tries + 1 WHERE id = ?", (number,))

    # -- inside -----------------------------------------------------------------------------

    def _change(self, number: int, event: AssignmentEvent) -> AssignmentState | None:
        """Take an assignment to its next state: the only place where a state is written.

        Returns that state; None, and nothing changes, if it has ended or its project was left.

        Raises:
            WrongEventError: its state has no such event.
        """
        found = self.db.execute(
            "SELECT state FROM assignments WHERE id = ? AND ended_at IS NULL", (number,)
        ).fetchone()
        if found is None:
            return None
        before = AssignmentState(found["state"])
        state = next_state(before, event)
        self.db.execute(
            "UPDATE assignments SET state = ? WHERE id = ? AND state = ?", (state, number, before)
        )
        return state

    def _save_report(self, row: AssignmentRow) -> None:
        if self._change(row.id, AssignmentEvent.REPORT_READY) is not None:
            self.db.execute(
                "UPDATE assignments SET report = ?, delta_file = ?, note = ? WHERE id = ?",
                (msgspec.json.encode(row.report), row.delta_file, row.note, row.id),
            )

    def _settle(self, change: Change, now: float) -> None:
        state = self._change(change.row.id, change.event)
        if state is None:
            return
        self.db.execute(
            "UPDATE assignments SET upload = ?, note = ? WHERE id = ?",
            (change.upload, change.note, change.row.id),
        )
        if state in FINAL_STATES:
            self.db.execute(
                "UPDATE assignments SET ended_at = ? WHERE id = ?", (now, change.row.id)
            )
            project, day = change.row.project, local_day(now)
            self._add(project, day, f"units_{state.value}", 1)
            if state is AssignmentState.DONE and change.samples:
                self._add(project, day, "samples", change.samples)

    def _delete_request(self, request: RequestRow) -> None:
        self.db.execute(
            "DELETE FROM requests WHERE project = ? AND sequence = ?",
            (request.project, request.sequence),
        )

    def _insert(
        self, project: int, manifest: Manifest, lease_ends_at: float, now: float
    ) -> list[AssignmentRow]:
        cursor = self.db.execute(
            """INSERT INTO assignments (project, assignment, nonce, state, manifest,
                lease_ends_at, received_at) VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (project, nonce) DO NOTHING RETURNING *""",
            (
                project,
                manifest.assignment,
                manifest.nonce,
                AssignmentState.RECEIVED,
                msgspec.json.encode(manifest),
                lease_ends_at,
                now,
            ),
        )
        return [read_assignment(row) for row in cursor.fetchall()]

    def _judge(self, project: int, verdict: UnitVerdict, now: float) -> None:
        """Write a verdict; a later one replaces it, and the counters change by the difference.

        The coordinator may disprove a unit that it had accepted; its credit is taken back then.
        """
        found = self.db.execute(
            """SELECT id, nonce, verdict, credit, manifest, report, kwh, measured_kwh
            FROM assignments WHERE id =
                (SELECT max(id) FROM assignments WHERE project = ? AND assignment = ?)""",
            (project, verdict.assignment),
        ).fetchall()
        day, earlier_credit = local_day(now), 0.0
        why = say_reason(verdict.reason)
        for row in found:
            self.db.execute(
                """UPDATE assignments SET verdict = ?, credit = ?, note = ?, reason = ?,
                    unit = ?, distance = ?, tolerance = ? WHERE id = ?""",
                (
                    verdict.verdict,
                    verdict.credit,
                    str(why),
                    msgspec.json.encode(why).decode(),
                    verdict.unit,
                    verdict.evidence and verdict.evidence.distance,
                    verdict.evidence and verdict.evidence.tolerance,
                    row["id"],
                ),
            )
            if row["verdict"]:
                earlier_credit = row["credit"]
                self._add(project, day, f"verdicts_{row['verdict']}", -1)
            write_receipt(self.db, project, row, verdict, now)
            unit = msgspec.json.decode(row["manifest"], type=Manifest).unit
            if verdict.verdict is Verdict.VALID and unit.kind is UnitKind.TRAIN:
                # Which versions of this epoch contain our units is kept longer than the units.
                self.db.execute(
                    """INSERT OR IGNORE INTO our_versions (project, version)
                    SELECT id, ? FROM projects WHERE id = ? AND epoch = ?""",
                    (unit.version + 1, project, unit.epoch),
                )
        self._add(project, day, f"verdicts_{verdict.verdict.value}", 1)
        self._add(project, day, "credit_flops", verdict.credit - earlier_credit)
