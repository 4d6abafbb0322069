"""The order of a host's requests: each is served once; the last one may be repeated."""

from __future__ import annotations

from enum import Enum

from pleb_shared.errors import Refusal, RefusalCode

__all__ = ["Order", "check_sequence"]


class Order(Enum):
    """Whether a request is new or repeats the last one."""

    FRESH = "fresh"
    REPEATED = "repeated"
    """The last request again: the stored reply is the answer."""


def check_sequence(last: int, last_digest: str, sequence: int, digest: str) -> Order:
    """Return whether a request is new, given the digests of its and the last one's bytes.

    Raises:
        Refusal: `stale_sequence` or `sequence_reused`.
    """
    if sequence > last:
        return Order.FRESH
    if sequence < last:
        message = (
            f"Request {sequence} came after request {last}: start from sequence {last + 1}. "
            "Is the same host key in use on two PCs?"
        )
        raise Refusal(RefusalCode.STALE_SEQUENCE, message)
    if digest != last_digest:
        message = f"Sequence {sequence} was used for another request: use {last + 1}."
        raise Refusal(RefusalCode.SEQUENCE_REUSED, message)
    return Order.REPEATED
