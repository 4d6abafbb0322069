"""`pleb-agent doctor`: tries what the agent needs and says what to repair."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from pleb_agent.app.checkup import Finding, check_home, check_projects, check_session, check_worker
from pleb_agent.journal.journal import Journal

if TYPE_CHECKING:
    import argparse

    from pleb_agent.app.home import Home

__all__ = ["doctor"]

_FAULT: Final = 8


def doctor(home: Home, arguments: argparse.Namespace) -> int:
    """Print every finding; return 8 if one is not well."""
    home.prepare()
    findings = [
        *check_home(home),
        *check_worker(),
        *asyncio.run(check_session(home)),
        *asyncio.run(_projects(home)),
    ]
    if arguments.bundle is not None:
        return _bundle(home, findings, arguments)
    is_well = all(finding.is_well for finding in findings)
    if arguments.json:
        print(json.dumps({"well": is_well, "findings": [vars(one) for one in findings]}))
    else:
        for finding in findings:
            print(f"{'ok   ' if finding.is_well else 'FAULT'} {finding.name}: {finding.sentence}")
    return 0 if is_well else _FAULT


def _bundle(home: Home, findings: list[Finding], arguments: argparse.Namespace) -> int:
    """Write the report; it is for others to judge, so that is done when it is written."""
    from pleb_agent.app.bundle import write_bundle

    names = write_bundle(home, findings, arguments.bundle)
    if arguments.json:
        print(json.dumps({"bundle": str(arguments.bundle), "parts": names}))
    else:
        print(f"{arguments.bundle} holds {', '.join(names)}; look at it before you send it.")
    return 0


async def _projects(home: Home) -> list[Finding]:
    if not home.journal.exists():
        return []
    journal = Journal(home.journal)
    try:
        return [finding async for finding in check_projects(journal)]
    finally:
        journal.close()
