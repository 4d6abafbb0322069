"""`household`: the user's agents of one network, seen and paused together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pleb_agent.app.remote import Remote
from pleb_agent.cli.show import clock_time
from pleb_shared.errors import InputError
from pleb_shared.protocol.shown import shown_line

if TYPE_CHECKING:
    import argparse

    from pleb_agent.app.home import Home
    from pleb_system.command_line import Output

__all__ = ["household", "household_lines"]


def household(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Show the members; or show a code, join by one, leave, or do something on all of them."""
    from pleb_agent.program.clock import system_clock

    remote = Remote(home)
    match options.act:
        case "show":
            found = remote.get("household")
        case "code" | "leave":
            found = remote.post(f"household/{options.act}")
        case "join":
            found = remote.post("household/join", code=_word(options, "join CODE"))
        case "preset":
            found = remote.post("household", act="preset", preset=_word(options, "preset quiet"))
        case _:
            found = remote.post("household", act=options.act)
    output.result(found, household_lines(found, system_clock()))
    return 0


def _word(options: argparse.Namespace, example: str) -> str:
    if not options.word:
        raise InputError(f"Say which: `pleb-agent household {example}`.")
    return str(options.word)


def household_lines(view: dict[str, Any], now: float) -> list[str]:
    """Return a line for each member, what they gave together, and a code that is shown."""
    if not view["on"]:
        return [
            "This PC is in no household. `pleb-agent household code` begins one and shows a code;",
            "`pleb-agent household join CODE` on another PC of this network joins it.",
        ]
    lines = []
    for one in view["members"]:
        here = " (this PC)" if one["here"] else ""
        said = shown_line(one["message"]["text"])
        lines.append(f"{shown_line(one['name'])}{here}: {said}")
    lines.append(f"Together: {view['accepted']:.0f} units accepted, {view['energy_kwh']:.2f} kWh.")
    if view["code"]:
        ends = clock_time(view["code_ends_at"], now)
        lines.append(f"On the other PC: pleb-agent household join {view['code']} (until {ends})")
    return lines
