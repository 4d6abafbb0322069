"""A connection to a D-Bus message bus on which every call has a time limit.

jeepney gives the wire format and the authentication; its own connections wait for ever for the
first answer of a bus.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from jeepney import DBusAddress, HeaderFields, MatchRule, Message, MessageFlag, MessageType, Parser
from jeepney.bus import get_bus
from jeepney.io.blocking import prep_socket
from jeepney.wrappers import new_method_call

from pleb_agent.probe.backend import ANSWER_SECONDS, CannotRead, NotHere
from pleb_agent.probe.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Bus", "CallRefused", "session_address", "system_address"]

_BUS: Final = DBusAddress(
    "/org/freedesktop/DBus", bus_name="org.freedesktop.DBus", interface="org.freedesktop.DBus"
)
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"


class CallRefused(CannotRead):
    """The other side answers with an error. `name`: D-Bus's name of it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"A program on the message bus refuses a request ({name}).")
        self.name = name


def session_address(environment: Mapping[str, str], runtime_folder: str) -> str:
    """Return where the session's bus should be; "" without any hint."""
    if address := environment.get("DBUS_SESSION_BUS_ADDRESS"):
        return address
    return f"unix:path={runtime_folder}/bus" if runtime_folder else ""


def system_address(environment: Mapping[str, str]) -> str:
    """Return where the system's bus should be."""
    default = "unix:path=/var/run/dbus/system_bus_socket"
    return environment.get("DBUS_SYSTEM_BUS_ADDRESS") or default


class Bus:
    """A bus.

    Raises:
        NotHere: nothing answers at this address.
        SessionLost: the bus hangs.
    """

    def __init__(self, address: str) -> None:
        try:
            connection = prep_socket(get_bus(address), timeout=ANSWER_SECONDS)
        except (OSError, ValueError, KeyError, StopIteration, RuntimeError) as error:
            raise NotHere(f"No message bus answers at {address or 'no address'}.") from error
        self._stream = Stream(connection, "The message bus")
        self._parser = Parser()
        self._serials = count(1)
        self._signals: deque[Message] = deque()
        try:
            self.call(_BUS, "Hello")
        except CannotRead:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the socket, readable when signals arrive."""
        return self._stream.fileno()

    def close(self) -> None:
        """Leave the bus."""
        self._stream.close()

    def call(
        self, address: DBusAddress, member: str, signature: str = "", body: tuple[Any, ...] = ()
    ) -> tuple[Any, ...]:
        """Call a method, without starting a program for it; return what it returns.

        Raises:
            CallRefused: the answer is an error.
            SessionLost: no answer comes in time, or the bus is gone.
        """
        message = new_method_call(address, member, signature or None, body)
        message.header.flags |= MessageFlag.no_auto_start
        serial = next(self._serials)
        self._stream.write(message.serialise(serial=serial))
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            answer = self._receive(deadline)
            fields = answer.header.fields
            if fields.get(HeaderFields.reply_serial) != serial:
                self._keep(answer)
            elif answer.header.message_type is MessageType.error:
                raise CallRefused(fields.get(HeaderFields.error_name, "unknown"))
            else:
                return tuple(answer.body)

    def get(self, address: DBusAddress, name: str) -> Any:
        """Return a property.

        Raises:
            CallRefused: there is no such property.
            SessionLost: no answer comes in time, or the bus is gone.
        """
        properties = DBusAddress(address.object_path, address.bus_name, _PROPERTIES)
        (variant,) = self.call(properties, "Get", "ss", (address.interface, name))
        return variant[1]

    def has_owner(self, name: str) -> bool:
        """Whether a program has this name now."""
        return bool(self.call(_BUS, "NameHasOwner", "s", (name,))[0])

    def listen(self, **rule: Any) -> None:
        """Have matching signals sent to us (arguments of `jeepney.MatchRule`)."""
        self._listen(MatchRule(type="signal", **rule))

    def listen_for_owner(self, name: str) -> None:
        """Have it told when a program takes or loses this name."""
        rule = MatchRule(
            type="signal", sender=_BUS.bus_name, interface=_BUS.interface, member="NameOwnerChanged"
        )
        rule.add_arg_condition(0, name)
        self._listen(rule)

    def _listen(self, rule: MatchRule) -> None:
        self.call(_BUS, "AddMatch", "s", (rule.serialise(),))

    def signals(self) -> list[Message]:
        """Return the signals that have arrived, without waiting.

        Raises:
            SessionLost: the bus is gone.
        """
        if data := self._stream.read(0):
            self._parser.add_data(data)
        while (message := self._parser.get_next_message()) is not None:
            self._keep(message)
        taken = list(self._signals)
        self._signals.clear()
        return taken

    def _keep(self, message: Message) -> None:
        if message.header.message_type is MessageType.signal:
            self._signals.append(message)

    def _receive(self, deadline: float) -> Message:
        while (message := self._parser.get_next_message()) is None:
            self._parser.add_data(self._stream.read_some(deadline - time.monotonic()))
        return message
