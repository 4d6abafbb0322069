"""`pleb-agent prefs`: what the user allows, with or without a running agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.control.live_preferences import LivePreferences
from pleb_agent.core.preference_table import all_values, changed, find, show, show_value
from pleb_agent.core.presets import preset_of, with_preset
from pleb_agent.sensors.machine import read_machine
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pleb_agent.app.home import Home
    from pleb_agent.core.preferences import Preferences
    from pleb_system.command_line import Output

__all__ = ["prefs"]

Answer = tuple[dict[str, Any], str]
"""For programs, and for people."""
_EMPTY: Final = "(empty)"


def prefs(home: Home, options: argparse.Namespace, output: Output) -> int:
    """List, get or set preferences, or take a preset."""
    act = {"list": _list, "get": _get, "set": _set, "preset": _preset}[options.act]
    output.result(*act(home, options.words))
    return 0


def _list(home: Home, words: list[str]) -> Answer:
    if words:
        raise InputError("`prefs list` takes no names; `prefs get NAME` shows one.")
    preferences = _current(home)
    preset = preset_of(preferences, read_machine().cores)
    lines, group = [f"preset: {preset}"], None
    for name, value in all_values(preferences).items():
        preference = find(name)
        if preference.group is not group:
            group = preference.group
            lines += ["", group.value]
        lines += [f"  {name} = {show(name, value) or _EMPTY}", f"      {preference.description}"]
    return {"preset": preset, "values": msgspec.to_builtins(preferences)}, "\n".join(lines)


def _get(home: Home, words: list[str]) -> Answer:
    if not words:
        raise InputError("Name a preference: `pleb-agent prefs get idle_minutes`.")
    preferences = _current(home)
    lines = {name: show_value(preferences, name) for name in words}
    values = all_values(preferences)
    text = "\n".join(lines.values() if len(words) == 1 else map(" = ".join, lines.items()))
    return {name: values.get(name, line) for name, line in lines.items()}, text


def _set(home: Home, words: list[str]) -> Answer:
    if not words:
        raise InputError("Say what to set: `pleb-agent prefs set idle_minutes=5`.")
    changes: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise InputError(f"{word!r} has no value: write it as NAME=VALUE.")
        changes[name] = value
    _change(home, "preferences", {"changes": changes}, lambda old: changed(old, changes))
    preferences = _current(home)
    lines = [f"{name} = {show_value(preferences, name) or _EMPTY}" for name in changes]
    return {"set": sorted(changes)}, "\n".join(lines)


def _preset(home: Home, words: list[str]) -> Answer:
    if len(words) != 1:
        raise InputError("Name one preset: quiet, balanced or full.")
    name = words[0]
    cores = read_machine().cores
    _change(home, "preset", {"name": name}, lambda old: with_preset(old, name, cores))
    return {"preset": name}, f"Preset {name} is set."


def _change(
    home: Home,
    act: str,
    body: dict[str, Any],
    change: Callable[[Preferences], Preferences],
) -> None:
    """Let the running agent change them, or change the file if none is running."""
    try:
        Remote(home).post(act, **body)
    except NotRunningError:
        home.prepare()
        with home.hold():
            LivePreferences(home.preferences).change(change)


def _current(home: Home) -> Preferences:
    """Return what is stored, without what `start` changed for one run."""
    return LivePreferences(home.preferences).current
