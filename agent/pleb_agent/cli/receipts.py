"""`receipts`: accepted units and what they took; `verify`: where they are in the signed log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.cli.commands import held_journal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pleb_agent.app.home import Home
    from pleb_agent.control.views import ReceiptsView
    from pleb_shared.protocol.ids import AttachLink
    from pleb_system.command_line import Output

__all__ = ["COMMANDS", "receipt_lines", "verified_lines"]

_ALL: Final = 0.999
"""From this share on it is measured; sums of floats are not exact."""
_SHOWN: Final = 10
"""Versions that are named one by one, the newest ones."""


def receipts(home: Home, options: argparse.Namespace, output: Output) -> int:
    """List accepted units by day; with --csv each of them."""
    import msgspec

    from pleb_agent.control.receipt_reader import read_receipts, receipts_csv
    from pleb_agent.control.views import ReceiptsView

    try:
        each = "1" if options.csv else "0"
        found = Remote(home).get(f"receipts?days={options.days}&each={each}")
        view = msgspec.convert(found, ReceiptsView)
    except NotRunningError:
        from pleb_agent.control.live_preferences import read_preferences
        from pleb_agent.program.clock import system_clock

        factor = read_preferences(home.preferences).co2_grams_per_kwh
        with held_journal(home) as journal:
            view = read_receipts(journal, options.days, factor, system_clock(), each=options.csv)
    if options.csv and not output.as_json:
        print(receipts_csv(view.receipts), end="")
        return 0
    output.result(msgspec.to_builtins(view), receipt_lines(view))
    return 0


def receipt_lines(view: ReceiptsView) -> list[str]:
    """Return a line for each day and project, and the sum."""
    from pleb_agent.translation.formats import FORMATS

    formats = FORMATS["en"]
    if not view.days:
        return [f"No unit of yours was accepted since {view.since}."]
    lines = []
    for one in view.days:
        took = f"{formats.energy(one.kwh)} {_how(one.kwh, one.measured_kwh)}"
        co2 = "" if one.co2_grams is None else f", {formats.weight(one.co2_grams)} of CO2"
        lines.append(
            f"{one.day}  {one.project}: {_units(one.units)} in "
            f"{formats.span(one.compute_seconds)}, {took}{co2}"
        )
    total = f"{formats.energy(view.kwh)} {_how(view.kwh, view.measured_kwh)}"
    lines.append(
        f"Since {view.since}: {_units(view.units)}, {total}; with what did not count (yet) "
        f"{formats.energy(view.spent_kwh)}."
    )
    if view.co2_grams is None:
        lines.append(
            "For CO2, say what a kWh of your region causes: `pleb-agent prefs set "
            "co2_grams_per_kwh=350`."
        )
    else:
        lines[-1] = f"{lines[-1][:-1]}; {formats.weight(view.co2_grams)} of CO2."
    return lines


def _how(kwh: float, measured_kwh: float) -> str:
    share = measured_kwh / kwh if kwh else 0.0
    if share > _ALL:
        return "(measured)"
    return f"({share:.0%} measured, the rest estimated)" if measured_kwh else "(estimated)"


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


COMMANDS: Final[dict[str, Callable[[Home, argparse.Namespace, Output], int]]] = {
    "receipts": receipts,
    "verify": verify,
}
