"""`pleb-agent rules` and `hook`: what signals must be for work, and who may pause the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.control.live_rules import LiveRules, rules_of
from pleb_agent.core.signals import Match, SignalRules, Source, Test
from pleb_shared.errors import InputError
from pleb_system.command_line import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from pleb_agent.app.home import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]

_PARTS: Final = ("entity", "pointer", "word", "token_file", "unit", "every_seconds", "old_seconds")


def rules(home: Home, options: argparse.Namespace, output: Output) -> int:
    """List, change or try the rules on signals."""
    act = {
        "list": _list,
        "signal": _signal,
        "forget": _forget,
        "add": _add,
        "remove": _remove,
        "match": _match,
        "read": _read,
    }[options.act]
    output.result(*act(home, options))
    return 0


def hook(home: Home, options: argparse.Namespace, output: Output) -> int:
    """List, make or revoke the tokens with which other programs may pause the agent."""
    remote = Remote(home)
    if options.act == "list":
        found = remote.get("rules")["hooks"]
        empty = "No program has a token: `pleb-agent hook new NAME` makes one."
        output.result(found, table(("NAME",), [(one["name"],) for one in found], empty))
        return 0
    if not options.name:
        raise InputError(f"Name the program: `pleb-agent hook {options.act} NAME`.")
    if options.act == "revoke":
        remote.post("hook/revoke", name=options.name)
        output.result({"revoked": options.name}, f"Revoked the token of {options.name}.")
        return 0
    made = remote.post("hook", name=options.name)
    port = remote.port
    base = f"http://127.0.0.1:{port}/api"
    curl = f'  curl -H "Authorization: Bearer {made["token"]}"'
    body = '{"reason": "guests", "seconds": 3600}'
    lines = [
        f"The token of {made['name']}, which is shown only now:",
        f"  {made['token']}",
        "Pause and resume with it, on this PC:",
        f"{curl} -d '{body}' {base}/pause",
        f"{curl} -X POST {base}/resume",
    ]
    output.result(made, lines)
    return 0


COMMANDS: Final = {"rules": rules, "hook": hook}

Answer = tuple[Any, Any]


def _list(home: Home, _: argparse.Namespace) -> Answer:
    try:
        view = Remote(home).get("rules")
    except NotRunningError:
        found = LiveRules(home.rules).current
        view = {"rules": msgspec.to_builtins(found), "signals": [], "rows": [], "allowed": None}
    return view, list(_lines(view))


def _lines(view: dict[str, Any]) -> Iterator[str]:
    found = rules_of(view["rules"])
    if not found.signals:
        yield "No signals: `pleb-agent rules signal Price https://...` names one."
        return
    now = {one["signal"]["name"]: one for one in view["signals"]}
    yield "Signals"
    for signal in found.signals:
        known = now.get(signal.name, {})
        value = known.get("value")
        problem = known.get("problem")
        said = "not read yet" if value is None else f"{value:g} {signal.unit}".rstrip()
        said = problem["text"] if problem else said
        if signal.source is Source.HOURS or not known:
            said = ""
        yield f"  {signal.name}: {signal.address} {signal.entity}".rstrip() + (
            said and f"  ({said})"
        )
    yield ""
    if not found.rows:
        yield "No rules: `pleb-agent rules add Price below 0.25` makes one."
        return
    yield f"Work only when {found.match.value} of these hold"
    sentences = [row["message"]["text"] for row in view["rows"]] or [""] * len(found.rows)
    marks = ["yes" if row["allows"] else "no" for row in view["rows"]] or [""] * len(found.rows)
    for number, (row, mark, sentence) in enumerate(
        zip(found.rows, marks, sentences, strict=True), start=1
    ):
        limit = "" if row.limit is None else f" {row.limit:g} (resumes at {row.resume_at:g})"
        yield f"  {number}. {row.signal} {row.test.value}{limit}  {mark}  {sentence}".rstrip()
    hours = view.get("hours_yesterday")
    if hours is not None:
        yield f"Yesterday they would have allowed {hours:g} h of work."


def _signal(home: Home, options: argparse.Namespace) -> Answer:
    name, address = _words(options, 2, "rules signal NAME ADDRESS")
    made = {"name": name, "address": address} | {
        part: getattr(options, part) for part in _PARTS if getattr(options, part) is not None
    }

    def change(old: dict[str, Any]) -> None:
        old["signals"] = [one for one in old["signals"] if one["name"] != name] + [made]

    _change(home, change)
    return made, f"{name} is read from {address}."


def _forget(home: Home, options: argparse.Namespace) -> Answer:
    (name,) = _words(options, 1, "rules forget NAME")

    def change(old: dict[str, Any]) -> None:
        left = [one for one in old["signals"] if one["name"] != name]
        if len(left) == len(old["signals"]):
            raise InputError(f"There is no signal {name!r}: `pleb-agent rules` lists them.")
        old["signals"] = left
        old["rows"] = [row for row in old["rows"] if row["signal"] != name]

    _change(home, change)
    return {"forgotten": name}, f"Forgot {name} and its rules."


def _add(home: Home, options: argparse.Namespace) -> Answer:
    words = options.words
    tests = [test.value for test in Test]
    if len(words) < 2 or words[1] not in tests:
        raise InputError(
            "Write a rule as SIGNAL below 0.25, SIGNAL above 1500, SIGNAL during or SIGNAL outside."
        )
    row: dict[str, Any] = {"signal": words[0], "test": words[1]}
    if len(words) > 2:
        row["limit"] = _number(words[2])
    if options.resume is not None:
        row["resume"] = _number(options.resume)
    _change(home, lambda old: old["rows"].append(row))
    return row, f"Work only when {' '.join(words[:3])}."


def _remove(home: Home, options: argparse.Namespace) -> Answer:
    (word,) = _words(options, 1, "rules remove NUMBER")
    number = int(word) if word.isdecimal() else 0

    def change(old: dict[str, Any]) -> None:
        if not 1 <= number <= len(old["rows"]):
            raise InputError(f"There is no rule {word}: `pleb-agent rules` lists them.")
        del old["rows"][number - 1]

    _change(home, change)
    return {"removed": number}, f"Removed rule {number}."


def _match(home: Home, options: argparse.Namespace) -> Answer:
    (word,) = _words(options, 1, "rules match all|any")
    if word not in list(Match):
        raise InputError("Say `all` or `any`: how many of the rules have to hold.")
    _change(home, lambda old: old.update(match=word))
    return {"match": word}, f"Work only when {word} of the rules hold."


def _read(home: Home, options: argparse.Namespace) -> Answer:
    (name,) = _words(options, 1, "rules read NAME")
    found = LiveRules(home.rules).current.find(name)
    if found is None:
        raise InputError(f"There is no signal {name!r}: `pleb-agent rules` lists them.")
    value = Remote(home).post("signal", signal=msgspec.to_builtins(found))["value"]
    return {"name": name, "value": value}, f"{name} is at {value:g} {found.unit}".rstrip() + "."


def _words(options: argparse.Namespace, count: int, usage: str) -> list[str]:
    words: list[str] = options.words
    if len(words) != count:
        raise InputError(f"Write it as `pleb-agent {usage}`.")
    return words


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError as error:
        raise InputError(f"{text[:40]!r} is no number.") from error


def _change(home: Home, change: Callable[[dict[str, Any]], None]) -> SignalRules:
    """Let the running agent change the rules, or change the file if none is running."""
    try:
        remote = Remote(home)
        old = remote.get("rules")["rules"]
        change(old)
        remote.post("rules", rules=old)
    except NotRunningError:
        home.prepare()
        with home.hold():
            live = LiveRules(home.rules)
            old = msgspec.to_builtins(live.current)
            old = {**old, "signals": [*old["signals"]], "rows": [*old["rows"]]}
            change(old)
            live.replace(rules_of(old))
    return LiveRules(home.rules).current
