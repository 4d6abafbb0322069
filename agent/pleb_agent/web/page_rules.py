"""The rules on signals, and the tokens of other programs: a section of the preferences' page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.control.requests import HookRequest, ReadSignalRequest, RulesRequest
from pleb_agent.core.signals import Match, Source, Test
from pleb_agent.translation.words import marked
from pleb_agent.web.page_rendering import line
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from starlette.responses import Response

    from pleb_agent.web.page_visit import Visit

__all__ = ["rules_values"]

TESTS: Final = {
    Test.BELOW: marked("is below"),
    Test.ABOVE: marked("is above"),
    Test.DURING: marked("is on"),
    Test.OUTSIDE: marked("is off"),
}
_TEXTS: Final = ("address", "entity", "pointer", "word", "token_file", "unit")
_NUMBERS: Final = ("every_seconds", "old_seconds")
_NEW: Final = "new"


def rules_values(visit: Visit, **more: Any) -> dict[str, Any]:
    """Return what `rules.html` shows."""
    view = visit.reader.signal_rules()
    values = {
        "view": view,
        "tests": [(test.value, label) for test, label in TESTS.items()],
        "of_time": {one.name: one.source.is_of_time for one in view.rules.signals},
        "hours_source": Source.HOURS,
        "read": {},
        "token": None,
    }
    return {"rules": values | more}


async def set_signal(visit: Visit) -> Response:
    """Add a signal, or change one."""
    form = await visit.form()
    before, made = form.get("before", ""), _signal_of(form)
    rules = _rules(visit)
    names = [one["name"] for one in rules["signals"]]
    if before in names:
        rules["signals"][names.index(before)] = made
        for row in rules["rows"]:
            if row["signal"] == before:
                row["signal"] = made["name"]
    else:
        rules["signals"].append(made)
    return _saved(visit, rules)


async def forget_signal(visit: Visit) -> Response:
    """Remove a signal with its rows."""
    name = (await visit.form()).get("name", "")
    rules = _rules(visit)
    rules["signals"] = [one for one in rules["signals"] if one["name"] != name]
    rules["rows"] = [row for row in rules["rows"] if row["signal"] != name]
    return _saved(visit, rules)


async def read_signal(visit: Visit) -> Response:
    """Read a signal now, and show what it says."""
    name = (await visit.form()).get("name", "")
    signal = visit.reader.signal_rules().rules.find(name)
    if signal is None:
        raise InputError("There is no such signal any more; reload the page.")
    from pleb_agent.signals.read import SignalError  # only those who use signals pay for it

    try:
        request = ReadSignalRequest(signal=msgspec.to_builtins(signal))
        found = await visit.controller.read_signal(request)
    except SignalError as error:
        said = line(visit.words.sentence(error.sentence))
    else:
        said = f"{visit.words.formats.number(found.value)} {signal.unit}".rstrip()
    return visit.page("rules.html", **rules_values(visit, read={name: said}))


async def set_row(visit: Visit) -> Response:
    """Add a row, or change one."""
    form = await visit.form()
    rules = _rules(visit)
    row: dict[str, Any] = {"signal": form.get("signal", ""), "test": form.get("test", "")}
    signal = visit.reader.signal_rules().rules.find(row["signal"])
    is_of_time = signal is not None and signal.source.is_of_time
    for name in () if is_of_time else ("limit", "resume"):
        if text := form.get(name, "").strip():
            row[name] = _number(text)
    place = form.get("place", _NEW)
    if place == _NEW:
        rules["rows"].append(row)
    else:
        rules["rows"][_place(place, rules)] = row
    return _saved(visit, rules)


async def remove_row(visit: Visit) -> Response:
    """Remove a row."""
    rules = _rules(visit)
    del rules["rows"][_place((await visit.form()).get("place", ""), rules)]
    return _saved(visit, rules)


async def set_match(visit: Visit) -> Response:
    """All of the rows have to allow work, or any."""
    rules = _rules(visit)
    rules["match"] = (await visit.form()).get("match", Match.ALL.value)
    return _saved(visit, rules)


async def create_hook(visit: Visit) -> Response:
    """Make a token, and show it once."""
    name = (await visit.form()).get("name", "")
    token = visit.controller.create_hook(HookRequest(name=name))
    return visit.page("rules.html", **rules_values(visit, token=token))


async def revoke_hook(visit: Visit) -> Response:
    """End a token."""
    visit.controller.revoke_hook(HookRequest(name=(await visit.form()).get("name", "")))
    return visit.page("rules.html", **rules_values(visit))


def _rules(visit: Visit) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(visit.reader.signal_rules().rules)
    )
    return found


def _saved(visit: Visit, rules: dict[str, Any]) -> Response:
    visit.controller.set_rules(RulesRequest(rules=rules))
    return visit.page("rules.html", **rules_values(visit))


def _signal_of(form: dict[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": form.get("name", "").strip()}
    made |= {name: form.get(name, "").strip() for name in _TEXTS}
    for name in _NUMBERS:
        if text := form.get(name, "").strip():
            made[name] = int(_number(text))
    return made


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError as error:
        raise InputError("Please enter a number.") from error


def _place(text: str, rules: dict[str, Any]) -> int:
    place = int(text) if text.isdecimal() else -1
    if not 0 <= place < len(rules["rows"]):
        raise InputError("There is no such rule any more; reload the page.")
    return place
