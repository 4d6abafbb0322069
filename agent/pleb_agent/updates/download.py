"""Download of one signed file: goes on where it broke off, and counts only when it is verified."""

from __future__ import annotations

import asyncio
import hashlib
from typing import IO, TYPE_CHECKING, Final

import httpx

from pleb_agent.updates.errors import SourceUnreachableError, UntrustedSourceError
from pleb_agent.updates.fetcher import network_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_agent.updates.offers import Target

__all__ = ["download"]

_ATTEMPTS: Final = 4
_PAUSE_SECONDS: Final = 1.0
_PROGRESS_BYTES: Final = 2**20


async def download(
    client: httpx.AsyncClient,
    url: str,
    target: Target,
    path: Path,
    on_progress: Callable[[int, int], None],
) -> None:
    """Fill `path` with the target's bytes; what is there already counts as its beginning.

    `on_progress` gets (bytes there, bytes in all), about once a MiB.

    Raises:
        SourceUnreachableError: broken off again and again; `path` keeps what has arrived.
        UntrustedSourceError: other bytes than the signed ones; `path` is deleted.
    """
    arrival = _Arrival(target, path, on_progress)
    begun_before = arrival.size() > 0
    while True:
        await _fill(client, url, arrival)
        if await asyncio.to_thread(arrival.is_right):
            return
        arrival.throw_away()
        if not begun_before:
            raise UntrustedSourceError(
                f"{target.path} is not the file that was signed: it was thrown away. If this "
                "happens again, tell the publisher."
            )
        begun_before = False  # an older try may have left a wrong beginning: once more


class _Arrival:
    """The file that fills."""

    def __init__(self, target: Target, path: Path, on_progress: Callable[[int, int], None]) -> None:
        self.target = target
        self._path = path
        self._on_progress = on_progress
        self._told = 0

    def size(self) -> int:
        """Return how many bytes are there."""
        return self._path.stat().st_size if self._path.exists() else 0

    def throw_away(self) -> None:
        """Begin from nothing."""
        self._path.unlink(missing_ok=True)

    def is_right(self) -> bool:
        """Whether these are the signed bytes."""
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.target.sha256

    def open_at(self, offset: int) -> IO[bytes]:
        """Return the file, to be written from `offset` on; what is behind it is cut off."""
        file = self._path.open("r+b" if offset else "wb")
        file.truncate(offset)
        file.seek(offset)
        return file

    def tell(self, done: int) -> None:
        """Say how far it is, about once a MiB and at the end."""
        if done - self._told >= _PROGRESS_BYTES or done == self.target.bytes_total:
            self._told = done
            self._on_progress(done, self.target.bytes_total)


async def _fill(client: httpx.AsyncClient, url: str, arrival: _Arrival) -> None:
    """Append until the size is right; a connection that breaks is followed by another one."""
    if arrival.size() > arrival.target.bytes_total:
        arrival.throw_away()
    idle_attempts = 0
    while (before := arrival.size()) < arrival.target.bytes_total:
        try:
            with network_errors(url):
                await _append(client, url, arrival)
        except SourceUnreachableError:
            idle_attempts = 0 if arrival.size() > before else idle_attempts + 1
            if idle_attempts == _ATTEMPTS:
                raise
            await asyncio.sleep(_PAUSE_SECONDS * (idle_attempts + 1))


async def _append(client: httpx.AsyncClient, url: str, arrival: _Arrival) -> None:
    """Make one request for what is missing."""
    total = arrival.target.bytes_total
    done = arrival.size()
    headers = {"range": f"bytes={done}-"} if done else {}
    async with client.stream("GET", url, headers=headers) as response:
        done = _starting_point(response, total, done)
        with arrival.open_at(done) as file:
            async for chunk in response.aiter_raw():
                done += len(chunk)
                if done > total:
                    raise UntrustedSourceError(
                        f"{arrival.target.path} is longer than what was signed; tell the publisher."
                    )
                file.write(chunk)
                arrival.tell(done)
    if done < total:
        raise httpx.ReadError("it broke off")


def _starting_point(response: httpx.Response, total: int, asked: int) -> int:
    """Return where the answer's first byte belongs.

    Raises:
        httpx.HTTPError: the answer is no use.
    """
    if response.status_code == httpx.codes.OK:
        return 0
    shown = response.headers.get("content-range", "")
    if response.status_code == httpx.codes.PARTIAL_CONTENT and shown.startswith(
        f"bytes {asked}-{total - 1}/"
    ):
        return asked
    raise httpx.ReadError(f"status {response.status_code}")
