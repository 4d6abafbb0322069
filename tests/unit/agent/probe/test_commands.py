"""What agentd says to the probe."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import pytest

from pleb_agent.probe.main import Commands

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["linux", "win32"])
def line(request: pytest.FixtureRequest) -> Iterator[tuple[Commands, int]]:
    """The probe's end and agentd's; on Windows a thread goes between."""
    read_end, write_end = os.pipe()
    commands = Commands(read_end, request.param)
    yield commands, write_end
    while not commands.ended:
        hear(commands)
    commands.close()
    os.close(read_end)


def hear(commands: Commands) -> bool:
    assert select.select([commands], [], [], 5)[0], "nothing comes"
    return commands.take()


def test_words_may_come_in_pieces(line: tuple[Commands, int]) -> None:
    commands, agentd = line
    os.write(agentd, b"as")
    assert not hear(commands)
    os.write(agentd, b"k\nwa")
    assert hear(commands)
    assert [commands.closely] == [False]
    os.write(agentd, b"tch\n")
    assert not hear(commands)
    assert [commands.closely] == [True]
    os.write(agentd, b"nonsense\nrelax\n")
    assert not hear(commands)
    assert [commands.closely] == [False]
    assert not commands.ended
    os.close(agentd)


def test_the_end_of_the_input_is_noticed(line: tuple[Commands, int]) -> None:
    commands, agentd = line
    os.close(agentd)
    assert not hear(commands)
    assert commands.ended
