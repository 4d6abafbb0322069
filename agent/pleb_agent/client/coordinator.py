"""The coordinator's endpoints (docs/protocol.md 2) as coroutines."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import httpx
import msgspec

from pleb_agent.client.http import HttpClient, raise_for_refusal
from pleb_agent.client.network import NO_LIMITS
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.direct import DirectParts
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.status import ProjectStatus
from pleb_system.network_errors import BadAnswerError
from pleb_system.transport import REFUSAL_BYTES, is_loopback

if TYPE_CHECKING:
    from pleb_agent.client.network import Network
    from pleb_shared.protocol.ids import AttachLink

__all__ = ["CoordinatorClient"]

_STATUS_BYTES = 4 * 2**20
_MOST_POINTS = 4000


class CoordinatorClient(HttpClient):
    """The client of one coordinator.

    Every method raises a `NetworkError` (try again later) or the coordinator's `Refusal`;
    none retries by itself.
    """

    @classmethod
    def for_link(cls, link: AttachLink, network: Network = NO_LIMITS) -> CoordinatorClient:
        """Return a client for a link's coordinator."""
        return cls(link.base_url, link.certificate, network=network)

    @property
    def is_way_private(self) -> bool:
        """Whether nobody on the way can read what is asked and answered."""
        url = httpx.URL(self.base_url)
        return url.scheme == "https" or is_loopback(url.host)

    def read_as(self, reader: str) -> None:
        """Show with each request who reads a private project: a member, or who was invited.

        Raises:
            InputError: others on the way could read it, too.
        """
        if reader and not self.is_way_private:
            raise InputError(
                f"A private project needs HTTPS, and {self.base_url} is http://: ask who invited "
                "you for a link with https://."
            )
        self.reader = reader

    async def metadata(self, project: str) -> bytes:
        """Return the envelope of the project's metadata."""
        return await self.message("GET", f"/projects/{project}/metadata", LIMITS.metadata_bytes)

    async def hand_in_metadata(self, project: str, envelope: bytes) -> None:
        """Give the coordinator metadata that it has lost."""
        path = f"/projects/{project}/metadata"
        await self.message("POST", path, LIMITS.metadata_bytes, envelope)

    async def status(self, project: str) -> ProjectStatus:
        """Return the project's status (unsigned: for plots, never for decisions).

        Of a very long series it has the newest points.

        Raises:
            BadAnswerError: the answer is no status.
        """
        body = await self.message("GET", f"/projects/{project}/status", _STATUS_BYTES)
        try:
            status = strict_json.decode(body, ProjectStatus, most_bytes=_STATUS_BYTES)
        except Refusal as error:
            message = f"The coordinator's status cannot be read ({error}); trying again later."
            raise BadAnswerError(message) from error
        return msgspec.structs.replace(status, series=status.series[-_MOST_POINTS:])

    async def enrol(self, project: str, envelope: bytes) -> bytes:
        """Return the envelope of the answer."""
        path = f"/projects/{project}/enrol"
        return await self.message("POST", path, LIMITS.message_bytes, envelope)

    async def work(self, project: str, body: bytes, *, wait_seconds: float = 0) -> bytes:
        """Return the envelope of the answer, which may come after `wait_seconds` (long-poll)."""
        path = f"/projects/{project}/work"
        return await self.message("POST", path, LIMITS.message_bytes, body, wait_seconds)

    async def upload_offset(self, token: str) -> tuple[int, bool]:
        """Return how many bytes an upload has, and whether it is complete."""
        allowance = self.timeouts.silence
        async with self._stream("HEAD", f"/uploads/{token}", allowance) as response:
            if response.status_code == 404:
                raise Refusal(RefusalCode.UNKNOWN_UPLOAD, "The upload is no longer known.")
            if response.status_code == 410:
                raise Refusal(RefusalCode.LEASE_EXPIRED, "The lease ended before the upload.")
            await raise_for_refusal(response)
            return _upload_headers(response)

    async def upload_part(self, token: str, offset: int, part: bytes) -> tuple[int, bool]:
        """Send the bytes from `offset` on; return the new offset and whether that was all."""
        allowance = 2 * self.timeouts.silence + self.seconds_for(len(part), self.network.upload)
        headers = {"upload-offset": str(offset)}
        async with self._stream(
            "PATCH", f"/uploads/{token}", allowance, content=part, headers=headers
        ) as response:
            await raise_for_refusal(response)
            return _upload_headers(response)

    async def direct_parts(self, token: str) -> DirectParts:
        """Return which bytes of an upload may go straight into the bucket next.

        Raises:
            BadAnswerError: the answer is none.
        """
        body = await self.message("GET", f"/uploads/{token}/parts", LIMITS.message_bytes)
        try:
            return strict_json.decode(body, DirectParts)
        except Refusal as error:
            message = f"The coordinator's signatures cannot be read ({error})."
            raise BadAnswerError(message) from error

    async def land(self, token: str) -> None:
        """Say that all bytes of an upload are in the bucket."""
        await self.message("POST", f"/uploads/{token}/landed", REFUSAL_BYTES, b"")

    async def upload(
        self,
        token: str,
        file: IO[bytes],
        size: int,
        *,
        part_bytes: int = LIMITS.sent_part_bytes,
    ) -> None:
        """Send what the coordinator does not have yet of the file's `size` bytes, in parts.

        Raises:
            NetworkError: it broke; a later call continues from there.
            Refusal: the bytes are not wanted, or not accepted.
        """
        offset, complete = await self.upload_offset(token)
        while not complete:
            if not 0 <= offset <= size:
                raise BadAnswerError(
                    f"The coordinator counts {offset} of {size} uploaded bytes; the agent tries "
                    "again later."
                )
            file.seek(offset)
            # None is left if the coordinator stopped before it had looked at the whole.
            part = file.read(min(part_bytes, size - offset))
            before = offset
            try:
                offset, complete = await self.upload_part(token, offset, part)
            except Refusal as refusal:
                if refusal.code is not RefusalCode.WRONG_OFFSET:
                    raise
                offset, complete = await self.upload_offset(token)
            if offset <= before and not complete:
                raise BadAnswerError(
                    "The coordinator accepts no more bytes of an upload; the agent tries again "
                    "later."
                )


def _upload_headers(response: httpx.Response) -> tuple[int, bool]:
    try:
        offset = int(response.headers["upload-offset"])  # h11 bounds a head, `int` its digits
    except (KeyError, ValueError) as error:
        raise BadAnswerError(
            "The coordinator did not say how much of the upload it has."
        ) from error
    return offset, response.headers.get("upload-complete") == "?1"
