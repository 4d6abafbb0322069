"""Which of the signed files is the right one."""

from __future__ import annotations

import pytest

from pleb_agent.updates.offers import (
    AgentFacts,
    RuntimeFacts,
    Target,
    is_newer,
    newest_release,
    newest_runtimes,
)

HERE = "linux-x86_64"


def agent(version: str, platform: str = HERE) -> Target:
    facts = AgentFacts(version=version, platform=platform, unpacked_bytes=1, files=1)
    return Target(f"agent/{version}", 1, "0" * 64, facts)


def runtime(kind: str, torch: str, python: str = "3.11", platform: str = HERE) -> Target:
    facts = RuntimeFacts(
        kind=kind, python=python, torch=torch, platform=platform, unpacked_bytes=1, files=1
    )
    return Target(f"runtime/{kind}-{torch}-{python}", 1, "0" * 64, facts)


@pytest.mark.parametrize(
    ("version", "than", "expected"),
    [
        ("0.2.0", "0.1.9", True),
        ("0.10.0", "0.9.0", True),
        ("0.1.0", "0.1.0", False),
        ("0.1.0", "0.2.0", False),
        ("1.0", "0.99.99", True),
        ("2.13.0+cpu", "2.13.0", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version, than, expected):
    assert is_newer(version, than) is expected


def test_the_newest_release_for_this_system_is_chosen():
    targets = [agent("0.2.0"), agent("0.10.0"), agent("0.11.0", "macos-arm64"), agent("0.9.0")]
    found = newest_release(targets, HERE, "0.1.0", frozenset())
    assert found == agent("0.10.0")


def test_a_release_that_did_not_start_is_passed_over():
    targets = [agent("0.2.0"), agent("0.3.0")]
    assert newest_release(targets, HERE, "0.1.0", frozenset({"0.3.0"})) == agent("0.2.0")
    assert newest_release(targets, HERE, "0.2.0", frozenset({"0.3.0"})) is None


def test_each_kind_of_runtime_is_chosen_for_this_python():
    targets = [
        runtime("cpu", "2.9.1"), runtime("cpu", "2.13.0"), runtime("cpu", "2.14.0", "3.13"),
        runtime("cu130", "2.12.0"), runtime("rocm7", "2.13.0", platform="windows-amd64"),
        agent("9.0"),
    ]  # fmt: skip
    found = newest_runtimes(targets, HERE, "3.11")
    assert found == {"cpu": runtime("cpu", "2.13.0"), "cu130": runtime("cu130", "2.12.0")}
