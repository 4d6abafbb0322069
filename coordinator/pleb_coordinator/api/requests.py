"""Reading requests: bodies of bounded length, and the checks that all statements share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from starlette.requests import ClientDisconnect

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_system.durations import shown_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from pleb_coordinator.api.counters import RequestCounters

__all__ = ["Statement", "address_of", "check_statement", "choose_protocol", "read_body"]

_NEWEST: Final = max(PROTOCOLS)
_MOST_HELD_BYTES: Final = 512 * 2**20
"""Of all unfinished bodies together: slow senders must not fill the memory."""
_SMALL_BYTES: Final = 64 * 1024
"""A body up to this size is read even then, so that hosts continue while large bodies wait."""
_PATIENCE_SECONDS: Final = 30.0
_SLOWEST_BYTES_PER_SECOND: Final = 512
"""Half of the least that an agent's preferences allow."""
_LENGTH_DIGITS: Final = 15


class Statement(Protocol):
    """What every signed request has."""

    @property
    def protocols(self) -> Sequence[int]:
        """The protocol versions that its sender supports."""

    @property
    def issued_at(self) -> int:
        """When it was signed."""

    @property
    def expires_at(self) -> int:
        """When it expires."""


async def read_body(request: Request, most_bytes: int, counters: RequestCounters) -> bytes:
    """Return the body.

    Raises:
        Refusal: `too_large`: it has more than `most_bytes` bytes, or says that it has.
            `rate_limited`: it comes too slowly, or too many large ones are being received.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > _LENGTH_DIGITS or int(length) > most_bytes):
        raise _too_large(length[:_LENGTH_DIGITS], most_bytes)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS) as patience:
            body = await _read_bounded(request, most_bytes, counters, patience)
    except TimeoutError as error:
        message = "The body came too slowly: send it again."
        raise Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=10) from error
    counters.bytes_received += len(body)
    return body


async def _read_bounded(
    request: Request, most_bytes: int, counters: RequestCounters, patience: asyncio.Timeout
) -> bytes:
    begun = asyncio.get_running_loop().time()
    parts: list[bytes] = []
    size = 0
    try:
        more = True
        while more:
            event = await request.receive()
            if event["type"] == "http.disconnect":
                raise ClientDisconnect
            part, more = event.get("body", b""), event.get("more_body", False)
            size += len(part)
            counters.body_bytes_held += len(part)
            if size > most_bytes:
                raise _too_large(str(size), most_bytes)
            if more:
                patience.reschedule(begun + _PATIENCE_SECONDS + size / _SLOWEST_BYTES_PER_SECOND)
            if counters.body_bytes_held > _MOST_HELD_BYTES and size > _SMALL_BYTES:
                message = "Too many large bodies are being received: send it again in a moment."
                raise Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=5)
            parts.append(part)
    finally:
        counters.body_bytes_held -= size
    return parts[0] if len(parts) == 1 else b"".join(parts)


def address_of(request: Request) -> str:
    """Return the network address that the request came from."""
    return request.client.host if request.client else ""


def check_statement(statement: Statement, now: float) -> None:
    """Check the times of a signed request against the coordinator's clock.

    Raises:
        Refusal: `clock_skew`, `expired`, `malformed` (it lives too long).
    """
    ahead = statement.issued_at - now
    if abs(ahead) > LIMITS.clock_tolerance_seconds:
        side = "ahead of" if ahead > 0 else "behind"
        off = shown_duration(abs(ahead))
        message = f"Your clock is {off} {side} the coordinator's: correct it."
        raise Refusal(RefusalCode.CLOCK_SKEW, message)
    if not 0 <= statement.expires_at - statement.issued_at <= LIMITS.request_lifetime_seconds:
        most = LIMITS.request_lifetime_seconds
        message = f"A request may live for at most {most} s after it was issued: sign it again."
        raise Refusal(RefusalCode.EXPIRED, message)
    if statement.expires_at < now:
        ago = shown_duration(now - statement.expires_at)
        message = (
            f"The request expired {ago} ago: sign it again, and check if your clock is behind."
        )
        raise Refusal(RefusalCode.EXPIRED, message)


def choose_protocol(statement: Statement) -> int:
    """Return the highest protocol version that both sides support.

    Raises:
        Refusal: `unsupported_protocol`, with who must update.
    """
    common = set(statement.protocols) & set(PROTOCOLS)
    if common:
        return max(common)
    if max(statement.protocols) > _NEWEST:
        who = "the coordinator must be updated"
    else:
        who = "please update your program"
    message = f"No protocol version is supported by both sides: {who}."
    raise Refusal(RefusalCode.UNSUPPORTED_PROTOCOL, message)


def _too_large(size: str, most_bytes: int) -> Refusal:
    message = f"The body has {size} bytes or more; at most {most_bytes} are read here."
    return Refusal(RefusalCode.TOO_LARGE, message)
