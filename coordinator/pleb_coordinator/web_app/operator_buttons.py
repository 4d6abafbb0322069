"""The buttons of the operator's page: commands, what they ask for, and what to think of before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_coordinator.admin.command import Actor

__all__ = ["BUTTONS", "Button", "allowed"]


@dataclass(frozen=True)
class Button:
    """A command with a button."""

    label: str
    consequence: str
    """What a person reads before confirming."""
    asks: tuple[str, ...] = ()
    """Fields of the command that may be filled in then."""


BUTTONS: Final[Mapping[str, Button]] = {
    "project pause": Button("Pause", "No more units are issued; results are still accepted."),
    "project resume": Button("Resume", "Units are issued again."),
    "project archive": Button(
        "Archive", "No unit is issued and nothing is done in the background until it is resumed."
    ),
    "project extend": Button(
        "Extend", "Training goes on to the last planned version, past its target and its patience."
    ),
    "project delete": Button(
        "Delete", "All rows, models, data and results of the project are removed."
    ),
    "model rollback": Button(
        "Roll back",
        "An earlier version becomes the newest one; what was made after it is taken back. Without "
        "a number it is the last version that did well on the holdout.",
    ),
    "model verify": Button(
        "Verify", "Every version is recomputed from the log; that may take minutes."
    ),
    "unit cancel": Button("Cancel", "The unit is taken back, and its round goes on with one less."),
    "host ban": Button(
        "Ban",
        "The host's requests are refused, for ten years if nothing else is said; what it has in "
        "hand goes to others. In a private project its whole account is removed, and the project's "
        "key is replaced: the account can read nothing that is made from now on.",
        ("days", "reason"),
    ),
    "host unban": Button("Unban", "The host is heard again; its record starts from zero."),
    "host detach": Button(
        "Detach", "What the host has in hand goes to others at once; it may come back."
    ),
    "host delete": Button(
        "Delete",
        "The host is forgotten; its account keeps its credit. Should its agent still run, it "
        "enrols again as a new one.",
    ),
    "invite new": Button("New invite", "Whoever has the invite can use it as often as it says."),
    "invite revoke": Button("Revoke", "The invite cannot be used any more."),
    "key rotate": Button(
        "Rotate the online key",
        "A new online key is made; every researcher has to renew (`pleb-project renew`).",
    ),
    "admin revoke": Button("Revoke", "The admin's key and sessions are not valid any more."),
    "mirror check": Button(
        "Check mirrors", "The project's mirrors are asked for its files; that may take a minute."
    ),
    "doctor": Button("Run doctor", "Everything that can be wrong is checked; takes a moment."),
    "backup --again": Button(
        "Back up now", "A backup is made where the last one was made; that may take minutes."
    ),
    "compact": Button(
        "Compact",
        "What is not kept any more is removed at once, and the store is shrunk; hosts wait as long "
        "as that takes.",
    ),
}
"""By the words of the command; the page offers no other."""


def allowed(actor: Actor) -> frozenset[str]:
    """Return the words of the buttons that somebody may press."""
    return frozenset(words for words in BUTTONS if actor.role.allows(TABLE[words].role))
