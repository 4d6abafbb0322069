"""In CI a test that did not run is a failure: a skip there hides a missing set-up step."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _pytest.terminal import TerminalReporter


def _tests_that_did_not_run(reporter: TerminalReporter | None) -> Sequence[object]:
    if reporter is None or os.environ.get("CI") != "true":
        return ()
    return [*reporter.stats.get("skipped", ()), *reporter.stats.get("xfailed", ())]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turns a green session with skipped or xfailed tests red."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.exitstatus == pytest.ExitCode.OK and _tests_that_did_not_run(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Says why the session is red although no test failed."""
    if count := len(_tests_that_did_not_run(terminalreporter)):
        terminalreporter.write_line(
            f"CI=true: {count} skipped or xfailed; every test must run in CI.", red=True
        )
