"""HTTP as the TUF client and the downloads use it: the user's proxy, trust store and time-outs."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
from tuf.api.exceptions import DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

from pleb_agent.updates.errors import SourceUnreachableError
from pleb_system.transport import open_http

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HttpxFetcher", "Route", "network_errors"]

_CHUNK_BYTES: Final = 2**16


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


@contextmanager
def network_errors(url: str) -> Iterator[None]:
    """Turn errors of `httpx` into ours."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
        raise SourceUnreachableError(
            f"The updates at {url} cannot be reached ({str(error) or 'no answer in time'}); "
            "it will be tried again, and what has arrived is kept."
        ) from error
