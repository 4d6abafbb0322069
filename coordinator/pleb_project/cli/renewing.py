"""`renew --due`, `renew --watch` and `autorenew`: permissions that are renewed in time."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, Final

from pleb_project.cli.keys import now
from pleb_project.keys.key_file import read_key
from pleb_project.keys.passphrase import (
    Passphrases,
    RememberingKeyring,
    SystemKeyring,
    given_passphrase,
)
from pleb_project.renewal import renew_due
from pleb_project.schedule import system_schedule

if TYPE_CHECKING:
    import argparse

    from pleb_project.renewal import Outcome
    from pleb_project.server.records import Home
    from pleb_system.command_line import Output

__all__ = ["autorenew", "renew_all_due", "watch_due"]

_LOOK_SECONDS: Final = 3600.0


def renew_all_due(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Renew what is due; the exit code is that of the first project that could not be renewed."""
    outcomes = renew_due(home, now, output.progress, _passphrases(options, output))
    _show(outcomes, output, quiet=False)
    return next((outcome.error.exit_code for outcome in outcomes if outcome.error), 0)


def watch_due(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Renew what becomes due, until the process is ended."""
    keyring = RememberingKeyring(SystemKeyring())
    passphrases = dataclasses.replace(_passphrases(options, output), keyring=keyring)
    _unlock_all(home, passphrases)  # the person who can type a passphrase is here now
    passphrases = dataclasses.replace(passphrases, has_terminal=lambda: False)
    output.progress("Watching; each permission is renewed 20 days before its end. Ctrl+C ends it.")
    while True:
        _show(renew_due(home, now, output.progress, passphrases), output, quiet=True)
        time.sleep(_LOOK_SECONDS)


def autorenew(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Switch the daily renewal on or off, or show whether it is on."""
    schedule = system_schedule(home.path, options.passphrase_file)
    if options.state == "on":
        # A timer has no terminal: find out now whether every key can be opened without one.
        passphrases = _passphrases(options, output)
        _unlock_all(home, passphrases)
        _unlock_all(home, dataclasses.replace(passphrases, has_terminal=lambda: False))
        made = schedule.turn_on()
        sentence = f"Permissions are renewed once a day while this PC is on, by {made}."
    elif options.state == "off":
        schedule.turn_off()
        sentence = "Permissions are not renewed automatically any more."
    else:
        state = "renewed once a day" if schedule.is_on() else "not renewed automatically"
        sentence = f"Permissions are {state}."
    output.result({"on": schedule.is_on()}, sentence)
    return 0


def _passphrases(options: argparse.Namespace, output: Output) -> Passphrases:
    given = given_passphrase(options.passphrase_file, os.environ)
    return Passphrases(given=given, say=output.progress)


def _unlock_all(home: Home, passphrases: Passphrases) -> None:
    """Open every root key once, so that what was typed is in the keyring."""
    for record in home.records():
        file = home.root_key_file(record.project)
        if file.exists():
            passphrases.unlock(read_key(file), record.project)


def _show(outcomes: list[Outcome], output: Output, *, quiet: bool) -> None:
    lines = [f"Renewed {outcome.project}." for outcome in outcomes if outcome.renewed]
    for outcome in outcomes:
        if outcome.error:
            output.progress(f"{outcome.project} could not be renewed: {outcome.error}")
    if quiet and not lines:
        return
    values = [
        {
            "project": outcome.project,
            "renewed": outcome.renewed,
            "error": str(outcome.error) if outcome.error else None,
        }
        for outcome in outcomes
    ]
    output.result(values, lines or ["Nothing was due."])
