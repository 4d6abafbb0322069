"""What was done: events, counters of each project, sums of each day; and settings.

Counting costs no transaction of its own: amounts are kept in memory until the next transaction,
whatever it writes, or until the journal is closed. Readers see them at once.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.habits import HABIT_EVENTS, LEARNED_SECONDS, habits_of
from pleb_agent.core.history import KEPT_EVENTS, Event, EventKind
from pleb_agent.core.sentence import Sentence, Value
from pleb_agent.journal.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pleb_agent.core.habits import Habits

__all__ = ["BEFORE_DAYS", "ActivityLog", "local_day", "read_event"]

_VALUES: Final = msgspec.json.Decoder(dict[str, Value])

_HABITS_SINCE: Final = "habits_since"
BEFORE_DAYS: Final = ""
"""The day of what was counted before sums were kept by day."""

_DAILY: Final = {
    "units_done": "units",
    "verdicts_valid": "accepted",
    "samples": "samples",
    "credit_flops": "credit_flops",
    "compute_seconds": "compute_seconds",
    "energy_kwh": "energy_kwh",
    "measured_kwh": "measured_kwh",
    "bytes_received": "bytes_received",
    "bytes_sent": "bytes_sent",
}
"""Counters that are also kept for each day, and their names there."""

_TAKEN: Final = """UPDATE assignments SET kwh = kwh + ?, measured_kwh = measured_kwh + ?
    WHERE id = ?"""
_ALL_DAYS: Final = "SELECT day, name, sum(value) AS value FROM daily GROUP BY day, name"
_ONE_DAY: Final = "SELECT day, name, sum(value) AS value FROM daily WHERE day = ? GROUP BY name"
_LAST_DAYS: Final = """SELECT day, name, sum(value) AS value FROM daily
    WHERE day IN (SELECT DISTINCT day FROM daily ORDER BY day DESC LIMIT ?) GROUP BY day, name"""


def local_day(now: float) -> str:
    """Return the local date (YYYY-MM-DD) of a time in seconds since 1970."""
    return time.strftime("%Y-%m-%d", time.localtime(now))


class ActivityLog(Database):
    """The journal's history, counters and settings."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._pending: defaultdict[tuple[int, str, str], float] = defaultdict(float)
        """Amounts by project, day and name that no transaction has written yet."""
        self._taken: defaultdict[int, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        """By assignment, the kWh that it took and how many were measured; not written yet."""
        self._settings: dict[str, str] = {}
        """Settings that no transaction has written yet."""

    def close(self) -> None:
        """Write what was counted, close the file."""
        try:
            self.flush()
        finally:
            super().close()

    def flush(self) -> None:
        """Write what was counted and kept since the last transaction."""
        if self._pending or self._settings or self._taken:
            with self.transaction():
                pass

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the block's changes together, or none of them, and what was counted before.

        Raises:
            JournalError: they cannot be written.
        """
        with super().transaction():
            for (project, day, name), amount in self._pending.items():
                self._add(project, day, name, amount)
            for name, value in self._settings.items():
                self._set(name, value)
            for number, taken in self._taken.items():
                self.db.execute(_TAKEN, (*taken, number))
            yield
        self._pending.clear()
        self._taken.clear()
        self._settings.clear()

    # -- events -----------------------------------------------------------------------------

    def note_event(self, *events: Event) -> list[Event]:
        """Keep events; return them with their ids. Only the newest `KEPT_EVENTS` stay."""
        with self.transaction():
            return self._note(events)

    def events(self, before: int | None, count: int) -> list[Event]:
        """Return at most `count` events older than the one with this id, newest first."""
        rows = self.rows(
            "SELECT * FROM events WHERE id < ? ORDER BY id DESC LIMIT ?",
            (2**62 if before is None else before, count),
        )
        return [read_event(row) for row in rows]

    def habits(self, now: float) -> Habits:
        """Return when this PC was free in the last weeks, since habits were last forgotten."""
        since = max(now - LEARNED_SECONDS, float(self.setting(_HABITS_SINCE) or 0))
        kinds = ", ".join("?" * len(HABIT_EVENTS))
        rows = self.rows(
            f"SELECT at, kind FROM events WHERE at >= ? AND kind IN ({kinds}) ORDER BY id",  # noqa: S608 - question marks
            (since, *HABIT_EVENTS),
        )
        return habits_of((row["at"], EventKind(row["kind"])) for row in rows)

    def forget_habits(self, now: float) -> None:
        """Learn habits only from what happens from now on."""
        self.set_setting(_HABITS_SINCE, str(now))

    # -- counters ---------------------------------------------------------------------------

    def count(self, project: int, now: float, **amounts: float) -> None:
        """Add to a project's counters, and to the sums of the local day of `now`."""
        for name, amount in amounts.items():
            self._pending[project, local_day(now), name] += amount

    def count_energy(self, number: int, kwh: float, measured_kwh: float) -> None:
        """Add to what an assignment took; `measured_kwh` is the part that was not estimated."""
        before, measured_before = self._taken[number]
        self._taken[number] = before + kwh, measured_before + measured_kwh

    def counters(self, project: int) -> dict[str, float]:
        """Return a project's counters by name, all of this PC's devices together."""
        same = self.rows(
            """SELECT id FROM projects WHERE (base_url, name) =
                (SELECT base_url, name FROM projects WHERE id = ?)""",
            (project,),
        )
        hosts = {row["id"] for row in same}
        values: dict[str, float] = {}
        for host in hosts:
            for row in self.rows("SELECT name, value FROM counters WHERE project = ?", (host,)):
                values[row["name"]] = values.get(row["name"], 0.0) + row["value"]
        for (owner, _, name), amount in self._pending.items():
            if owner in hosts:
                values[name] = values.get(name, 0.0) + amount
        return values

    def day(self, day: str) -> dict[str, float]:
        """Return one local day's sums over all projects by name."""
        return self._sums(_ONE_DAY, (day,)).get(day, {})

    def days(self, count: int) -> dict[str, dict[str, float]]:
        """Return the sums of the last `count` days on which anything was counted, oldest first."""
        days = self._sums(_LAST_DAYS, (count,))
        days.pop(BEFORE_DAYS, None)
        return {day: days[day] for day in sorted(days)[-count:]}

    def totals(self) -> dict[str, float]:
        """Return the sums over all days and projects, those that were left too."""
        total: defaultdict[str, float] = defaultdict(float)
        for sums in self._sums(_ALL_DAYS, ()).values():
            for name, value in sums.items():
                total[name] += value
        return dict(total)

    # -- settings ---------------------------------------------------------------------------

    def setting(self, name: str) -> str:
        """Return a setting, empty if it was never set."""
        if name in self._settings:
            return self._settings[name]
        rows = self.rows("SELECT value FROM settings WHERE name = ?", (name,))
        return str(rows[0]["value"]) if rows else ""

    def set_setting(self, name: str, value: str) -> None:
        """Remember a setting."""
        self._settings.pop(name, None)
        with self.transaction():
            self._set(name, value)

    def keep_setting(self, name: str, value: str) -> None:
        """Remember a setting with the next transaction; a crash may lose it."""
        self._settings[name] = value

    # -- inside -----------------------------------------------------------------------------

    def _note(self, events: Sequence[Event]) -> list[Event]:
        sql = """INSERT INTO events (at, kind, project, template, "values")
            VALUES (?, ?, ?, ?, ?) RETURNING *"""
        noted = []
        for event in events:
            values = msgspec.json.encode(event.sentence.values).decode()
            row = (event.at, event.kind, event.project, event.sentence.template, values)
            noted += [read_event(each) for each in self.db.execute(sql, row).fetchall()]
        if noted:
            self.db.execute("DELETE FROM events WHERE id <= ?", (noted[-1].id - KEPT_EVENTS,))
        return noted

    def _set(self, name: str, value: str) -> None:
        self.db.execute(
            "INSERT INTO settings (name, value) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    def _add(self, project: int, day: str, name: str, amount: float) -> None:
        """Add to a counter and its day; nothing is added for a project that was left."""
        self.db.execute(
            """INSERT INTO counters (project, name, value)
                SELECT id, ?, ? FROM projects WHERE id = ?
            ON CONFLICT (project, name) DO UPDATE SET value = value + excluded.value""",
            (name, amount, project),
        )
        if name in _DAILY:
            self.db.execute(
                """INSERT INTO daily (day, project, name, value)
                    SELECT ?, name, ?, ? FROM projects WHERE id = ?
                ON CONFLICT (day, project, name) DO UPDATE SET value = value + excluded.value""",
                (day, _DAILY[name], amount, project),
            )

    def _sums(self, sql: str, values: tuple[object, ...]) -> dict[str, dict[str, float]]:
        """Return sums by day and name, with what is not written yet."""
        rows = self.rows(sql, values)
        sums: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        for row in rows:
            sums[row["day"]][row["name"]] = row["value"]
        for (_, day, name), amount in self._pending.items():
            if name in _DAILY:
                sums[day][_DAILY[name]] += amount
        return {day: dict(names) for day, names in sums.items()}


def read_event(row: sqlite3.Row) -> Event:
    """Return an event from its SQL row."""
    return Event(
        at=row["at"],
        kind=EventKind(row["kind"]),
        project=row["project"],
        sentence=Sentence(row["template"], _VALUES.decode(row["values"])),
        id=row["id"],
    )
