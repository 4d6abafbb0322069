"""One unit from received to computed: fetch, lay out, compute, with the next one prefetched."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pleb_agent.cache.errors import CacheFullError, CorruptBlobError
from pleb_agent.client.errors import UnreachableError
from pleb_agent.core.agent_state import AssignmentEvent, AssignmentState, next_state
from pleb_agent.core.energy import kwh
from pleb_agent.journal.rows import AssignmentRow
from pleb_agent.loop.compute import Computing, InputsDamagedError, failed_row
from pleb_agent.loop.compute_meter import ComputeMeter
from pleb_agent.loop.errands import start_errand
from pleb_agent.loop.files import (
    UnitFiles,
    clean_shards,
    discard_files,
    fetch_unit,
    files_at_hand,
    job_for,
)
from pleb_agent.loop.prefetch import Prefetch
from pleb_agent.loop.status import CurrentUnit, LiveStatus
from pleb_agent.worker.job import Progress
from pleb_shared.errors import Refusal, RefusalCode, TrustError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.signing import peek_payload

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_agent.loop.parts import Parts
    from pleb_agent.loop.session import Session

__all__ = ["AskNext", "Fetched", "UnitWork"]

_LOG: Final = logging.getLogger("pleb.agent")


AskNext = Callable[[], Awaitable[Sequence[AssignmentRow]]]


@dataclass(frozen=True)
class Fetched:
    """A received unit whose files lie in the cache."""

    row: AssignmentRow
    files: UnitFiles


class UnitWork:
    """Does units of every project in the one engine."""

    def __init__(
        self,
        parts: Parts,
        status: LiveStatus,
        wake: Callable[[], None],
        charge: Callable[[Session, float], None],
    ) -> None:
        self._parts = parts
        self._status = status
        self._wake = wake
        self._charge = charge
        self._meter = ComputeMeter()
        self._computing = Computing(parts.engine, parts.journal, parts.clock)

    def job_dir(self, row: AssignmentRow) -> Path:
        """Return the unit's own directory."""
        return self._parts.work_dir / f"{row.project}-{row.id}"

    def clean(self, row_id: int, project: int) -> None:
        """Delete the directory of a unit that has ended."""
        self._meter.end(row_id)
        shutil.rmtree(self._parts.work_dir / f"{project}-{row_id}", ignore_errors=True)

    def clean_all_but(self, rows: Sequence[AssignmentRow]) -> None:
        """Delete what earlier processes left of units that have ended."""
        kept = {self.job_dir(row).name for row in rows}
        for name in kept:
            clean_shards(self._parts.work_dir / name)
        for folder in self._parts.work_dir.iterdir():
            if folder.is_dir() and folder.name[:1].isdigit() and folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def checked(self, session: Session, row: AssignmentRow) -> AssignmentRow:
        """Return the row, late or failed if it is not worth beginning."""
        if self._parts.clock() >= row.lease_ends_at:
            state = next_state(row.state, AssignmentEvent.LEASE_ENDED)
            return replace(row, state=state, note="The lease ended before the unit was begun.")
        if row.manifest.metadata_number != session.metadata.number:
            return failed_row(row, "The project's metadata changed after the unit was given.")
        return row

    async def fetch(self, session: Session, row: AssignmentRow) -> Fetched | AssignmentRow:
        """Return the unit with its files in the cache, or its row late or failed.

        Raises:
            NetworkError: its files cannot be had now.
            PlebError: the disk is full.
        """
        row = self.checked(session, row)
        if row.state is not AssignmentState.RECEIVED:
            return row
        try:
            return Fetched(row, await self._fetch(session, row))
        except (TrustError, CacheFullError) as error:
            return failed_row(row, str(error))
        except Refusal as refusal:
            if refusal.code is not RefusalCode.UNKNOWN_BLOB:
                raise
            return failed_row(row, f"A file of the unit cannot be had: {refusal}")

    def at_hand(self, session: Session, row: AssignmentRow) -> Fetched | AssignmentRow:
        """The same without the network: the row itself comes back if a file is missing."""
        row = self.checked(session, row)
        if row.state is not AssignmentState.RECEIVED:
            return row
        try:
            files = files_at_hand(session, self._parts.cache, row.manifest)
        except TrustError as error:
            return failed_row(row, str(error))
        return row if files is None else Fetched(row, files)

    async def compute(
        self, session: Session, fetched: Fetched, ask_next: AskNext
    ) -> AssignmentRow | None:
        """Return the row computed, failed or late; None if its files must be fetched again.

        Raises:
            PutAwayError: the engine was told to stop.
            WorkerUnusable: there is no engine.
            PlebError: the disk is full.
        """
        files = fetched.files
        with self._parts.cache.hold(files.all()):
            try:
                return await self._compute(session, fetched, ask_next)
            except InputsDamagedError:
                discard_files(session, self._parts.cache, files)
            except CorruptBlobError as error:
                _LOG.warning("fetch", extra={"problem": str(error)})
            finally:
                clean_shards(self.job_dir(fetched.row))
        return None

    async def _compute(
        self, session: Session, fetched: Fetched, ask_next: AskNext
    ) -> AssignmentRow:
        parts, job_dir = self._parts, self.job_dir(fetched.row)
        row = replace(fetched.row, state=next_state(fetched.row.state, AssignmentEvent.BLOBS_READY))
        self._meter.begin(row.id, resumed=job_dir.exists())
        metadata = _payload(parts.journal.project(session.project).metadata)
        job = job_for(session, row, fetched.files, parts.cache, metadata, job_dir)
        prefetch = Prefetch(
            ask_next,
            lambda unit: self._fetch(session, unit),
            lambda work: start_errand(session, work, self._wake),
        )
        show = self._shower(session, row, prefetch)
        show(Progress(steps_done=0, steps_total=0, loss=None, compute_seconds=0))
        _LOG.info("train", extra={"project": session.name, "assignment": row.assignment})
        try:
            return await self._computing.compute(row, job, show)
        finally:
            self._status.unit = None
            prefetch.close()

    async def _fetch(self, session: Session, row: AssignmentRow) -> UnitFiles:
        parts = self._parts
        try:
            async with asyncio.timeout(max(0.0, row.lease_ends_at - parts.clock())):
                files = await fetch_unit(session, parts.cache, row.manifest, parts.clock)
        except TimeoutError as error:
            raise UnreachableError("The unit's files came too late for its lease.") from error
        finally:
            session.count_traffic(parts.journal, parts.clock())
        return files

    def _shower(
        self, session: Session, row: AssignmentRow, prefetch: Prefetch
    ) -> Callable[[Progress], None]:
        unit = row.manifest.unit

        def show(progress: Progress) -> None:
            if progress.steps_done:
                self._count(session, self._meter.add(row.id, progress))
            self._status.unit = CurrentUnit(
                project=session.name,
                assignment=row.assignment,
                kind=unit.kind.value,
                version=unit.version,
                steps_done=progress.steps_done,
                steps_total=progress.steps_total,
                loss=progress.loss,
                compute_seconds=progress.compute_seconds,
            )
            prefetch.consider(progress)

        return show

    def _count(self, session: Session, seconds: float) -> None:
        """Count computing time and an estimate of its energy, whatever becomes of the unit."""
        preferences = self._parts.preferences()
        energy = kwh(seconds, preferences.threads, preferences.watts_per_thread)
        now = self._parts.clock()
        self._parts.journal.count(session.project, now, compute_seconds=seconds, energy_kwh=energy)
        self._charge(session, seconds)


def _payload(envelope: bytes) -> bytes:
    """Return the payload of metadata that was verified when it came."""
    return peek_payload(envelope, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes)
