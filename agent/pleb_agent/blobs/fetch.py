"""Fetching the missing parts of one blob from several sources at once.

Each source has a task that claims a run of parts, reads them, and checks each as it comes. The
coordinator is the last resort: it is asked for parts that no other source has, for those that are
overdue, or for everything if the others are much slower. A source that does wrong is left alone,
and its parts are free for the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_agent.blobs.errors import StalledError
from pleb_agent.blobs.source import SourceKind
from pleb_agent.blobs.standing import Fault
from pleb_agent.cache.errors import CorruptBlobError
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.parts import part_place
from pleb_system.network_errors import NetworkError, UnreachableError, WrongBytesError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from pleb_agent.blobs.source import Offer, Source
    from pleb_agent.blobs.standing import Standings
    from pleb_agent.cache.part_file import PartFile

__all__ = ["STALL_SECONDS", "BlobFetch", "fault_of"]

STALL_SECONDS: Final = 2.5
"""How long the others wait for a source that sends nothing: with a busy processor, under 3 s."""
_LEAST_BYTES: Final = 32 * 1024
"""What it has to send in that time."""
_SLOW_SECONDS: Final = 10.0
"""How long a part may take another source that does send before the coordinator is asked for it."""
_PART_TIMES: Final = 2.0
"""What comes from the coordinator later than so many parts' time does not come by others."""
_LOOKS: Final = 6
"""How often a source that has nothing to do looks again in `STALL_SECONDS`."""
_RUN_SECONDS: Final = 1.0
"""What is claimed at once takes a source so long."""
_MOST_PARTS: Final = 16
_COORDINATOR_COST: Final = 4.0
"""It helps where it is so many times as fast as all others together."""
_MOST_BUSY: Final = 16
"""How often a source may be busy before it is left out."""
_REST_SECONDS: Final = 0.5
"""How long a busy source is not asked, each time longer by that."""
_TRIES: Final = 3
"""How often the coordinator may send wrong bytes, or break off without a new one."""
_LOG: Final = logging.getLogger("pleb.agent")


@dataclass
class _Claim:
    offer: Offer
    at: float


