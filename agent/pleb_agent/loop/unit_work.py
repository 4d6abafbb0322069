"""One unit from received to computed: fetch, lay out, compute, with the next one prefetched."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pleb_agent.cache.blob_cache import CacheFullError, CorruptBlobError
from pleb_agent.client.errors import UnreachableError
from pleb_agent.core.agent_state import AssignmentEvent, next_state
from pleb_agent.loop.compute import Computing, InputsDamagedError, failed_row
from pleb_agent.loop.files import UnitFiles, fetch_unit, job_for
from pleb_agent.loop.prefetch import Prefetch
from pleb_agent.loop.status import CurrentUnit, LiveStatus
from pleb_agent.worker.job import Progress
from pleb_shared.errors import Refusal, RefusalCode, TrustError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.signing import peek_payload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from pleb_agent.journal.rows import AssignmentRow
    from pleb_agent.loop.parts import Parts
    from pleb_agent.loop.session import Session

__all__ = ["UnitWork"]

_LOG: Final = logging.getLogger("pleb.agent")


class UnitWork:
    """Does units of every project in the one engine."""

    def __init__(self, parts: Parts, status: LiveStatus) -> None:
        self._parts = parts
        self._status = status
        self._computing = Computing(parts.engine, parts.journal, parts.clock)

    def job_dir(self, row: AssignmentRow) -> Path:
        """Return the unit's own directory."""
        return self._parts.work_dir / f"{row.project}-{row.id}"

    def clean(self, row_id: int, project: int) -> None:
        """Delete the directory of a unit that has ended."""
        shutil.rmtree(self._parts.work_dir / f"{project}-{row_id}", ignore_errors=True)

    def clean_all_but(self, rows: Sequence[AssignmentRow]) -> None:
        """Delete what earlier processes left of units that have ended."""
        kept = {self.job_dir(row).name for row in rows}
        for folder in self._parts.work_dir.iterdir():
            if folder.is_dir() and folder.name[:1].isdigit() and folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    async def work_on(
        self,
        session: Session,
        row: AssignmentRow,
        ask_next: Callable[[], Awaitable[Sequence[AssignmentRow]]],
    ) -> AssignmentRow:
        """Return the row computed, failed or late.

        Raises:
            NetworkError: its files cannot be had now.
            PutAwayError: the engine was told to stop.
            WorkerUnusable: there is no engine.
            PlebError: the disk is full.
        """
        if self._parts.clock() >= row.lease_ends_at:
            state = next_state(row.state, AssignmentEvent.LEASE_ENDED)
            return replace(row, state=state, note="The lease ended before the unit was begun.")
        if row.manifest.metadata_number != session.metadata.number:
            return failed_row(row, "The project's metadata changed after the unit was given.")
        while True:
            try:
                return await self._fetch_and_compute(session, row, ask_next)
            except (TrustError, CacheFullError) as error:
                return failed_row(row, str(error))
            except Refusal as refusal:
                if refusal.code is not RefusalCode.UNKNOWN_BLOB:
                    raise
                return failed_row(row, f"A file of the unit cannot be had: {refusal}")
            except InputsDamagedError:
                row = replace(row, tries=row.tries + 1)
            except CorruptBlobError as error:
                _LOG.warning("fetch", extra={"problem": str(error)})

    async def _fetch_and_compute(
        self,
        session: Session,
        row: AssignmentRow,
        ask_next: Callable[[], Awaitable[Sequence[AssignmentRow]]],
    ) -> AssignmentRow:
        parts = self._parts
        files = await self._fetch(session, row)
        row = replace(row, state=next_state(row.state, AssignmentEvent.BLOBS_READY))
        with parts.cache.hold(files.all()):
            metadata = _payload(parts.journal.project(session.project).metadata)
            job = job_for(row, files, parts.cache, metadata, self.job_dir(row))
            prefetch = Prefetch(ask_next, lambda unit: self._fetch(session, unit))
            show = self._shower(session, row, prefetch)
            show(Progress(steps_done=0, steps_total=0, loss=None, compute_seconds=0))
            _LOG.info("train", extra={"project": session.name, "assignment": row.assignment})
            try:
                return await self._computing.compute(row, job, show)
            except InputsDamagedError:
                for blob in files.all():
                    parts.cache.discard(blob.digest)
                raise
            finally:
                self._status.unit = None
                await prefetch.close()

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


def _payload(envelope: bytes) -> bytes:
    """Return the payload of metadata that was verified when it came."""
    return peek_payload(envelope, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes)
