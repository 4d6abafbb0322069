"""Messages between the tray and a bus that the test plays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    new_error,
    new_method_call,
    new_method_return,
)

from pleb_agent.dbus.bus import open_bus, session_address
from pleb_agent.dbus.stream import ServiceLost, ServiceMissing
from pleb_agent.tray.item import ITEM_INTERFACE, ITEM_PATH, MENU_INTERFACE, MENU_PATH
from pleb_agent.tray.linux import BusTray
from pleb_agent.tray.look import Command, look_of
from pleb_agent.tray.words import words_in
from tests.unit.agent.tray.played_bus import Broker, member

if TYPE_CHECKING:
    from collections.abc import Iterator

SAY = words_in("en")
WORKING = look_of({"activity": "working", "sentence": "So."}, SAY)
PROBLEM = look_of({"activity": "problem", "sentence": "Oh."}, SAY)


def deliver(broker: Broker, message: Message) -> None:
    """Let a message arrive and be read."""
    broker.send(message)
    broker.bus.turn()


def new_owner(broker: Broker, old: str, new: str) -> None:
    broker.owner(old, new)
    broker.bus.turn()


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    try:
        yield broker
    finally:
        broker.close()


@pytest.fixture
def clicks() -> list[tuple[Command, str]]:
    return []


@pytest.fixture
def tray(broker: Broker, clicks: list[tuple[Command, str]]) -> BusTray:
    """A tray that has said who it is and asked for the watcher."""
    tray = BusTray(broker.bus, WORKING, "", lambda command, token: clicks.append((command, token)))
    tray.start()
    return tray


def greeting(broker: Broker) -> dict[str, Message]:
    return {member(message): message for message in (broker.next() for _ in range(3))}


def test_it_registers_with_the_watcher_that_is_there(broker: Broker, tray: BusTray) -> None:
    asked = greeting(broker)
    assert set(asked) == {"RequestName", "AddMatch", "GetNameOwner"}
    deliver(broker, new_method_return(asked["GetNameOwner"], "s", (":1.3",)))

    registering = broker.next()
    assert member(registering) == "RegisterStatusNotifierItem"
    assert registering.body == asked["RequestName"].body[:1]


def test_without_a_watcher_it_waits_for_one(broker: Broker, tray: BusTray) -> None:
    asked = greeting(broker)
    error = "org.freedesktop.DBus.Error.NameHasNoOwner"
    deliver(broker, new_error(asked["GetNameOwner"], error, "s", ("No.",)))
    new_owner(broker, "", ":1.9")
    assert member(broker.next()) == "RegisterStatusNotifierItem"


def test_it_registers_again_with_a_restarted_panel(broker: Broker, tray: BusTray) -> None:
    greeting(broker)
    for old, new in (("", ":1.9"), (":1.9", ""), ("", ":1.12")):
        new_owner(broker, old, new)
        if new:
            registering = broker.next()
            assert member(registering) == "RegisterStatusNotifierItem"
            deliver(broker, new_method_return(registering))


def test_a_watcher_may_refuse(broker: Broker, tray: BusTray) -> None:
    greeting(broker)
    new_owner(broker, "", ":1.9")
    deliver(broker, new_error(broker.next(), "org.example.No", "s", ("No.",)))
    assert broker.call("/any", "org.freedesktop.DBus.Peer", "Ping", "", ())


def test_calls_reach_icon_and_menu(
    broker: Broker, tray: BusTray, clicks: list[tuple[Command, str]]
) -> None:
    greeting(broker)
    broker.call(ITEM_PATH, ITEM_INTERFACE, "ProvideXdgActivationToken", "s", ("token",))
    broker.call(ITEM_PATH, ITEM_INTERFACE, "Activate", "ii", (1, 2))
    broker.call(MENU_PATH, MENU_INTERFACE, "Event", "isvu", (4, "clicked", ("i", 0), 0))
    layout = broker.call(MENU_PATH, MENU_INTERFACE, "GetLayout", "iias", (0, -1, []))
    properties = broker.call(
        ITEM_PATH, "org.freedesktop.DBus.Properties", "GetAll", "s", (ITEM_INTERFACE,)
    )

    assert clicks == [(Command.OPEN, "token"), (Command.PAUSE, "")]
    assert layout.header.message_type is MessageType.method_return
    assert layout.body[0] == 1
    assert properties.body[0]["Id"] == ("s", "pleb-agent")


@pytest.mark.parametrize(
    ("path", "interface", "name", "signature", "body", "error"),
    [
        ("/nowhere", ITEM_INTERFACE, "Activate", "ii", (1, 2), "UnknownObject"),
        (ITEM_PATH, ITEM_INTERFACE, "Jump", "ii", (1, 2), "UnknownMethod"),
        (MENU_PATH, MENU_INTERFACE, "GetLayout", "s", ("x",), "InvalidArgs"),
        (MENU_PATH, MENU_INTERFACE, "EventGroup", "i", (3,), "InvalidArgs"),
        (ITEM_PATH, "org.freedesktop.DBus.Introspectable", "Introspect", "s", ("",), "UnknownMe"),
    ],
)
def test_invalid_calls_get_an_error(
    broker: Broker,
    tray: BusTray,
    path: str,
    interface: str,
    name: str,
    signature: str,
    body: Any,
    error: str,
) -> None:
    greeting(broker)
    reply = broker.call(path, interface, name, signature, body)

    assert reply.header.message_type is MessageType.error
    assert f"org.freedesktop.DBus.Error.{error}" in reply.header.fields[HeaderFields.error_name]


def test_ping(broker: Broker) -> None:
    reply = broker.call("/any", "org.freedesktop.DBus.Peer", "Ping", "", ())
    assert reply.header.message_type is MessageType.method_return


def test_a_call_without_a_reply_gets_none(broker: Broker, tray: BusTray) -> None:
    greeting(broker)
    address = DBusAddress(ITEM_PATH, bus_name=":1.7", interface=ITEM_INTERFACE)
    quiet = new_method_call(address, "Scroll", "is", (1, "vertical"))
    quiet.header.flags = 1
    deliver(broker, quiet)
    assert broker.call("/any", "org.freedesktop.DBus.Peer", "Ping", "", ())


def test_a_change_sends_its_signals(broker: Broker, tray: BusTray) -> None:
    greeting(broker)
    tray.show(PROBLEM)
    told = [broker.next() for _ in range(5)]

    assert [member(signal) for signal in told] == [
        "NewIcon",
        "NewAttentionIcon",
        "NewToolTip",
        "NewStatus",
        "ItemsPropertiesUpdated",
    ]
    assert told[3].body == ("NeedsAttention",)


def test_a_bus_that_closes_raises(broker: Broker) -> None:
    broker.hang_up()
    with pytest.raises(ServiceLost):
        broker.bus.turn()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"XDG_RUNTIME_DIR": "/nowhere"},
        {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere/bus"},
        {"DBUS_SESSION_BUS_ADDRESS": "tcp:host=127.0.0.1"},
        {"DBUS_SESSION_BUS_ADDRESS": "nonsense"},
    ],
)
def test_a_session_without_a_bus(environment: dict[str, str]) -> None:
    with pytest.raises(ServiceMissing):
        open_bus(session_address(environment))
