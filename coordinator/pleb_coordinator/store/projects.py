"""Projects, their metadata, evaluations, versions and rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_coordinator.core.access import unknown_project
from pleb_coordinator.core.records import (
    Evaluation,
    Facts,
    Fleet,
    Kept,
    Project,
    ProjectState,
    RestoreCause,
    Round,
    Showing,
    VersionInLog,
    VersionLoad,
    VersionLoss,
    VersionNoise,
    VersionRestore,
    VersionRow,
    version_not_kept,
)
from pleb_coordinator.store.queries import projects as sql
from pleb_coordinator.store.references import References
from pleb_coordinator.store.rows import Rows, TableGroup, version_key
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.reasons import Reason
from pleb_shared.protocol.signing import peek_payload
from pleb_shared.protocol.unit import VersionSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.store.engine import Connection
    from pleb_shared.protocol.messages import Received

__all__ = ["MetadataCache", "Projects", "Rounds", "Versions"]

MetadataCache = dict[tuple[int, int], ProjectMetadata]
"""Decoded metadata by (project, number): it never changes."""

_EVALUATION: Final = Rows(Evaluation)
_SHOWING: Final = Rows(Showing)
_FACTS: Final = Rows(Facts)
_ROUND: Final = Rows(Round)
_VERSION: Final = Rows(VersionRow)
_LOSS: Final = Rows(VersionLoss)
_NOISE: Final = Rows(VersionNoise)
_IN_LOG: Final = Rows(VersionInLog)
_RESTORE: Final = Rows(VersionRestore)
_SOURCE: Final = msgspec.json.Decoder(VersionSource)
_NORMS: Final = msgspec.json.Decoder(tuple[float, ...])
_PROJECT_COLUMNS: Final = len(Project.__struct_fields__) - 2  # without facts and metadata

_START_EPOCH: Final = (
    sql.START_EPOCH,
    sql.CANCEL_EPOCHS_BEFORE,
    sql.CANCEL_LEASES_BEFORE,
    sql.END_UPLOADS,
    sql.NOTHING_DUE_BEFORE,
    sql.FORGET_DISPUTES_BEFORE,
    sql.FORGET_CALIBRATIONS,
    sql.FORGET_CLASSES,
    sql.FORGET_DISTANCES,
    sql.FORGET_MEASUREMENTS,
)


class Projects(TableGroup):
    """Projects, their metadata, evaluations."""

    def __init__(self, db: Connection, decoded: MetadataCache) -> None:
        super().__init__(db)
        self._decoded = decoded
        self._found: dict[int, tuple[tuple[Any, ...], Project]] = {}
        """By id: the row that was read last, and its record, which every request needs."""

    def find(self, name: str) -> Project:
        """Return the project of that name. Raises `Refusal` unknown_project."""
        return self._project(self._db.recall(sql.FIND_PROJECT, name=name), name)

    def get(self, project: int) -> Project:
        """Return the project with that id. Raises `Refusal` unknown_project."""
        return self._project(self._db.recall(sql.GET_PROJECT, project=project), str(project))

    def names(self) -> list[str]:
        """Return every project's name, oldest project first."""
        return [name for (name,) in self._db.execute(sql.PROJECT_NAMES)]

    def add(self, name: str, root_key: str, epoch: int, now: float) -> int:
        """Add an active project at version 0, without metadata; return its id."""
        values = {"name": name, "root_key": root_key, "epoch": epoch, "now": now}
        return int(self._value(sql.ADD_PROJECT, **values, brought_keys=b""))

    def set_state(
        self,
        project: int,
        expected: ProjectState,
        state: ProjectState,
        why: Reason | None = None,
    ) -> bool:
        """Change the state and why no work is issued; False: it is not the expected one."""
        return self._changed(
            sql.SET_PROJECT_STATE,
            project=project,
            before=expected,
            after=state,
            why=None if why is None else msgspec.json.encode(why),
        )

    def extend(self, project: int) -> bool:
        """Let the project go on past its target and patience; False: it does already."""
        return self._changed(sql.EXTEND_PROJECT, project=project)

    def set_records_at(self, project: int, at: int) -> None:
        """Store when the records of hosts were signed that were taken over."""
        self._db.execute(sql.SET_RECORDS_AT, project=project, at=at)

    def set_keys(self, project: int, numbers: Sequence[int]) -> None:
        """Store the numbers of a private project's keys."""
        self._db.execute(sql.SET_KEYS, project=project, numbers=" ".join(map(str, numbers)))

    def set_brought_keys(self, project: int, sealed: bytes) -> None:
        """Store the sealed keys that a private project has brought."""
        self._db.execute(sql.SET_BROUGHT_KEYS, project=project, keys=sealed)

    def put_metadata(
        self, project: int, metadata: ProjectMetadata, envelope: bytes, facts: Facts, now: float
    ) -> None:
        """Put new metadata with its root key in force; its number must be new."""
        self.keep_envelope(project, metadata.number, envelope, facts, now)
        self._db.execute(
            sql.SET_METADATA,
            project=project,
            number=metadata.number,
            epoch=metadata.epoch,
            root_key=metadata.root_key,
        )

    def keep_envelope(
        self, project: int, number: int, envelope: bytes, facts: Facts, now: float
    ) -> None:
        """Keep metadata without putting them in force; their number must be new."""
        self._db.execute(
            sql.ADD_METADATA,
            project=project,
            number=number,
            envelope=envelope,
            now=now,
            **_FACTS.parameters(facts),
        )

    def start_epoch(self, project: int, epoch: int, now: float) -> None:
        """Go to version 0 of `epoch`, and end what belongs to earlier ones.

        Their assignments without a report are cancelled, their uploads end now, and
        their results are not compared any more. Classes, and what was measured of hosts, were
        for the earlier model: every host calibrates again.
        """
        for statement in _START_EPOCH:
            self._db.execute(statement, project=project, epoch=epoch, now=now)

    def envelope(self, project: int, number: int) -> bytes:
        """Return the metadata's envelope, exactly as it was signed. Raises `LookupError`."""
        envelope = self._value(sql.GET_ENVELOPE, project=project, number=number)
        if envelope is None:
            message = f"There is no metadata {number} of project {project}."
            raise LookupError(message)
        return bytes(envelope)

    def newest_envelope(self, project: int) -> tuple[int, bytes]:
        """Return the number and the envelope of the newest metadata, in force or not."""
        number, envelope = self._db.execute(sql.NEWEST_ENVELOPE, project=project).fetchone()
        return number, bytes(envelope)

    def metadata_at(self, project: int, number: int) -> ProjectMetadata:
        """Return the metadata with that number. Raises `LookupError`."""
        metadata = self._decoded.get((project, number))
        if metadata is None:
            payload = peek_payload(
                self.envelope(project, number),
                PayloadType.METADATA,
                most_bytes=LIMITS.metadata_bytes,
            )
            metadata = strict_json.decode(
                payload, ProjectMetadata, most_bytes=LIMITS.metadata_bytes
            )
            if not self._db.has_changed:  # else what was read may be undone
                self._decoded[project, number] = metadata
        return metadata

    def advance(self, project: int, epoch: int, expected: int, version: int) -> bool:
        """Make `version` the newest one; False: `expected` is not the newest."""
        return self._changed(
            sql.ADVANCE_PROJECT, project=project, epoch=epoch, before=expected, after=version
        )

    def set_tolerance(self, project: int, tolerance: float) -> None:
        """Store the tolerance that the fleet's calibration needs."""
        self._db.execute(sql.SET_TOLERANCE, project=project, tolerance=tolerance)

    def set_restoring(self, project: int, version: int | None, cause: RestoreCause | None) -> None:
        """Ask the background process to restore that version; None: there is nothing to restore."""
        self._db.execute(sql.SET_RESTORING, project=project, version=version, cause=cause)

    def set_restored(self, project: int, at: int) -> None:
        """Store when the coordinator was restored from a backup."""
        self._db.execute(sql.SET_RESTORED, project=project, at=at)

    def set_fleet(self, project: int, fleet: Fleet) -> None:
        """Store what is known of the project's hosts."""
        self._db.execute(sql.SET_FLEET, project=project, **msgspec.structs.asdict(fleet))

    def add_received(self, project: int, received: Received) -> None:
        """Count the bytes of blobs that a host got, by their source."""
        for source, amount in msgspec.structs.asdict(received).items():
            if amount:
                self._db.execute(sql.ADD_RECEIVED, project=project, source=source, bytes=amount)

    def received(self, project: int) -> dict[str, int]:
        """Return the bytes of blobs that hosts got, by the names of `Received`'s fields."""
        return dict(self._db.execute(sql.RECEIVED, project=project))

    def add_evaluation(self, evaluation: Evaluation) -> None:
        """Store the metrics of a version, replacing earlier ones."""
        self._db.execute(sql.ADD_EVALUATION, **_EVALUATION.parameters(evaluation))

    def evaluations(self, project: int, epoch: int) -> list[Evaluation]:
        """Return the metrics of all versions, oldest version first."""
        return _EVALUATION.all(self._db.execute(sql.EVALUATIONS, project=project, epoch=epoch))

    def thin_evaluations(self, project: int, epoch: int, *, before: int, step: int) -> None:
        """Remove those of listed versions before that one, but for every `step`-th version's."""
        self._db.execute(
            sql.THIN_EVALUATIONS, project=project, epoch=epoch, before=before, step=step
        )

    def add_showing(self, showing: Showing) -> None:
        """Store what a version says or sees, replacing what was known."""
        self._db.execute(sql.ADD_SHOWING, **_SHOWING.parameters(showing))

    def shown_versions(self, project: int, epoch: int, card: str) -> list[int]:
        """Return the versions of an epoch that have answered a card, oldest first."""
        rows = self._db.execute(sql.SHOWN_VERSIONS, project=project, epoch=epoch, card=card)
        return [version for (version,) in rows]

    def showing(self, project: int, epoch: int, card: str, version: int) -> Showing | None:
        """Return what a version has answered to a card; None: nothing."""
        place = {"project": project, "epoch": epoch, "card": card, "version": version}
        return _SHOWING.first(self._db.execute(sql.SHOWING, **place))

    def thin_showings(self, project: int, epoch: int, *, before: int, step: int) -> None:
        """Remove what `thin_evaluations` does, but for the first answer to each card."""
        self._db.execute(sql.THIN_SHOWINGS, project=project, epoch=epoch, before=before, step=step)

    def _project(self, rows: list[tuple[Any, ...]], name: str) -> Project:
        if not rows:
            raise unknown_project(name)
        (row,) = rows
        before, project = self._found.get(row[0], (None, None))
        if project is None or row != before:
            values = dict(zip(Project.__struct_fields__, row[:_PROJECT_COLUMNS], strict=False))
            values["state"] = ProjectState(values["state"])
            values["extended"] = bool(values["extended"])
            if values["stopped_for"] is not None:
                values["stopped_for"] = msgspec.json.decode(values["stopped_for"], type=Reason)
            if values["restoring_for"] is not None:
                values["restoring_for"] = RestoreCause(values["restoring_for"])
            project = Project(
                **values,
                facts=_FACTS.record(row[_PROJECT_COLUMNS:]),
                metadata=self.metadata_at(values["id"], values["metadata_number"]),
            )
            self._found[project.id] = row, project
        return project


