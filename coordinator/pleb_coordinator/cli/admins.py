"""`admin` and `open`: who may use the coordinator from elsewhere, and the operator's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.admins import ListAdmins, MakeAdmin, OpenPage, RevokeAdmin
from pleb_coordinator.core.admins import AdminRole
from pleb_system.command_line import table
from pleb_system.durations import shown_day

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.cli.desk import Asker
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def new(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Print the address with which an admin logs in; it works once."""
    command = MakeAdmin(
        name=options.name,
        role=AdminRole(options.role),
        projects=tuple(options.project),
        days=options.days,
    )
    found = asker.ask(command)
    output.result(found, [f"pleb-coordinator login '{found.login}'"])
    if not output.as_json:
        output.progress(
            f"{found.name} ({found.role}) logs in with this command, once, within "
            f"{options.days:g} days. It is not shown again."
        )
    return 0


def list_admins(asker: Asker, _: argparse.Namespace, output: Output) -> int:
    """List all admins."""
    found = asker.ask(ListAdmins())
    rows = [
        (
            a.name,
            a.role,
            ", ".join(a.projects) or "all",
            a.state,
            "-" if a.last_seen is None else shown_day(a.last_seen),
        )
        for a in found
    ]
    empty = "No admin yet: `pleb-coordinator admin new NAME`."
    output.result(found, table(("NAME", "ROLE", "PROJECTS", "STATE", "LAST SEEN"), rows, empty))
    return 0


def revoke(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Take an admin's key and sessions back."""
    found = asker.ask(RevokeAdmin(name=options.name))
    output.result(found, [f"{found.name} is no admin any more."])
    return 0


def open_page(asker: Asker, _: argparse.Namespace, output: Output) -> int:
    """Print a link to the operator's page."""
    found = asker.ask(OpenPage())
    output.result(found, [found.url])
    if not output.as_json:
        output.progress("Open it in a browser within two minutes; it works once.")
    return 0


COMMANDS: Final = {"new": new, "list": list_admins, "revoke": revoke, "open": open_page}
