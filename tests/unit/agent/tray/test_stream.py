"""Bytes of agentd's event stream, in any pieces."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_agent.tray.agentd import BrokenStreamError, EventStream

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def test_the_newest_complete_status_is_taken() -> None:
    stream = EventStream()

    assert stream.feed(HEAD + event({"n": 1}) + event({"n": 2}) + b'data: {"n"') == {"n": 2}
    assert stream.feed(b": 3}\n") is None
    assert stream.feed(b"\n") == {"n": 3}


@given(cuts=st.lists(st.integers(0, 200), max_size=12))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    data = HEAD + b": alive\n\n" + event({"n": 1}) + event({"n": 2, "text": "é\n"})
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    stream, newest = EventStream(), None
    for start, end in itertools.pairwise(edges):
        newest = stream.feed(data[start:end]) or newest

    assert newest == {"n": 2, "text": "é\n"}


@pytest.mark.parametrize("data", [b": alive\n\n", b"event: x\n\n", b"data: 3\n\n", b""])
def test_what_carries_no_status_changes_nothing(data: bytes) -> None:
    stream = EventStream()
    stream.feed(HEAD)

    assert stream.feed(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        HEAD + b"data: {\n\n",
        HEAD + b"x" * (9 * 2**20),
    ],
)
def test_what_is_not_agentd_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenStreamError):
        EventStream().feed(data)


def test_a_status_of_several_lines_is_one() -> None:
    found: Any = EventStream().feed(HEAD + b'data: {"a":\ndata: 1}\n\n')
    assert found == {"a": 1}