class BlobFetch:
    """One blob's parts on their way.

    `count` is called with the source's kind and bytes, `came` after each part. `places`: so many
    transfers from others than the coordinator may be under way; several blobs can share them.
    """

    def __init__(
        self,
        part: PartFile,
        offers: Sequence[Offer],
        standings: Standings,
        count: Callable[[SourceKind, int], None],
        came: Callable[[], None] = lambda: None,
        places: asyncio.Semaphore | None = None,
    ) -> None:
        self._part = part
        self._standings = standings
        self._count = count
        self._came = came
        self._places = places or asyncio.Semaphore(len(offers) + 1)
        self._waiting: list[Offer] = list(offers)
        """Those that join with the next look."""
        self._live: dict[asyncio.Task[None], Offer] = {}
        self._claims: dict[int, list[_Claim]] = {}
        """Who is reading a part: two, if the first one takes too long."""
        self._changed = asyncio.Event()
        self._begun: dict[int, bytes] = {}
        """What the coordinator sent of parts that it broke off: it goes on from there."""
        self._from_last = 0
        """Bytes that it has sent."""
        self._last_name = next((o.source.name for o in offers if self._is_last(o)), "")
        self._progress_at = asyncio.get_running_loop().time()
        """When the last part came."""
        self._error: Exception | None = None
        """Why the last resort failed."""

    def brings_in(self) -> set[int]:
        """Return the parts that are read from other than neighbours now."""
        return {
            number
            for number, claims in self._claims.items()
            if any(claim.offer.source.kind is not SourceKind.PEER for claim in claims)
        }

    def add(self, offer: Offer) -> None:
        """Let one more source send parts from now on."""
        self._waiting.append(offer)
        if self._live:  # it runs
            self._begin()

    def _begin(self) -> None:
        for offer in self._waiting:
            self._live[asyncio.create_task(self._serve(offer))] = offer
        self._waiting.clear()

    async def run(self) -> None:
        """Return when no part is missing.

        Raises:
            NetworkError, Refusal: no source is left that could send the rest; what came is kept.
            DiskFullError: no space.
        """
        try:
            while self._part.missing:
                self._begin()
                if not self._live:
                    raise self._error or UnreachableError(
                        f"No source has blob {self._part.blob.digest[:12]}; the agent tries again "
                        "later."
                    )
                done, _ = await asyncio.wait(self._live, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del self._live[task]
                    task.result()
                self._notify()
        finally:
            for task in self._live:
                task.cancel()
            await asyncio.gather(*self._live, return_exceptions=True)

    # -- one source -------------------------------------------------------------------------

    async def _serve(self, offer: Offer) -> None:
        """Read what the source can send, until nothing is missing or it has failed."""
        failures = 0
        while self._part.missing:
            before, numbers = self._from_last, []
            try:
                async with nullcontext() if self._is_last(offer) else self._places:
                    numbers = self._claim(offer)
                    if numbers:
                        await self._read(offer, numbers)
            except (NetworkError, Refusal, CorruptBlobError) as error:
                if is_busy(error) and not self._is_last(offer) and offer.busy.times < _MOST_BUSY:
                    self._let_rest(offer)
                    continue
                if not self._is_last(offer):
                    self._drop(offer.source, error)
                    return
                failures = self._more_failures(error, failures, self._from_last - before)
                if failures >= _TRIES:
                    self._error = self._last_word(error)
                    return
            finally:
                if numbers:
                    self._release(offer, numbers)
            if not numbers:
                if not self._claims and not self._waits_for_others(offer):
                    return
                await self._next_change()

    def _more_failures(self, error: Exception, failures: int, came: int) -> int:
        """Return how often the coordinator has failed now, after `came` bytes of a last try.

        Wrong bytes are asked for again; a connection that breaks goes on where it was, as long as
        it brings something, and is tried once more if not; anything else is the end.
        """
        if isinstance(error, CorruptBlobError | WrongBytesError):
            self._begun.clear()
            _LOG.warning("fetch", extra={"problem": str(error)})
            return failures + 1
        if isinstance(error, UnreachableError):
            if not came:  # a connection that was kept may have been closed just now
                return failures + 2
            return 0 if came > _LEAST_BYTES else failures + 1
        return _TRIES

    def _last_word(self, error: Exception) -> Exception:
        """Return what a person reads of the coordinator's failure."""
        if not isinstance(error, CorruptBlobError | WrongBytesError):
            return error
        return WrongBytesError(
            f"The coordinator sent wrong bytes for blob {self._part.blob.digest[:12]} {_TRIES} "
            "times; the agent tries again later."
        )

    def _awaited(self, number: int) -> bool:
        """Whether another source was to have a part soon."""
        return any(offer.soon(number) for offer in self._live.values())

    def _can(self, offer: Offer, number: int) -> bool:
        return asyncio.get_running_loop().time() >= offer.busy.until and offer.can(number)

    def _let_rest(self, offer: Offer) -> None:
        """Ask others meanwhile: what it has may come from the coordinator, too."""
        offer.busy.times += 1
        rest = _REST_SECONDS * offer.busy.times
        offer.busy.until = asyncio.get_running_loop().time() + rest

    def _claim(self, offer: Offer) -> list[int]:
        """Claim the parts that a source reads next, one after the other; none: not now."""
        now = asyncio.get_running_loop().time()
        missing = sorted(self._part.missing)
        free = [n for n in missing if n not in self._claims and self._can(offer, n)]
        if self._is_last(offer):
            free = [n for n in free if not self._others_bring(n)]
        elif offer.source.kind is SourceKind.INTERNET:
            free = [n for n in free if not self._neighbours_bring(n)]
        if not free:
            free = [
                n
                for n in missing
                if len(claims := self._claims.get(n, [])) == 1
                and claims[0].offer is not offer
                and now - claims[0].at > self._overdue_seconds(offer, claims[0].offer)
                and self._can(offer, n)
            ][:1]
        if not free:
            return []
        # Different hosts begin at different places, so that each soon has what the others lack.
        # From the coordinator they come in order, unless they were to come by others, who would all
        # ask for the first one now.
        ordered = self._is_last(offer) and not self._awaited(free[0])
        start = 0 if ordered else hash((id(self), offer.source.name)) % len(free)
        numbers = [free[start]]
        for number in free[start + 1 :]:
            if number != numbers[-1] + 1 or len(numbers) >= self._run_length(offer):
                break
            numbers.append(number)
        for number in numbers:
            self._claims.setdefault(number, []).append(_Claim(offer, now))
        return numbers

    def _overdue_seconds(self, offer: Offer, holder: Offer) -> float:
        """How long a part may take its holder before another source is asked for it, too.

        One that has brought nothing right yet may be sending garbage, slowly: only a whole part
        shows that.
        """
        proven = self._standings.speed(holder.source.name) is not None
        return _SLOW_SECONDS if self._is_last(offer) and proven else STALL_SECONDS

    def _run_length(self, offer: Offer) -> int:
        if not offer.whole():
            return 1
        if len(self._live) == 1:
            return _MOST_PARTS
        speed = self._standings.speed(offer.source.name) or 0.0
        return min(max(1, int(speed * _RUN_SECONDS / LIMITS.blob_part_bytes)), _MOST_PARTS)

    def _release(self, offer: Offer, numbers: list[int]) -> None:
        for number in numbers:
            left = [claim for claim in self._claims.get(number, []) if claim.offer is not offer]
            if left:
                self._claims[number] = left
            else:
                self._claims.pop(number, None)
        self._notify()

    async def _read(self, offer: Offer, numbers: list[int]) -> None:
        """Read parts that follow one another; each is checked when it is whole."""
        source, blob = offer.source, self._part.blob
        is_last = self._is_last(offer)
        start, end = part_place(blob.size, numbers[0])[0], part_place(blob.size, numbers[-1])[1]
        buffer = bytearray(self._begun.pop(numbers[0], b"") if is_last else b"")
        waiting = deque(numbers)
        watch = _StallWatch(patient=is_last)
        came, right = 0, False
        try:
            async with aclosing(source.read(blob, start + len(buffer), end)) as stream:
                while self._part.missing.intersection(waiting):  # others may be faster
                    first, last = part_place(blob.size, waiting[0])
                    if len(buffer) < last - first:
                        chunk = await watch.next_of(stream)
                        buffer += chunk
                        came += len(chunk)
                        self._from_last += len(chunk) if is_last else 0
                        self._count(source.kind, len(chunk))
                        await source.pace(len(chunk))
                        continue
                    data = bytes(buffer[: last - first])
                    del buffer[: last - first]
                    number = waiting.popleft()
                    if number in self._part.missing:
                        self._part.put(number, data)
                        right = True
                        self._progress_at = asyncio.get_running_loop().time()
                        self._came()
                        self._notify()
        except UnreachableError:
            if is_last and waiting:
                self._begun[waiting[0]] = bytes(buffer)
            raise
        if right:
            offer.busy.times = 0
            self._standings.brought(source.name, came, watch.waited)
        elif not is_last:  # others were faster: what it sent may have been anything
            self._let_rest(offer)

    def _drop(self, source: Source, error: Exception) -> None:
        fault = fault_of(error)
        extra = {"source": source.name, "problem": str(error)}
        _LOG.info("fetch", extra=extra)
        if fault is not None:
            self._standings.failed(source.name, fault, asyncio.get_running_loop().time())

    # -- who brings what --------------------------------------------------------------------

    def _is_last(self, offer: Offer) -> bool:
        return offer.source.kind is SourceKind.COORDINATOR

    def _others_bring(self, number: int) -> bool:
        """Whether the coordinator need not send a part: another source will, fast enough."""
        now = asyncio.get_running_loop().time()
        others = [
            offer
            for offer in self._live.values()
            if not self._is_last(offer) and not self._standings.is_shunned(offer.source.name, now)
        ]
        if not any(self._can(offer, number) for offer in others):
            patient = now - self._progress_at < self._patience_seconds()
            return patient and any(offer.soon(number) or offer.can(number) for offer in others)
        speeds = [self._standings.speed(offer.source.name) for offer in others]
        coordinator = self._standings.speed(self._last_name)
        if coordinator is None or None in speeds:
            return True
        return sum(speed or 0.0 for speed in speeds) * _COORDINATOR_COST >= coordinator

    def _neighbours_bring(self, number: int) -> bool:
        """Whether a part need not come from elsewhere: the local network has it, or soon."""
        now = asyncio.get_running_loop().time()
        near = [
            offer
            for offer in self._live.values()
            if offer.source.kind is SourceKind.PEER
            and not self._standings.is_shunned(offer.source.name, now)
        ]
        if any(self._can(offer, number) for offer in near):
            return True
        patient = now - self._progress_at < self._patience_seconds()
        return patient and any(offer.soon(number) for offer in near)

    def _patience_seconds(self) -> float:
        """How long nothing may come before parts are not left to others any more.

        On a slow line a part takes longer: all hosts would fetch all of it themselves.
        """
        speed = self._standings.speed(self._last_name) or float("inf")
        return max(STALL_SECONDS, _PART_TIMES * LIMITS.blob_part_bytes / speed)

    def _waits_for_others(self, offer: Offer) -> bool:
        """Whether a source without a claim may get one when others fail or bring more."""
        return self._is_last(offer) or any(
            self._is_last(other) for other in self._live.values() if other is not offer
        )

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        """Wait until something was brought or dropped, or a claim may be overdue."""
        changed = self._changed
        try:
            async with asyncio.timeout(STALL_SECONDS / _LOOKS):
                await changed.wait()
        except TimeoutError:
            return


class _StallWatch:
    """Waits for the next bytes of a source, and gives up on one that sends too few.

    The time in which we ourselves hold back, because of the user's rate, does not count.
    """

    def __init__(self, *, patient: bool) -> None:
        self._patient = patient
        self.waited = 0.0
        """Seconds in all."""
        self._window_seconds = 0.0
        self._window_bytes = 0

    async def next_of(self, stream: AsyncGenerator[bytes, None]) -> bytes:
        """Return the next bytes.

        Raises:
            StalledError: it sends next to nothing.
            UnreachableError: there are no more, or the connection broke.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        left = None if self._patient else STALL_SECONDS - self._window_seconds
        try:
            async with asyncio.timeout(left):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            raise StalledError(f"It sent nothing for {STALL_SECONDS:g} s.") from error
        if chunk is None:
            raise UnreachableError("It sent fewer bytes than it should.")
        seconds = loop.time() - began
        self.waited += seconds
        self._window_seconds += seconds
        self._window_bytes += len(chunk)
        if self._window_seconds >= STALL_SECONDS * 0.9:
            if self._window_bytes < _LEAST_BYTES and not self._patient:
                raise StalledError(f"It sent {self._window_bytes} bytes in {STALL_SECONDS:g} s.")
            self._window_seconds, self._window_bytes = 0.0, 0
        return chunk


def is_busy(error: Exception) -> bool:
    """Whether a source has no time now, or not a part that it will have."""
    return isinstance(error, Refusal) and error.code is RefusalCode.RATE_LIMITED


def fault_of(error: Exception) -> Fault | None:
    """Return what a source's error says about it; None: nothing that would last."""
    if is_busy(error):
        return None
    if isinstance(error, StalledError):
        return Fault.STALLED
    if isinstance(error, CorruptBlobError | WrongBytesError):
        return Fault.WRONG_BYTES
    if isinstance(error, Refusal):
        return Fault.WRONG_BYTES if error.code is RefusalCode.WRONG_DIGEST else Fault.LACKING
    return Fault.UNREACHABLE
