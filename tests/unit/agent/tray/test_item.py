"""The icon on the bus: its properties, its signals, its clicks."""

from __future__ import annotations

from typing import Any

import pytest
from jeepney import Endianness
from jeepney.low_level import parse_signature

from pleb_agent.dbus.events import Refusal
from pleb_agent.tray.icons import Shade, icon_of
from pleb_agent.tray.item import ITEM_INTERFACE, Item
from pleb_agent.tray.look import Command, Look, look_of
from pleb_agent.tray.words import words_in

SAY = words_in("en")
PROPERTIES = "org.freedesktop.DBus.Properties"


def look(activity: str, sentence: str = "So.") -> Look:
    return look_of({"activity": activity, "sentence": sentence}, SAY)


def item_of(now: Look, clicks: list[Command] | None = None) -> Item:
    clicks = [] if clicks is None else clicks
    return Item(now, icon_of(now.state, Shade.UNKNOWN), clicks.append)


def show(item: Item, now: Look) -> list[str]:
    return [signal.member for signal in item.show(now, icon_of(now.state, Shade.UNKNOWN))]


def test_every_property_is_what_its_signature_says() -> None:
    answer = item_of(look("working")).answer(PROPERTIES, "GetAll", (ITEM_INTERFACE,))

    kind: Any = parse_signature(list("(a{sv})"))
    assert kind.serialise(answer.body, 0, Endianness.little)
    found = answer.body[0]
    assert found["IconName"] == ("s", "pleb-agent-training")
    assert found["ToolTip"] == ("(sa(iiay)ss)", ("", [], "Pleb-Cluster", "So."))
    assert found["Menu"] == ("o", "/MenuBar")
    assert found["ItemIsMenu"] == ("b", False)
    assert [(w, h, len(data)) for w, h, data in found["IconPixmap"][1]] == [
        (22, 22, 22 * 22 * 4),
        (48, 48, 48 * 48 * 4),
    ]


def test_a_strangers_words_are_no_markup() -> None:
    found = item_of(look("working", "words: <img src='http://a.example'> & more")).properties()
    assert found["ToolTip"][1][3] == "words: &lt;img src='http://a.example'&gt; &amp; more"
    assert found["IconAccessibleDesc"][1] == "words: <img src='http://a.example'> & more"


def test_a_problem_asks_for_attention() -> None:
    def attention(activity: str) -> Any:
        return item_of(look(activity)).answer(PROPERTIES, "Get", (ITEM_INTERFACE, "Status")).body

    assert attention("problem") == (("s", "NeedsAttention"),)
    assert attention("paused") == (("s", "Active"),)


def test_only_changes_are_signalled() -> None:
    item = item_of(look("working"))

    assert show(item, look("working")) == []
    assert show(item, look("working", "Other.")) == ["NewToolTip"]
    assert show(item, look("paused", "Other.")) == ["NewIcon", "NewAttentionIcon"]
    assert show(item, look("problem", "Oh.")) == [
        "NewIcon",
        "NewAttentionIcon",
        "NewToolTip",
        "NewStatus",
    ]


def test_another_shade_is_another_icon() -> None:
    now = look("working")
    signals = item_of(now).show(now, icon_of(now.state, Shade.DARK))
    assert [signal.member for signal in signals] == ["NewIcon", "NewAttentionIcon"]


def test_clicks() -> None:
    clicks: list[Command] = []
    item = item_of(look("working"), clicks)

    item.answer(ITEM_INTERFACE, "ProvideXdgActivationToken", ("token",))
    item.answer(ITEM_INTERFACE, "Activate", (1, 2))
    item.answer(ITEM_INTERFACE, "SecondaryActivate", (1, 2))
    item.answer(ITEM_INTERFACE, "ContextMenu", (1, 2))
    item.answer(ITEM_INTERFACE, "Scroll", (1, "vertical"))

    assert clicks == [Command.OPEN, Command.PAUSE]
    assert item.activation_token == "token"


@pytest.mark.parametrize(
    ("interface", "member", "body"),
    [
        (ITEM_INTERFACE, "Nothing", ()),
        (PROPERTIES, "Get", (ITEM_INTERFACE, "Nothing")),
        (PROPERTIES, "Set", (ITEM_INTERFACE, "Title", ("s", "x"))),
        ("org.example.Other", "Do", ()),
    ],
)
def test_what_is_not_there_is_refused(interface: str, member: str, body: tuple[Any, ...]) -> None:
    with pytest.raises(Refusal):
        item_of(look("working")).answer(interface, member, body)


def test_another_interface_has_no_properties_here() -> None:
    item = item_of(look("working"))
    assert item.answer(PROPERTIES, "GetAll", ("org.example.Other",)).body == ({},)
