"""`pleb-agent doctor`: tries what the agent needs and says what to fix."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pleb_agent.doctor.checks import (
    Finding,
    check_cards,
    check_device,
    check_home,
    check_processors,
    check_project,
    check_session,
    check_worker,
)
from pleb_agent.journal.journal import Journal, JournalError
from pleb_agent.sensors.machine import read_machine
from pleb_system.exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse

    from pleb_agent.app.home import Home
    from pleb_system.command_line import Output

__all__ = ["doctor"]


def doctor(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Print every finding, or write them with the log to a bundle that others can judge."""
    home.prepare()
    findings = [
        *check_home(home),
        check_processors(read_machine()),
        *asyncio.run(check_device()),
        *asyncio.run(check_cards(home)),
        *check_worker(),
        *asyncio.run(check_session(home)),
        *asyncio.run(_projects(home)),
    ]
    if options.bundle is not None:
        from pleb_agent.doctor.bundle import write_bundle

        names = write_bundle(home, findings, options.bundle)
        value = {"bundle": str(options.bundle), "parts": names}
        output.result(value, f"{options.bundle} has {', '.join(names)}; read it before sending it.")
        return 0
    is_well = all(finding.is_well for finding in findings)
    lines = [
        f"{'ok   ' if finding.is_well else 'FAULT'} {finding.name}: {finding.sentence}"
        for finding in findings
    ]
    output.result({"well": is_well, "findings": [vars(one) for one in findings]}, lines)
    return 0 if is_well else ExitCode.FAULT_FOUND


async def _projects(home: Home) -> list[Finding]:
    if not home.journal.exists():
        return []
    try:
        journal = Journal(home.journal)
    except JournalError as error:
        return [Finding("journal", is_well=False, sentence=str(error))]
    try:
        return [await check_project(row) for row in journal.projects()]
    finally:
        journal.close()
