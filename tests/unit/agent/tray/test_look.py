"""What the tray shows for each status, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from pleb_agent.tray.look import REQUESTS, Command, Entry, State, entries, look_of
from pleb_agent.tray.words import words_in

SAY = words_in("en")
UNIT = {"project": "classify", "version": 12, "steps_done": 40, "steps_total": 100}


def status(activity: str = "working", override: str = "none", **more: Any) -> dict[str, Any]:
    sentence = "The PC is in use; {minutes} more min."
    return {
        "running": True,
        "activity": activity,
        "sentence": "The PC is in use; 3 more min.",
        "message": {"text": "", "template": sentence, "values": {"minutes": 3}},
        "override": {"kind": override, "until": None},
        "unit": None,
    } | more


def commands(menu: tuple[Entry, ...]) -> set[Command]:
    """Return what can be chosen now."""
    shown = [entry for entry in menu if entry.visible]
    found = {entry.command for entry in shown if entry.command is not None}
    return found.union(*(commands(entry.children) for entry in shown))


@pytest.mark.parametrize(
    ("activity", "state"),
    [
        ("idle", State.IDLE),
        ("working", State.TRAINING),
        ("paused", State.PAUSED),
        ("offline", State.OFFLINE),
        ("problem", State.PROBLEM),
        ("something-of-a-newer-agent", State.IDLE),
    ],
)
def test_each_activity_has_its_icon(activity: str, state: State) -> None:
    assert look_of(status(activity), SAY).state is state


def test_a_projects_notice_is_a_line_of_the_menu() -> None:
    said = {"template": "It ends on {day}.", "values": {"day": "2026-12-24"}}
    projects = [{"title": "Quiet", "notice": None}, {"title": "Words", "notice": said}]
    line = entries(look_of(status(projects=projects), SAY).menu)[16]
    assert (line.label, line.visible, line.enabled) == (
        "Words: It ends on 2026-12-24.",
        True,
        False,
    )
    for nothing in ([], None, [{"title": "Quiet"}], ["?"]):
        assert not entries(look_of(status(projects=nothing), SAY).menu)[16].visible


@pytest.mark.parametrize(
    ("devices", "pauses", "resumes"),
    [
        (None, False, False),
        ([{"name": "cpu", "reason": "ready"}], False, False),
        ([{"name": "cuda-0", "reason": "device_off", "paused": False}], False, False),
        ([{"name": "cuda-0", "reason": "ready", "paused": False}], True, False),
        ([{"name": "cuda-0", "reason": "device_paused", "paused": True}], False, True),
    ],
)
def test_the_cards_alone_can_be_paused(devices: Any, pauses: bool, resumes: bool) -> None:
    shown = {
        entry.command: entry.visible
        for entry in entries(look_of(status(devices=devices), SAY).menu).values()
    }
    assert (shown[Command.PAUSE_CARDS], shown[Command.RESUME_CARDS]) == (pauses, resumes)


ALWAYS = {Command.OPEN, Command.PREFERENCES, Command.QUIT}
SNOOZES = {
    Command.SNOOZE_30_MIN,
    Command.SNOOZE_1_H,
    Command.SNOOZE_3_H,
    Command.SNOOZE_TOMORROW,
}
PAUSES = SNOOZES | {Command.PAUSE, Command.FINISH_THEN_PAUSE}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (status(), ALWAYS | PAUSES | {Command.BOOST}),
        (status("paused"), ALWAYS | PAUSES | {Command.BOOST}),
        (status("paused", "pause"), ALWAYS | {Command.RESUME, Command.BOOST}),
        (
            status("working", "finish"),
            ALWAYS | SNOOZES | {Command.PAUSE, Command.RESUME, Command.BOOST},
        ),
        (status("working", "boost"), ALWAYS | PAUSES | {Command.END_BOOST}),
        (None, {Command.START, Command.QUIT}),
        (status(unit=UNIT), ALWAYS | PAUSES | {Command.BOOST, Command.FINISH}),
        ({}, ALWAYS | PAUSES | {Command.BOOST}),
    ],
)
def test_only_what_applies_can_be_chosen(
    now: dict[str, Any] | None, expected: set[Command]
) -> None:
    assert commands(look_of(now, SAY).menu) == expected


def test_the_first_line_is_the_sentence_and_the_second_the_progress() -> None:
    look = look_of(status(unit=UNIT), SAY)

    assert look.tooltip == "The PC is in use; 3 more min."
    assert look.progress == "classify, version 12: 40 %"
    assert [entry.label for entry in look.menu[:2]] == [
        "The PC is in use; 3 more min.",
        "classify, version 12: 40 %",
    ]
    assert not any(entry.enabled for entry in look.menu[:2])


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("", ""),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("Somebody uses the PC, " + "y" * 50, "Somebody uses the PC…"),
    ],
)
def test_a_long_sentence_makes_no_wide_menu(sentence: str, line: str) -> None:
    look = look_of(status(message=None, sentence=sentence), SAY)
    assert look.menu[0].label == line
    assert look.tooltip == sentence


@pytest.mark.parametrize(
    ("unit", "line"),
    [
        (UNIT | {"steps_total": 0}, "classify, version 12: 0 %"),
        (UNIT | {"steps_done": None}, "classify, version 12: 0 %"),
        (UNIT | {"steps_done": 100}, "classify, version 12: 100 %"),
    ],
)
def test_progress_of_any_unit(unit: dict[str, Any], line: str) -> None:
    assert look_of(status(unit=unit), SAY).menu[1].label == line


def test_without_a_unit_there_is_no_progress() -> None:
    assert not look_of(status(), SAY).menu[1].visible


@pytest.mark.parametrize(
    "message", [None, {}, {"template": "", "values": {}}, {"template": "x", "values": None}, 3]
)
def test_without_a_template_the_plain_sentence_is_shown(message: Any) -> None:
    look = look_of(status(message=message), SAY)
    assert look.tooltip == "The PC is in use; 3 more min."


def test_the_icon_opens_the_page_and_its_middle_button_pauses_or_resumes() -> None:
    assert look_of(status(), SAY)[4:6] == (Command.OPEN, Command.PAUSE)
    assert look_of(status("paused", "pause"), SAY)[4:6] == (Command.OPEN, Command.RESUME)
    assert look_of(None, SAY)[4:6] == (Command.START, Command.START)


@pytest.mark.parametrize(
    ("now", "ended"),
    [
        (status(), False),
        (status(running=False), True),
        (status("stopped"), True),
        (None, False),
    ],
)
def test_an_agent_that_was_stopped_on_purpose_ends_the_tray(
    now: dict[str, Any] | None, ended: bool
) -> None:
    assert look_of(now, SAY).ended is ended


def test_the_tree_is_the_same_in_every_state() -> None:
    looks = [look_of(now, SAY) for now in (None, {}, status(unit=UNIT), status(override="boost"))]
    numbers = [list(entries(look.menu)) for look in looks]

    assert len(numbers[0]) == len(set(numbers[0]))
    assert all(other == numbers[0] for other in numbers)


def test_every_command_is_a_request_or_the_trays_own() -> None:
    own = {Command.OPEN, Command.PREFERENCES, Command.START}
    assert set(REQUESTS) | own == set(Command)
    assert not set(REQUESTS) & own


def test_signs_that_are_obeyed_reach_neither_bus_nor_menu() -> None:
    """A coordinator's refusal and a project's name are words of strangers."""
    evil = "a\0b\u202ec\x1b[2Jd\ne\u2067f\N{NARROW NO-BREAK SPACE}g"
    told = status(
        message={"template": "{reason}", "values": {"reason": evil}},
        unit={"project": evil, "version": 1, "steps_total": 2, "steps_done": 1},
    )
    look = look_of(told, words_in("en"))
    for text in (look.tooltip, look.progress, *(entry.label for entry in look.menu)):
        assert text.replace("\N{NARROW NO-BREAK SPACE}", "").isprintable()
    assert "a\N{REPLACEMENT CHARACTER}b" in look.tooltip
    assert "f\N{NARROW NO-BREAK SPACE}g" in look.tooltip
