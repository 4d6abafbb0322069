"""HTTP for signed files: TUF metadata, and downloads that resume and count only when verified.

Both use the user's proxy, trust store and time-outs.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
from tuf.api.exceptions import DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

from pleb_agent.updates.errors import SourceUnreachableError, UntrustedSourceError
from pleb_system.transport import open_http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pleb_agent.updates.offers import Target

__all__ = ["HttpxFetcher", "Route", "download"]

_ATTEMPTS: Final = 4
_PAUSE_SECONDS: Final = 1.0
_CHUNK_BYTES: Final = 2**16
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
    download = _Download(client, url, target, path, on_progress)
    begun_before = download.size() > 0
    while True:
        await download.fill()
        if await asyncio.to_thread(_verify, path, target.sha256):
            return
        if not begun_before:
            raise UntrustedSourceError(
                f"{target.path} is not the file that was signed: it was deleted. If this "
                "happens again, report it to the publisher."
            )
        begun_before = False  # an earlier attempt may have left a wrong beginning: once more


class _Download:
    """A file that is being filled."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        target: Target,
        path: Path,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._client = client
        self._url = url
        self._target = target
        self._path = path
        self._on_progress = on_progress
        self._reported = 0

    def size(self) -> int:
        """Return how many bytes are there."""
        return self._path.stat().st_size if self._path.exists() else 0

    async def fill(self) -> None:
        """Append until the size is right; a connection that breaks is followed by another one."""
        if self.size() > self._target.bytes_total:
            self._path.unlink()
        idle_attempts = 0
        while (before := self.size()) < self._target.bytes_total:
            try:
                await self._append(before)
            except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
                idle_attempts = 0 if self.size() > before else idle_attempts + 1
                if idle_attempts == _ATTEMPTS:
                    raise SourceUnreachableError(
                        f"The updates at {self._url} cannot be reached "
                        f"({str(error) or 'no answer in time'}); it will be tried again, and "
                        "what has arrived is kept."
                    ) from error
                await asyncio.sleep(_PAUSE_SECONDS * (idle_attempts + 1))

    async def _append(self, done: int) -> None:
        """Make one request for what is missing behind the first `done` bytes.

        Raises:
            httpx.HTTPError: the answer cannot be used, or it broke off.
        """
        total = self._target.bytes_total
        headers = {"range": f"bytes={done}-"} if done else {}
        async with self._client.stream("GET", self._url, headers=headers) as response:
            if response.status_code == httpx.codes.OK:
                done = 0
            elif response.status_code != httpx.codes.PARTIAL_CONTENT or not response.headers.get(
                "content-range", ""
            ).startswith(f"bytes {done}-{total - 1}/"):
                raise httpx.ReadError(f"status {response.status_code}")
            with self._path.open("r+b" if done else "wb") as file:
                file.truncate(done)
                file.seek(done)
                async for chunk in response.aiter_raw():
                    done += len(chunk)
                    if done > total:
                        raise UntrustedSourceError(
                            f"{self._target.path} is longer than what was signed; report it to "
                            "the publisher."
                        )
                    file.write(chunk)
                    if done - self._reported >= _PROGRESS_BYTES or done == total:
                        self._reported = done
                        self._on_progress(done, total)
        if done < total:
            raise httpx.ReadError("it broke off")


def _verify(path: Path, sha256: str) -> bool:
    """Return whether the file has this digest; a file that has not is deleted."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        path.unlink()
    return digest == sha256


@dataclass(frozen=True)
class Route:
    """How this PC reaches the internet; what runs on this PC is never asked by a proxy."""

    proxy: str = ""
    """As the preference: empty: what the system says; `none`: no proxy; else its address."""
    connect_seconds: float = 10.0
    silence_seconds: float = 30.0
    """Without a byte for this long, a connection counts as dead."""

    def client(self, url: str) -> httpx.Client:
        """Return a client for what lies below `url`.

        Raises:
            InputError: the proxy's address cannot be used.
        """
        return open_http(httpx.Client, httpx.URL(url), proxy=self.proxy, **self._options())

    def async_client(self, url: str) -> httpx.AsyncClient:
        """Return the same for an event loop."""
        return open_http(httpx.AsyncClient, httpx.URL(url), proxy=self.proxy, **self._options())

    def _options(self) -> dict[str, Any]:
        timeout = httpx.Timeout(self.silence_seconds, connect=self.connect_seconds)
        return {"timeout": timeout, "follow_redirects": True}


class HttpxFetcher(FetcherInterface):
    """Fetches metadata; TUF itself bounds how much of it is read."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def _fetch(self, url: str) -> Iterator[bytes]:
        """Yield the body's bytes.

        Raises:
            DownloadHTTPError: another status than 200.
            SlowRetrievalError: silence for too long.
        """
        try:
            with self._client.stream("GET", url) as response:
                if response.status_code != httpx.codes.OK:
                    status = response.status_code
                    raise DownloadHTTPError(f"{url} answers with status {status}", status)
                yield from response.iter_raw(_CHUNK_BYTES)
        except httpx.TimeoutException as error:
            raise SlowRetrievalError(f"{url} does not answer in time") from error
