"""`verify`: accepted units in the signed log of versions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.cli.commands import held_journal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pleb_agent.app.home import Home
    from pleb_shared.protocol.ids import AttachLink
    from pleb_system.command_line import Output

__all__ = ["COMMANDS", "verified_lines"]

_SHOWN: Final = 10
"""Versions that are named one by one, the newest ones."""


def verify(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Find this PC's accepted units in the signed log of a project's versions."""
    body = {"project": options.project, "mirror": options.mirror, "again": options.again}
    try:
        found = Remote(home).post("verify", **body)
    except NotRunningError:
        found = _without_agentd(home, body)
    output.result(found, [line for one in found["projects"] for line in verified_lines(one)])
    return 0


def _without_agentd(home: Home, body: dict[str, Any]) -> dict[str, Any]:
    import msgspec

    from pleb_agent.client.coordinator import CoordinatorClient
    from pleb_agent.client.network import Network
    from pleb_agent.control.live_preferences import read_preferences
    from pleb_agent.control.receipt_reader import verify_projects
    from pleb_agent.control.requests import VerifyRequest
    from pleb_agent.journal.keys import KeyStore
    from pleb_agent.loop.attach import Attaching
    from pleb_agent.program.clock import system_clock

    preferences = read_preferences(home.preferences)
    network = Network.following(lambda: preferences)

    def client(link: AttachLink) -> CoordinatorClient:
        return CoordinatorClient.for_link(link, network)

    with held_journal(home) as journal:
        attaching = Attaching(journal, KeyStore(home.keys), system_clock, client)
        view = asyncio.run(verify_projects(attaching, VerifyRequest(**body)))
    value: dict[str, Any] = msgspec.to_builtins(view)
    return value


def verified_lines(found: dict[str, Any]) -> list[str]:
    """Return what the log says of a project, for people."""
    name, shares = found["project"], found["versions"]
    lines = [
        f"{name}: the log up to version {found['newest']} is signed, as {found['source']} has it."
    ]
    lines += [
        f"  version {one['version']} has {_units(one['units'])} of yours"
        for one in shares[-_SHOWN:]
    ]
    if len(shares) > _SHOWN:
        lines.append(f"  and {len(shares) - _SHOWN} earlier versions (all with --json)")
    lines.append(f"  {_units(found['units'])} of yours in {len(shares)} versions, each proven")
    if found["taken_back"]:
        lines.append(f"  {_units(found['taken_back'])} in versions that the project went back from")
    if found["later"]:
        lines.append(f"  {_units(found['later'])} for versions that this log does not have yet")
    if found["missing"]:
        lines.append(
            f"  {_units(found['missing'])} accepted and in no version: they were confirmed after "
            "their version was made, or the coordinator left them out"
        )
    return lines


def _units(count: int) -> str:
    return f"{count} unit" if count == 1 else f"{count} units"


COMMANDS: Final[dict[str, Callable[[Home, argparse.Namespace, Output], int]]] = {"verify": verify}
