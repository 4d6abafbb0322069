"""Quotas of control groups and hybrid processors, on trees like the kernel's."""

from __future__ import annotations

import pytest

from pleb_agent.core.preferences import default_preferences
from pleb_agent.doctor.checks import check_processors
from pleb_agent.sensors.machine import Machine, usable_cores
from pleb_agent.sensors.processors import (
    allowed_processors,
    fast_processors,
    processor_quota,
)


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("groups", "quota"),
    [
        ({}, None),
        ({"a/b/cpu.max": "max 100000"}, None),
        ({"a/b/cpu.max": "150000 100000"}, 1.5),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 0.5),
        ({"a/b/cpu.max": "200000 100000", "a/cpu.max": "800000 100000"}, 2.0),
        ({"cpu.max": "300000 100000"}, 3.0),  # in a container its own group is the root
        ({"a/b/cpu.max": "nonsense"}, None),
        ({"a/b/cpu.max": "100000 0"}, None),
    ],
)
def test_the_smallest_quota_of_the_groups_counts(tmp_path, groups, quota):
    files = {f"sys/fs/cgroup/{name}": text for name, text in groups.items()}
    tree(tmp_path, {"proc/self/cgroup": "0::/a/b"} | files)
    assert processor_quota(tmp_path) == quota


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert processor_quota(tmp_path) is None
    tree(tmp_path, {"proc/self/cgroup": "4:cpu:/a"})
    assert processor_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("processors", "quota", "cores"),
    [(8, None, 8), (8, 1.5, 1), (8, 0.5, 1), (8, 4.0, 4), (8, 16.0, 8), (1, None, 1)],
)
def test_threads_do_not_wait_for_a_quota(processors, quota, cores):
    assert usable_cores(processors, quota) == cores


@pytest.mark.parametrize(
    ("files", "allowed", "fast"),
    [
        ({}, range(8), None),
        ({"cpu_core/cpus": "0-3", "cpu_atom/cpus": "4-11"}, range(12), 4),
        ({"cpu_core/cpus": "0-3,8", "cpu_atom/cpus": "4-7"}, range(9), 5),
        ({"cpu_core/cpus": "0-3", "cpu_atom/cpus": "4-11"}, {1, 2, 3}, None),
        ({"cpu_core/cpus": "0-3", "cpu_atom/cpus": "4-11"}, {4, 5}, None),
        ({"cpu_core/cpus": "0-3"}, range(4), None),
        ({f"system/cpu/cpu{n}/cpu_capacity": "1024" for n in range(4)}, range(4), None),
        (
            {f"system/cpu/cpu{n}/cpu_capacity": "1024" if n < 2 else "446" for n in range(8)},
            range(8),
            2,
        ),
        ({"system/cpu/cpu0/cpu_capacity": "1024"}, range(4), None),
    ],
)
def test_which_processors_are_fast(tmp_path, files, allowed, fast):
    tree(tmp_path, {f"sys/devices/{name}": text for name, text in files.items()})
    assert fast_processors(set(allowed), tmp_path) == fast


def test_the_real_ones():
    allowed = allowed_processors()
    assert allowed
    assert (fast_processors(allowed) or 1) >= 1


@pytest.mark.parametrize(
    ("cores", "fast", "threads"),
    [(12, None, 6), (12, 4, 4), (24, 16, 12), (1, None, 1), (2, 1, 1)],
)
def test_slow_processors_do_not_hold_up_the_fast_ones(cores, fast, threads):
    assert default_preferences(cores, fast).threads == threads


@pytest.mark.parametrize(
    ("machine", "is_well", "said"),
    [
        (Machine(8, 2**33, None, 8), True, "use 8 processors; without a choice of yours"),
        (Machine(2, 2**33, None, 8, 2.5), True, "8 processors, of which a control group allows 2"),
        (Machine(12, 2**33, 4, 12), True, "12 processors, 4 of them fast; without a choice of"),
        (Machine(12, 2**33, 4, 12), True, "it computes with 4 threads."),
        (Machine(1, 2**33, None, 8, 0.5), False, "allow at least one processor"),
    ],
)
def test_the_doctor_says_what_it_makes_of_them(machine, is_well, said):
    finding = check_processors(machine)
    assert finding.is_well is is_well
    assert said in finding.sentence
