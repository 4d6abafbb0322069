"""The event-driven interface of a bus: replies go to callbacks, calls to our objects.

Waiting is left to the caller's loop, which waits for more than the bus.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from jeepney import (
    DBusAddress,
    HeaderFields,
    MatchRule,
    Message,
    MessageType,
    new_error,
    new_method_call,
    new_method_return,
    new_signal,
)

from pleb_agent.dbus.bus import BUS

if TYPE_CHECKING:
    from pleb_agent.dbus.bus import Bus

__all__ = ["NOTHING", "Answer", "EventBus", "Properties", "Refusal", "Signal", "properties_answer"]

_NO_REPLY: Final = 1

Properties = dict[str, tuple[str, Any]]
"""Values by name, each with its signature, as jeepney writes variants."""
OnReply = Callable[[tuple[Any, ...] | None], None]
"""Takes the reply's body; None: the call was refused."""
OnSignal = Callable[[tuple[Any, ...]], None]
"""Takes the signal's body."""


class Answer(NamedTuple):
    """A reply. `signature` None: it carries nothing."""

    signature: str | None = None
    body: tuple[Any, ...] = ()


NOTHING: Final = Answer()


class Signal(NamedTuple):
    """A signal of one of our objects."""

    path: str
    interface: str
    member: str
    signature: str | None = None
    body: tuple[Any, ...] = ()


class Refusal(Exception):
    """Becomes an error reply of this name (below `org.freedesktop.DBus.Error`)."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = f"org.freedesktop.DBus.Error.{name}"


def properties_answer(
    interface: str, properties: Properties, member: str, body: tuple[Any, ...]
) -> Answer:
    """Answer a call of `org.freedesktop.DBus.Properties` for the one interface of an object.

    Raises:
        Refusal: another interface, no such property, or an attempt to set one.
    """
    if member == "GetAll":
        return Answer("a{sv}", (properties if body[:1] in {(interface,), ("",)} else {},))
    if member == "Get":
        if body[1:2] and body[1] in properties:
            return Answer("v", (properties[body[1]],))
        raise Refusal("UnknownProperty", "There is no such property.")
    if member == "Set":
        raise Refusal("PropertyReadOnly", "The properties cannot be set.")
    raise Refusal("UnknownMethod", f"There is no method {member}.")


class BusObject(Protocol):
    """An object of ours that other programs call."""

    def answer(self, interface: str, member: str, body: tuple[Any, ...]) -> Answer:
        """Answer a call.

        Raises:
            Refusal: becomes an error reply.
        """


class EventBus:
    """Sends at once, and takes in what has arrived in `turn`. Each may raise `ServiceLost`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: dict[int, OnReply] = {}
        self._objects: dict[str, BusObject] = {}
        self._listeners: dict[tuple[str, str], OnSignal] = {}

    def fileno(self) -> int:
        """Return the socket, readable when `turn` has something to do."""
        return self._bus.fileno()

    def close(self) -> None:
        """Leave the bus; what was published is gone."""
        self._bus.close()

    def publish(self, path: str, what: BusObject) -> None:
        """Let other programs call this object."""
        self._objects[path] = what

    def listen(
        self, interface: str, member: str, on_signal: OnSignal, first_argument: str | None = None
    ) -> None:
        """Have `on_signal` called at each such signal, or only at those with this argument."""
        self._listeners[interface, member] = on_signal
        rule = MatchRule(type="signal", interface=interface, member=member)
        if first_argument is not None:
            rule.add_arg_condition(0, first_argument)
        self.call(BUS, "AddMatch", "s", (rule.serialise(),))

    def call(
        self,
        address: DBusAddress,
        member: str,
        signature: str | None = None,
        body: tuple[Any, ...] = (),
        on_reply: OnReply | None = None,
    ) -> None:
        """Call a method; the reply comes in a later `turn`."""
        serial = self._bus.send(new_method_call(address, member, signature, body))
        if on_reply is not None:
            self._waiting[serial] = on_reply

    def emit(self, signal: Signal) -> None:
        """Send a signal to all who listen."""
        emitter = DBusAddress(signal.path, interface=signal.interface)
        self._bus.send(new_signal(emitter, signal.member, signal.signature, signal.body))

    def turn(self) -> None:
        """Take in what has arrived, without waiting."""
        for message in self._bus.arrived():
            fields = message.header.fields
            match message.header.message_type:
                case MessageType.method_call:
                    self._answer_call(message)
                case MessageType.signal:
                    key = (fields.get(HeaderFields.interface, ""), fields[HeaderFields.member])
                    if key in self._listeners:
                        self._listeners[key](message.body)
                case kind:
                    on_reply = self._waiting.pop(fields[HeaderFields.reply_serial], None)
                    if on_reply is not None:
                        on_reply(message.body if kind is MessageType.method_return else None)

    def _answer_call(self, message: Message) -> None:
        try:
            answer = self._answer_of(message)
            reply = new_method_return(message, answer.signature, answer.body)
        except Refusal as refusal:
            reply = new_error(message, refusal.name, "s", (str(refusal),))
        if not message.header.flags & _NO_REPLY:
            self._bus.send(reply)

    def _answer_of(self, message: Message) -> Answer:
        fields = message.header.fields
        interface, member = fields.get(HeaderFields.interface, ""), fields[HeaderFields.member]
        if (interface, member) == ("org.freedesktop.DBus.Peer", "Ping"):
            return NOTHING
        known = self._objects.get(fields[HeaderFields.path])
        if known is None:
            raise Refusal("UnknownObject", "There is no such object.")
        try:
            return known.answer(interface, member, message.body)
        except (IndexError, TypeError, ValueError) as error:
            raise Refusal("InvalidArgs", "The arguments are not what is expected.") from error
