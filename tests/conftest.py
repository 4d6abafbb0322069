"""What holds for all tests: files in memory, one thread, long ones first, none skipped in CI."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings

from pleb_system.start_up import loading

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from _pytest.terminal import TerminalReporter


_MEMORY: Final = Path("/dev/shm")
_ROOM_BYTES: Final = 4 * 2**30


def _takes_files_of_tests(folder: Path) -> bool:
    """Whether the folder exists, has room, and lets programs that tests write be started."""
    if sys.platform != "linux" or not folder.is_dir():
        return False
    allows_programs = not os.statvfs(folder).f_flag & os.ST_NOEXEC
    return allows_programs and shutil.disk_usage(folder).free >= _ROOM_BYTES


# Every commit of a coordinator or an agent waits for the disk, which takes half of the tests' time
# where others use the disk, too; and no test cuts the power. The folders of `tmp_path` go there.
if _takes_files_of_tests(_MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))


# A worker computes on one thread, and what this process computes must have the same bits.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How fast the machine is says nothing about the code: no example has a deadline.
settings.register_profile("any-speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-speed")

_LONG: Final = (
    "tests/e2e/test_project_life.py",
    "tests/e2e/test_project_try.py",
    "tests/e2e/test_kills.py",
    "tests/soak/test_operators.py::test_hostile_calls_are_refused_or_harmless",
    "tests/integration/test_resume_bits.py",
    "tests/e2e/",
    "tests/integration/test_worker_",
    "tests/integration/test_agentd_",
    "tests/integration/test_connection_bounds.py",
    "tests/integration/",
)
"""Where the long tests are, the longest first."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from what collecting the tests makes: all of it stays."""
    with loading():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long tests first: of several processes none is left alone with one at the end."""

    def place(item: pytest.Item) -> int:
        found = (n for n, name in enumerate(_LONG) if item.nodeid.startswith(name))
        return next(found, len(_LONG))

    items.sort(key=place)


def _tests_that_did_not_run(reporter: TerminalReporter | None) -> Sequence[object]:
    if reporter is None or os.environ.get("CI") != "true":
        return ()
    return [*reporter.stats.get("skipped", ()), *reporter.stats.get("xfailed", ())]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a green session with skipped or xfailed tests red: a skip hides a missing set-up."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.exitstatus == pytest.ExitCode.OK and _tests_that_did_not_run(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Says why the session is red although no test failed."""
    if count := len(_tests_that_did_not_run(terminalreporter)):
        terminalreporter.write_line(
            f"CI=true: {count} skipped or xfailed; every test must run in CI.", red=True
        )
