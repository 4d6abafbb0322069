"""What the agent sees of its worker, and when that is too much."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from pleb_agent.worker.job import Bounds, most_threads
from pleb_agent.worker.watch import Usage, excess, measure

if TYPE_CHECKING:
    from pathlib import Path

BOUNDS = Bounds(memory_bytes=2**30, file_bytes=2**20, threads=4)
IDLE = Usage(resident_bytes=2**28, threads=2, disk_bytes=0, units=1)


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (IDLE, ""),
        (Usage(resident_bytes=2**30 + 2**28, threads=9, disk_bytes=3 * 2**20, units=1), ""),
        (Usage(resident_bytes=2**31, threads=2, disk_bytes=0, units=1), "memory"),
        (Usage(2**28, most_threads(4) + 1, 0, 1), "threads"),
        (Usage(2**28, 2, 20 * 2**20, 1), "disk"),
        (Usage(2**28, 2, 20 * 2**20, 2), ""),  # two units' files
    ],
)
def test_what_is_too_much(usage: Usage, said: str) -> None:
    sentence = excess(usage, IDLE, BOUNDS)
    assert said in sentence
    assert bool(sentence) == bool(said)


def test_files_are_counted_by_what_they_take_and_links_are_not_followed(tmp_path: Path) -> None:
    out, log = tmp_path / "out" / "1", tmp_path / "log"
    out.mkdir(parents=True)
    (tmp_path / "in" / "1").mkdir(parents=True)
    (out / "delta.bin").write_bytes(bytes(10**6))
    (out / "link").symlink_to("/usr")
    log.write_bytes(bytes(10**5))
    usage = measure(os.getpid(), tmp_path, log)
    assert 1_100_000 <= usage.disk_bytes < 1_200_000
    assert usage.units == 1
    assert usage.resident_bytes > 2**20
    assert usage.threads >= 1


def test_a_great_many_files_are_too_many_whatever_is_in_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for number in range(10_050):
        (out / str(number)).touch()
    bounds = msgspec.structs.replace(BOUNDS, file_bytes=2**40)
    assert "disk" in excess(measure(os.getpid(), tmp_path, tmp_path / "log"), IDLE, bounds)


def test_a_process_that_has_ended_is_not_measured(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(ProcessLookupError):
        measure(ended.pid, tmp_path, tmp_path / "log")
