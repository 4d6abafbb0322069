"""The machine's size."""

from __future__ import annotations

import psutil

from pleb_agent.sensors.machine import free_disk_bytes, read_machine


def test_the_real_machine(tmp_path):
    machine = read_machine()
    assert machine.cores >= 1
    assert machine.memory_bytes > 0
    assert free_disk_bytes(tmp_path) > 0


def test_repeated_reads_use_up_no_files():
    """The page asks at each look at the preferences; agentd may have some 1,000 files open."""
    read_machine()
    before = psutil.Process().num_fds()
    for _ in range(50):
        read_machine()
    assert psutil.Process().num_fds() <= before
