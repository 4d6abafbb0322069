"""`log`: what happened in a project, or what operators did."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_coordinator.admin.logs import ReadAudit, ReadLog
from pleb_shared.errors import InputError
from pleb_system.command_line import table

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.cli.desk import Asker
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]

_SHOWN: Final = 100
"""Characters of an event's details; `--json` has all."""


def log(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Show the newest events, the newest last."""
    if options.audit:
        return _audit(asker, options, output)
    if options.project is None:
        raise InputError("Name the project whose events to show, or give --audit.")
    found = asker.ask(ReadLog(project=options.project, limit=options.limit))
    rows = [
        (_time(e.at), e.kind, _or_blank(e.unit), _or_blank(e.host), _short(e.detail)) for e in found
    ]
    output.result(found, table(("TIME", "EVENT", "UNIT", "HOST", "DETAILS"), rows, "No event yet."))
    return 0


def _audit(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    found = asker.ask(ReadAudit(project=options.project or "", limit=options.limit))
    rows = [(_time(e.at), e.who, e.command, e.project, _short(e.arguments)) for e in found]
    head = ("TIME", "WHO", "COMMAND", "PROJECT", "ARGUMENTS")
    output.result(found, table(head, rows, "No command has changed anything yet."))
    return 0


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _short(detail: dict[str, Any]) -> str:
    text = msgspec.json.encode(detail).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _or_blank(value: int | None) -> str:
    return "" if value is None else str(value)


COMMANDS: Final = {"log": log}