class Versions(TableGroup):
    """Versions and what they were made from."""

    def get(self, project: int, epoch: int, number: int) -> VersionRow:
        """Return a version. Raises `LookupError`."""
        row = _VERSION.first(
            self._db.execute(sql.GET_VERSION, project=project, epoch=epoch, number=number)
        )
        if row is None:
            raise _no_version(project, epoch, number)
        return row

    def exists(self, project: int, epoch: int, number: int) -> bool:
        """Whether there is such a version."""
        return self._exists(sql.HAS_VERSION, project=project, epoch=epoch, number=number)

    def add(self, row: VersionRow) -> bool:
        """Add a version with the blobs that it needs; False: the number is taken."""
        if not self._changed(sql.ADD_VERSION, **_VERSION.parameters(row)):
            return False
        References(self._db).add(row.project, row.epoch, row.number, row.blobs)
        return True

    def keep_less(self, row: VersionRow) -> set[str]:
        """Store that less of a version is kept; return the blobs that it does not need any more."""
        references, place = References(self._db), (row.project, row.epoch, row.number)
        before = references.of(*place)
        references.replace(*place, row.blobs)
        self._db.execute(sql.KEEP_LESS, **_VERSION.parameters(row))
        return before - row.blobs

    def load(self, project: int) -> VersionLoad:
        """Return how many versions are kept, and how many bytes they take."""
        return VersionLoad(*self._db.execute(sql.VERSION_LOAD, project=project).fetchone())

    def oldest(
        self, project: int, kept: Kept, *, up_to: tuple[int, int], limit: int
    ) -> list[VersionRow]:
        """Return the oldest versions of which so much is kept, up to that (epoch, number)."""
        epoch, number = up_to
        return _VERSION.all(
            self._db.execute(
                sql.OLDEST_KEPT,
                project=project,
                kept=kept,
                epoch=epoch,
                number=number,
                limit=limit,
            )
        )

    def milestones(self, project: int) -> list[tuple[int, int]]:
        """Return (epoch, number) of the milestones, oldest first."""
        return list(self._db.execute(sql.MILESTONES, project=project))

    def newest_readable(self, project: int, epoch: int, number: int) -> int | None:
        """Return the newest version up to that number whose tensors are kept, or None."""
        found: int | None = self._value(
            sql.NEWEST_READABLE, project=project, epoch=epoch, number=number
        )
        return found

    def last_number(self, project: int, epoch: int) -> int | None:
        """Return the number of the epoch's newest version; None: it has none."""
        found: int | None = self._value(sql.LAST_NUMBER, project=project, epoch=epoch)
        return found

    def epochs(self, project: int) -> list[int]:
        """Return the epochs that have versions, oldest first."""
        return [epoch for (epoch,) in self._db.execute(sql.EPOCHS, project=project)]

    def source(self, project: int, epoch: int, number: int) -> VersionSource:
        """Return how a host gets a version: of what `get` returns, all that a manifest needs.

        Raises:
            LookupError: there is no such version.
            InputError: its tensors are not kept any more.
        """
        rows = self._db.recall(sql.VERSION_SOURCE, project=project, epoch=epoch, number=number)
        if not rows:
            raise _no_version(project, epoch, number)
        ((source,),) = rows
        if source is None:
            raise version_not_kept(number)
        return _SOURCE.decode(source)

    def norms(self, project: int, epoch: int, number: int) -> tuple[float, ...]:
        """Return a version's norms, as `source` returns its source. Raises `LookupError`."""
        norms = self._value(sql.VERSION_NORMS, project=project, epoch=epoch, number=number)
        if norms is None:
            raise _no_version(project, epoch, number)
        return _NORMS.decode(norms)

    def losses(self, project: int, epoch: int, *, step: int = 1) -> list[VersionLoss]:
        """Return the training loss of every `step`-th version and of the last, oldest first."""
        return _LOSS.all(self._db.execute(sql.LOSSES, project=project, epoch=epoch, step=step))

    def restores(self, project: int, epoch: int) -> list[VersionRestore]:
        """Return the versions that are earlier ones again, oldest first."""
        return _RESTORE.all(self._db.execute(sql.RESTORES, project=project, epoch=epoch))

    def noise(self, project: int) -> list[VersionNoise]:
        """Return what noise is in each version of all epochs that was made from deltas."""
        return _NOISE.all(self._db.execute(sql.NOISE, project=project))

    def in_log(self, project: int) -> list[VersionInLog]:
        """Return what the signed log says of each version of all epochs, oldest first."""
        return _IN_LOG.all(self._db.execute(sql.IN_LOG, project=project))

    def history(self, project: int, epoch: int, *, after: int, limit: int) -> list[VersionRow]:
        """Return versions with numbers above `after`, oldest first."""
        return _VERSION.all(
            self._db.execute(sql.HISTORY, project=project, epoch=epoch, after=after, limit=limit)
        )


