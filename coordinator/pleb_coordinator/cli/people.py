"""`account` and `team`: volunteers, with their credit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.people import ListAccounts, ListTeams
from pleb_system.command_line import table

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.cli.desk import Asker
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]

_GIGA: Final = 1e9


def list_people(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """List accounts or teams, as the group says."""
    return (_teams if options.command == "team" else _accounts)(asker, options, output)


def _accounts(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    found = asker.ask(ListAccounts(project=options.project, limit=options.limit))
    rows = [
        (a.account[:12], a.display_name, a.team, a.hosts, a.verified, a.refused, _credit(a.credit))
        for a in found
    ]
    head = ("ACCOUNT", "NAME", "TEAM", "HOSTS", "VERIFIED", "REFUSED", "GFLOP")
    output.result(found, table(head, rows, "No account yet."))
    return 0


def _teams(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    found = asker.ask(ListTeams(project=options.project, limit=options.limit))
    rows = [(t.team, t.accounts, t.hosts, t.verified, t.refused, _credit(t.credit)) for t in found]
    head = ("TEAM", "ACCOUNTS", "HOSTS", "VERIFIED", "REFUSED", "GFLOP")
    empty = "No team yet: `pleb-coordinator invite new --team NAME`, or `host team`."
    output.result(found, table(head, rows, empty))
    return 0


def _credit(flops: float) -> str:
    return f"{flops / _GIGA:,.1f}"


COMMANDS: Final = {"list": list_people}
