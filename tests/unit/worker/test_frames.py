"""Messages through pipes: what arrives is what was sent, or a typed error."""

from __future__ import annotations

import asyncio
import io

import pytest

from pleb_agent.worker.channel import (
    FRAME_BYTES,
    FrameError,
    encode_frame,
    read_frame,
    receive_frame,
)
from pleb_agent.worker.job import Command, Failed, FailureKind, Progress, Reply, Wake

PROGRESS = Progress(steps_done=1, steps_total=2, loss=0.5, compute_seconds=0.1)
FAILED = Failed(kind=FailureKind.NOT_FINITE, message="The loss became nan.")


def test_messages_arrive_in_order_and_then_the_stream_ends() -> None:
    stream = io.BytesIO(encode_frame(PROGRESS) + encode_frame(FAILED))
    assert read_frame(stream, Reply) == PROGRESS
    assert read_frame(stream, Reply) == FAILED
    with pytest.raises(EOFError):
        read_frame(stream, Reply)


@pytest.mark.parametrize("kept", [1, 3, 4, 6])
def test_a_cut_message_is_an_error(kept: int) -> None:
    with pytest.raises(FrameError):
        read_frame(io.BytesIO(encode_frame(PROGRESS)[:kept]), Reply)


def test_a_length_beyond_the_ceiling_is_not_allocated() -> None:
    with pytest.raises(FrameError, match="at most"):
        read_frame(io.BytesIO((FRAME_BYTES + 1).to_bytes(4, "big")), Reply)


def test_a_message_of_another_kind_is_an_error() -> None:
    with pytest.raises(FrameError):
        read_frame(io.BytesIO(encode_frame(Wake())), Reply)
    with pytest.raises(FrameError):
        read_frame(io.BytesIO(encode_frame(PROGRESS)), Command)


def test_the_agent_reads_the_same_frames() -> None:
    async def read() -> tuple[object, object]:
        stream = asyncio.StreamReader()
        stream.feed_data(encode_frame(PROGRESS) + encode_frame(FAILED)[:5])
        stream.feed_eof()
        first = await receive_frame(stream, Reply)
        with pytest.raises(EOFError):
            await receive_frame(stream, Reply)
        return first, PROGRESS

    first, expected = asyncio.run(read())
    assert first == expected


def test_a_frame_of_nested_lists_is_no_message() -> None:
    """A worker that was taken over must not end the agent."""
    body = b"\x82\xa4type\xa5ready\xa1z" + b"\x91" * 100_000 + b"\xc0"
    stream = io.BytesIO(len(body).to_bytes(4, "big") + body)
    with pytest.raises(FrameError):
        read_frame(stream, Reply)
