"""The menu on the bus: what hosts read, what is signalled to them, what a click does."""

from __future__ import annotations

from typing import Any

import pytest
from jeepney.low_level import parse_signature

from pleb_agent.dbus.events import Answer, Refusal, Signal
from pleb_agent.tray.item import MENU_INTERFACE, Menu
from pleb_agent.tray.look import Command, entries, look_of
from pleb_agent.tray.words import words_in

SAY = words_in("en")
OFFLINE = look_of(None, SAY).menu
WORKING = look_of({"activity": "working"}, SAY).menu
UNIT = {"project": "words_of_all", "version": 1, "steps_done": 1, "steps_total": 4}
WITH_UNIT = look_of({"activity": "working", "unit": UNIT}, SAY).menu
FURTHER = look_of({"activity": "working", "unit": UNIT | {"steps_done": 2}}, SAY).menu
PAUSE, SNOOZE, START = 4, 5, 9


@pytest.fixture
def chosen() -> list[Command]:
    return []


@pytest.fixture
def menu(chosen: list[Command]) -> Menu:
    return Menu(WORKING, chosen.append)


def call(menu: Menu, member: str, *body: Any) -> tuple[Any, ...]:
    answer = menu.answer(MENU_INTERFACE, member, body)
    written(answer)
    return answer.body


def written(what: Answer | Signal) -> None:
    """Fail where the body is not what the signature says."""
    if what.signature is not None:
        kinds = parse_signature(list(f"({what.signature})"))
        kinds.serialise(what.body, 0, little())


def little() -> Any:
    from jeepney import Endianness

    return Endianness.little


def test_the_whole_layout(menu: Menu) -> None:
    revision, (root, properties, children) = call(menu, "GetLayout", 0, -1, [])

    assert (revision, root) == (1, 0)
    assert properties == {"children-display": ("s", "submenu")}
    assert [child[1][0] for child in children] == [entry.number for entry in WORKING]
    (snooze,) = (child[1] for child in children if child[1][0] == 5)
    assert snooze[1]["children-display"] == ("s", "submenu")
    assert [child[1][1]["label"][1] for child in snooze[2]] == [
        "30 min",
        "1 h",
        "3 h",
        "until tomorrow",
    ]


def test_a_layout_ends_at_the_depth_that_is_asked_for(menu: Menu) -> None:
    _, (_, _, children) = call(menu, "GetLayout", 0, 1, ["label"])

    assert all(child[1][2] == [] for child in children)
    assert all(set(child[1][1]) <= {"label"} for child in children)
    assert call(menu, "GetLayout", SNOOZE, -1, [])[1][0] == SNOOZE


def test_an_underscore_is_no_access_key() -> None:
    menu = Menu(WITH_UNIT, lambda _: None)
    assert call(menu, "GetProperty", 2, "label") == (("s", "words__of__all, version 1: 25 %"),)


def test_properties_of_a_group(menu: Menu) -> None:
    (found,) = call(menu, "GetGroupProperties", [PAUSE, 3, 999], ["label", "type", "visible"])

    assert found == [
        (PAUSE, {"label": ("s", "Pause"), "visible": ("b", True)}),
        (3, {"type": ("s", "separator"), "visible": ("b", True)}),
    ]
    (everything,) = call(menu, "GetGroupProperties", [], [])
    assert len(everything) == len(entries(WORKING)) + 1


def test_a_property_that_is_not_set_has_its_default(menu: Menu) -> None:
    assert call(menu, "GetProperty", PAUSE, "type") == (("s", "standard"),)


@pytest.mark.parametrize(
    ("member", "body"),
    [
        ("GetProperty", (PAUSE, "no-such")),
        ("GetProperty", (999, "label")),
        ("GetLayout", (999, -1, [])),
        ("Event", (999, "clicked", ("i", 0), 0)),
        ("Nothing", ()),
    ],
)
def test_what_is_not_there_is_refused(menu: Menu, member: str, body: tuple[Any, ...]) -> None:
    with pytest.raises(Refusal):
        menu.answer(MENU_INTERFACE, member, body)


@pytest.mark.parametrize("event", ["hovered", "opened", "closed"])
def test_only_a_click_chooses(menu: Menu, chosen: list[Command], event: str) -> None:
    call(menu, "Event", PAUSE, event, ("i", 0), 0)
    assert chosen == []


def test_a_click_chooses(menu: Menu, chosen: list[Command]) -> None:
    call(menu, "Event", PAUSE, "clicked", ("i", 0), 0)
    call(menu, "Event", 53, "clicked", ("i", 0), 0)
    assert chosen == [Command.PAUSE, Command.SNOOZE_3_H]


@pytest.mark.parametrize("number", [0, 1, 3, SNOOZE, START])
def test_lines_to_read_and_what_is_hidden_cannot_be_chosen(
    menu: Menu, chosen: list[Command], number: int
) -> None:
    call(menu, "Event", number, "clicked", ("i", 0), 0)
    assert chosen == []


def test_several_events_at_once(menu: Menu, chosen: list[Command]) -> None:
    events = [(PAUSE, "clicked", ("i", 0), 0), (999, "clicked", ("i", 0), 0)]
    assert call(menu, "EventGroup", events) == ([999],)
    assert chosen == [Command.PAUSE]


def test_nothing_changes_silently_and_no_change_is_silent(menu: Menu) -> None:
    assert menu.show(WORKING) == []

    signals = menu.show(OFFLINE)
    for signal in signals:
        written(signal)
    assert [signal.member for signal in signals] == ["ItemsPropertiesUpdated", "LayoutUpdated"]
    assert signals[1].body == (2, 0)
    assert call(menu, "GetLayout", 0, 0, [])[0] == 2


def test_progress_leaves_an_open_menu_open() -> None:
    menu = Menu(WITH_UNIT, lambda _: None)
    (signal,) = menu.show(FURTHER)

    assert signal.member == "ItemsPropertiesUpdated"
    assert [number for number, _ in signal.body[0]] == [2]


def test_properties_of_the_interface(menu: Menu) -> None:
    ask = "org.freedesktop.DBus.Properties"
    assert menu.answer(ask, "Get", (MENU_INTERFACE, "Version")).body == (("u", 3),)
    assert set(menu.answer(ask, "GetAll", (MENU_INTERFACE,)).body[0]) == {
        "Version",
        "TextDirection",
        "Status",
        "IconThemePath",
    }
    assert call(menu, "AboutToShow", 0) == (False,)
    assert call(menu, "AboutToShowGroup", [0]) == ([], [])