def _no_version(project: int, epoch: int, number: int) -> LookupError:
    return LookupError(f"Project {project} has no version {number} in epoch {epoch}.")


class Rounds(TableGroup):
    """One row for each version that is being made; its counters follow the units' states."""

    def get(self, project: int, epoch: int, version: int) -> Round | None:
        """Return the round, or None before it is planned."""
        rows = self._db.recall(sql.GET_ROUND, **version_key(project, epoch, version))
        return _ROUND.record(rows[0]) if rows else None

    def add(self, row: Round) -> bool:
        """Open a round; False: it exists already."""
        return self._changed(sql.ADD_ROUND, **_ROUND.parameters(row))

    def set_quorum(self, row: Round, at: float) -> bool:
        """Let as many verified units be enough as the row has; False: it has changed."""
        return self._changed(sql.SET_QUORUM, at=at, valid=row.valid, **_place(row))

    def replan(self, row: Round, units: int, quorum: int) -> None:
        """Let the round have other units, all open, instead of those that it had."""
        self._db.execute(sql.REPLAN_ROUND, units=units, quorum=quorum, **_place(row))

    def lower_quorum(self, row: Round, quorum: int) -> None:
        """Let fewer verified units be enough; those that are there may be enough already."""
        self._db.execute(sql.LOWER_QUORUM, quorum=quorum, **_place(row))

    def set_quorum_at(self, row: Round, at: float | None) -> None:
        """Store since when the round has its quorum."""
        self._db.execute(sql.SET_QUORUM_AT, at=at, **_place(row))

    def close(self, row: Round, now: float) -> bool:
        """Close the round; False: it is closed already."""
        return self._changed(sql.CLOSE_ROUND, now=now, **_place(row))

    def unswept_before(self, project: int, epoch: int, version: int) -> Round | None:
        """Return the oldest closed round before `version` that was not swept, or None."""
        return _ROUND.first(
            self._db.execute(sql.UNSWEPT_BEFORE, **version_key(project, epoch, version))
        )

    def lengths(self, project: int, epoch: int, version: int, since: int) -> list[float]:
        """Return how many seconds each round of versions from `since` to before `version` took."""
        where = {**version_key(project, epoch, version), "since": since}
        return [length for (length,) in self._db.recall(sql.LENGTHS_OF_ROUNDS, **where)]

    def open_units(self, project: int, epoch: int, version: int) -> tuple[int, int, int]:
        """Return how many units of the round are open, in hosts' hands, and reported."""
        where = version_key(project, epoch, version)
        found = self._db.execute(sql.OPEN_UNITS, **where).fetchone()
        return int(found[0]), int(found[1]), int(found[2])

    def set_swept(self, row: Round, now: float) -> None:
        """Note that the round was swept."""
        self._db.execute(sql.SET_SWEPT, now=now, **_place(row))


def _place(row: Round) -> dict[str, int]:
    return version_key(row.project, row.epoch, row.version)
