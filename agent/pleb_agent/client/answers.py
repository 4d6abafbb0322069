"""Reading answers: at most so many bytes, and every "no" as a typed error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pleb_agent.client.errors import BadAnswerError
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.messages import RefusalBody

if TYPE_CHECKING:
    import httpx


__all__ = ["raise_for_refusal", "read_bounded", "retry_after_seconds"]

_REFUSAL_BYTES = 16 * 1024
_LONGEST_WAIT_SECONDS = 24 * 3600.0


async def read_bounded(response: httpx.Response, most_bytes: int) -> bytes:
    """Return the body.

    Raises:
        BadAnswerError: it is longer than `most_bytes`.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > most_bytes:
            raise BadAnswerError(
                f"{response.request.url.host} sent more than {most_bytes} bytes where less "
                "was expected; it will be asked again later."
            )
    return bytes(body)


async def raise_for_refusal(response: httpx.Response) -> None:
    """Return if the status is a success.

    Raises:
        Refusal: the coordinator's typed no.
        BadAnswerError: any other failure, for instance a proxy's page.
    """
    if response.is_success:
        return
    wait = retry_after_seconds(response)
    body = await read_bounded(response, _REFUSAL_BYTES)
    try:
        refusal = strict_json.decode(body, RefusalBody)
    except Refusal as error:
        raise BadAnswerError(
            f"{response.request.url.host} answered with status {response.status_code} and no "
            "word of the protocol; check the address, or wait until it is repaired.",
            retry_after_seconds=wait,
        ) from error
    raise Refusal(
        refusal.code,
        _sentence(refusal, response),
        retry_after_seconds=refusal.retry_after_seconds if wait is None else wait,
    )


def retry_after_seconds(response: httpx.Response) -> float | None:
    """Return what `Retry-After` asks for in seconds; None without it, or in its date form."""
    try:
        wait = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(0.0, wait), _LONGEST_WAIT_SECONDS) if math.isfinite(wait) else None


def _sentence(refusal: RefusalBody, response: httpx.Response) -> str:
    if refusal.code is not RefusalCode.CLOCK_SKEW:
        return refusal.message[:500]
    date = response.headers.get("date")
    known = f" (it is {date} there)" if date else ""
    return f"Your clock differs too much from the coordinator's{known}: set it. {refusal.message}"[
        :500
    ]
