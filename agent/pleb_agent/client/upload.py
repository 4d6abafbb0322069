"""Sending a delta in parts, going on after breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.client.errors import BadAnswerError
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from pleb_agent.client.coordinator import CoordinatorClient

__all__ = ["upload_file"]


async def upload_file(
    client: CoordinatorClient,
    token: str,
    file: IO[bytes],
    size: int,
    *,
    part_bytes: int = LIMITS.upload_part_bytes,
    on_progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Send what the coordinator does not have yet of the file's `size` bytes.

    Raises:
        NetworkError: it broke; a later call goes on from there.
        Refusal: the bytes are not wanted, or not taken.
    """
    offset, complete = await client.upload_offset(token)
    while not complete:
        file.seek(_within(offset, size))
        part = file.read(min(part_bytes, size - offset))
        before = offset
        try:
            offset, complete = await client.upload_part(token, offset, part)
        except Refusal as refusal:
            if refusal.code is not RefusalCode.WRONG_OFFSET:
                raise
            offset, complete = await client.upload_offset(token)
        if offset <= before and not complete:
            raise BadAnswerError("The coordinator takes no more bytes of an upload; later again.")
        on_progress(offset)


def _within(offset: int, size: int) -> int:
    if not 0 <= offset < size:
        raise BadAnswerError(
            f"The coordinator counts {offset} of {size} uploaded bytes; later again."
        )
    return offset
