"""`family`: the members of a family side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.projects import ShowFamily
from pleb_shared.protocol.status import overall
from pleb_system.command_line import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pleb_coordinator.cli.desk import Asker
    from pleb_shared.protocol.status import FamilyStatus
    from pleb_system.command_line import Output

__all__ = ["COMMANDS", "family_lines"]


def show(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Show all members of a family, as its page does."""
    found = asker.ask(ShowFamily(family=options.family))
    output.result(found, family_lines(found))
    return 0


def family_lines(family: FamilyStatus) -> Iterator[str]:
    """Yield the members as a table, with their own settings, and the best of them."""
    yield f"{family.title or family.family} ({family.family}), {family.kind}"
    names = sorted({name for member in family.members for name in overall(member.best_metrics)})
    changed = sorted({name for member in family.members for name in member.settings})
    head = ("MEMBER", *changed, "STATE", "VERSION", "BEST", *(name.upper() for name in names))
    rows = [
        (
            member.project,
            *(member.settings.get(name, "") for name in changed),
            member.state,
            f"{member.version}/{member.versions_planned}",
            "-" if member.best_version is None else member.best_version,
            *(
                f"{member.best_metrics[name]:.5g}" if name in member.best_metrics else "-"
                for name in names
            ),
        )
        for member in family.members
    ]
    yield from table(head, rows, "")
    if family.best_member:
        yield f"  best       {family.best_member}, by {family.metric} on the holdout"
    yield f"  join all   {family.attach_link}"


COMMANDS: Final = {"show": show}
