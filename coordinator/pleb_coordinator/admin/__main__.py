"""`python -m pleb_coordinator.admin HOME`: one command for the HTTP process, which goes on serving.

It is read from the standard input as JSON; the value, or why there is none, goes to the standard
output.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from pleb_coordinator.admin.access import now
from pleb_coordinator.admin.command import Actor, Desk
from pleb_coordinator.admin.errand import Errand, Outcome
from pleb_coordinator.admin.table import carry_out, command_type
from pleb_coordinator.home.layout import Home
from pleb_shared.errors import PlebError


def main() -> int:
    """Carry the command out; return 0 even if it is refused, since that is an outcome."""
    errand = msgspec.json.decode(sys.stdin.buffer.read(), type=Errand)
    actor = Actor(errand.admin, errand.who, errand.role, errand.projects)
    desk = Desk(Home(Path(sys.argv[1])), now, actor)
    try:
        command = msgspec.json.decode(errand.arguments, type=command_type(errand.words))
        outcome = Outcome(value=msgspec.Raw(msgspec.json.encode(carry_out(desk, command))))
    except PlebError as error:
        outcome = Outcome.of(error)
    sys.stdout.buffer.write(msgspec.json.encode(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
