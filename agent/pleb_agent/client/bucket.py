"""Results go straight into the coordinator's bucket, where its metadata name one.

Whatever the bucket does, nothing is lost: what it does not take goes to the coordinator.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import IO, TYPE_CHECKING, Final

from pleb_agent.client.http import SHARERS, HttpClient
from pleb_shared.protocol.direct import part_place, sealed_part
from pleb_system.network_errors import BadAnswerError, NetworkError

if TYPE_CHECKING:
    from pleb_agent.client.coordinator import CoordinatorClient

__all__ = ["BucketClient", "BucketFailedError", "put_result"]

_SLOWEST_BYTES_PER_SECOND: Final = 8 * 1024
"""A bucket that takes less is left alone. It is four times what a coordinator may be slow."""
_FAILURES: Final = 2
"""In a row, after which the coordinator gets the rest."""


class BucketFailedError(NetworkError):
    """The bucket does not take the result."""


class BucketClient(HttpClient):
    """The client of one bucket. It has no key: the coordinator signs each request.

    Redirects are not followed, and nothing that the bucket says is read.
    """

    async def put(self, place: str, query: str, body: bytes) -> None:
        """Put an object where the query says that it may go.

        Raises:
            NetworkError: the bucket has not taken it.
        """
        allowance = self.timeouts.silence + len(body) / _SLOWEST_BYTES_PER_SECOND
        allowance += SHARERS * self.network.upload.seconds_for(len(body))
        digest = hashlib.md5(body, usedforsecurity=False).digest()  # what buckets check themselves
        headers = {"content-md5": base64.b64encode(digest).decode()}
        async with self._stream(
            "PUT", f"/{place}?{query}", allowance, content=body, headers=headers
        ) as response:
            if not response.is_success:
                host = response.request.url.host
                raise BadAnswerError(f"The bucket at {host} answered {response.status_code}.")


async def put_result(
    coordinator: CoordinatorClient, bucket: BucketClient, token: str, file: IO[bytes], size: int
) -> bool:
    """Put what is not there yet of a result's `size` bytes into the bucket, in parts.

    Returns:
        Whether all of it is there, and the coordinator knows; False: the coordinator wants it.

    Raises:
        BucketFailedError: the bucket does not take it; the coordinator may get the rest.
        NetworkError: the coordinator cannot be reached; a later call continues from there.
        Refusal: the bytes are not wanted.
    """
    most, failures = -1, 0
    problem: NetworkError | None = None
    while True:
        found = await coordinator.direct_parts(token)
        if found.offset >= size:
            await coordinator.land(token)
            return True
        if not found.parts:
            return False
        if found.offset > most:
            most, failures = found.offset, 0
        else:
            failures += 1
            if failures >= _FAILURES:
                raise BucketFailedError(f"The bucket takes no more of a result. {problem or ''}")
            await asyncio.sleep(failures)
        at = found.offset
        try:
            for part in found.parts:
                file.seek(at)
                data = file.read(min(part.size, size - at))
                await bucket.put(part_place(token, at), part.query, sealed_part(data))
                at += len(data)
        except NetworkError as error:
            problem = error
