"""Deltas that are too large for a request: uploaded while the next units are computed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from pleb_agent.blobs.standing import Fault
from pleb_agent.client.bucket import BucketClient, BucketFailedError, put_result
from pleb_agent.core.agent_state import AssignmentEvent, AssignmentState
from pleb_agent.journal.rows import Change
from pleb_agent.loop.exchange import MAY_SUCCEED_LATER
from pleb_agent.worker.plain_files import open_plain
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS
from pleb_system.backoff import BACKOFF
from pleb_system.network_errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.journal.rows import AssignmentRow
    from pleb_agent.loop.exchange import Exchange
    from pleb_agent.loop.services import Services

__all__ = ["Uploads"]

_LOG: Final = logging.getLogger("pleb.agent")


class Uploads:
    """One project's uploads, a task for each. `on_end` gets the change of each that ended."""

    def __init__(
        self, exchange: Exchange, services: Services, on_end: Callable[[Change], None]
    ) -> None:
        self._exchange = exchange
        self._journal = services.journal
        self._clock = services.clock
        self._draw = services.draw
        self._on_end = on_end
        self._standings = services.standings
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Start the uploads that the journal knows of, unless they are running."""
        for row in self._journal.open_assignments(self._exchange.project):
            if row.state is AssignmentState.UPLOADING and row.id not in self._tasks:
                self._tasks[row.id] = asyncio.create_task(self._run(row))

    def raise_failure(self) -> None:
        """Raise what ended a task unexpectedly, for instance that the journal cannot be written."""
        for number, task in list(self._tasks.items()):
            if task.done() and not task.cancelled():
                del self._tasks[number]
                task.result()

    async def cancel(self) -> None:
        """Stop uploading; the tokens are in the journal, so that it can be resumed."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self, row: AssignmentRow) -> None:
        event, note = await self._upload(row)
        samples = self._exchange.samples_of(row.manifest.unit)
        change = Change(row, event, note=note, samples=samples)
        self._exchange.settle(change)
        _LOG.info("upload", extra={"assignment": row.assignment, "state": change.state.value})
        self._tasks.pop(row.id, None)
        self._on_end(change)

    async def _upload(self, row: AssignmentRow) -> tuple[AssignmentEvent, str]:
        """Upload a delta, trying again until its lease ends; return how it ended, and why."""
        failures, size = 0, 0 if row.delta is None else row.delta.size
        while self._clock() < row.lease_ends_at:
            try:
                with open_plain(Path(row.delta_file)) as file:
                    if not await self._put(row, file, size):
                        await self._exchange.client.upload(row.upload, file, size)
            except (NetworkError, Refusal) as problem:
                if isinstance(problem, Refusal) and problem.code not in MAY_SUCCEED_LATER:
                    if problem.code in {RefusalCode.LEASE_EXPIRED, RefusalCode.EPOCH_ENDED}:
                        return AssignmentEvent.LEASE_ENDED, str(problem)
                    return AssignmentEvent.UPLOAD_REFUSED, str(problem)
                failures += 1
                _LOG.warning(
                    "upload", extra={"assignment": row.assignment, "problem": str(problem)}
                )
                delay = BACKOFF.delay_seconds(failures, self._draw(), problem.retry_after_seconds)
                await asyncio.sleep(min(delay, max(0.1, row.lease_ends_at - self._clock())))
            except OSError as error:
                return AssignmentEvent.UPLOAD_REFUSED, f"The delta is gone: {error}"
            else:
                return AssignmentEvent.UPLOAD_COMPLETE, ""
            finally:
                self._exchange.count_traffic()
        return AssignmentEvent.LEASE_ENDED, "The lease ended before the upload."

    async def _put(self, row: AssignmentRow, file: IO[bytes], size: int) -> bool:
        """Put a large delta into the coordinator's bucket; return whether all of it is there.

        One that fails is left alone for a while: the coordinator gets the rest, and what comes.
        """
        client, address = self._exchange.client, self._exchange.bucket
        now = asyncio.get_running_loop().time()
        if not address or size < LIMITS.direct_least_bytes:
            return False
        if self._standings.is_shunned(address, now):
            return False
        bucket = BucketClient(address, network=client.network, traffic=client.traffic)
        try:
            there = await put_result(client, bucket, row.upload, file, size)
        except BucketFailedError as error:
            now = asyncio.get_running_loop().time()
            self._standings.failed(address, Fault.UNREACHABLE, now)
            _LOG.warning("bucket", extra={"assignment": row.assignment, "problem": str(error)})
            return False
        finally:
            await bucket.close()
        self._standings.brought(address, 0, 0.0)
        return there
