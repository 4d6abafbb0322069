"""A connection to a D-Bus message bus on which every call has a time limit.

jeepney gives the wire format and the authentication; its own connections wait without a limit for
the first answer of a bus. `events` has the event-driven interface over the same connection.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Self

from jeepney import (
    DBusAddress,
    FileDescriptor,
    HeaderFields,
    MatchRule,
    Message,
    MessageFlag,
    MessageType,
    Parser,
)
from jeepney.bus import get_bus
from jeepney.fds import fds_buf_size
from jeepney.io.blocking import prep_socket
from jeepney.wrappers import new_method_call

from pleb_agent.dbus.stream import (
    ANSWER_SECONDS,
    ServiceError,
    ServiceLost,
    ServiceMissing,
    Stream,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["BUS", "Bus", "CallRefused", "open_bus", "session_address", "system_address"]

BUS: Final = DBusAddress(
    "/org/freedesktop/DBus", bus_name="org.freedesktop.DBus", interface="org.freedesktop.DBus"
)
"""The bus itself, which can be called as every program on it."""
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"


class CallRefused(ServiceError):
    """The other side answers a call with an error. `name`: D-Bus's name of it."""

    def __init__(self, name: str, message: str = "") -> None:
        super().__init__(f"A program on the message bus refuses a request ({message or name}).")
        self.name = name


def session_address(environment: Mapping[str, str], runtime_folder: str = "") -> str:
    """Return where the session's bus should be; "" without any hint.

    Where the environment does not name it, it is in the user's runtime folder (systemd).
    """
    if address := environment.get("DBUS_SESSION_BUS_ADDRESS"):
        return address
    folder = runtime_folder or environment.get("XDG_RUNTIME_DIR")
    return f"unix:path={folder}/bus" if folder else ""


def system_address(environment: Mapping[str, str]) -> str:
    """Return where the system's bus should be."""
    default = "unix:path=/var/run/dbus/system_bus_socket"
    return environment.get("DBUS_SYSTEM_BUS_ADDRESS") or default


def open_bus(
    address: str,
    *,
    timeout_seconds: float = ANSWER_SECONDS,
    start_services: bool = False,
    receive_files: bool = False,
) -> Bus:
    """Connect to a bus.

    Args:
        address: as `DBUS_SESSION_BUS_ADDRESS` has it; Unix sockets only.
        timeout_seconds: the limit of each call.
        start_services: whether the bus starts a program that a call needs.
        receive_files: whether file descriptors may come with answers.

    Raises:
        ServiceMissing: nothing answers at this address.
        ServiceLost: the bus hangs.
    """
    try:
        connection = prep_socket(get_bus(address), receive_files, timeout=timeout_seconds)
    except (OSError, ValueError, KeyError, StopIteration, RuntimeError) as error:
        raise ServiceMissing(f"No message bus answers at {address or 'no address'}.") from error
    bus = Bus(
        Stream(connection, "The message bus"),
        timeout_seconds=timeout_seconds,
        start_services=start_services,
        receive_files=receive_files,
    )
    try:
        bus.call(BUS, "Hello")
    except ServiceError:
        bus.close()
        raise
    return bus


class Bus:
    """An authenticated connection; see `open_bus`. For one thread at a time, but `interrupt`."""

    def __init__(
        self,
        stream: Stream,
        *,
        timeout_seconds: float = ANSWER_SECONDS,
        start_services: bool = False,
        receive_files: bool = False,
    ) -> None:
        self._stream = stream
        self._timeout_seconds = timeout_seconds
        self._start_services = start_services
        self._receive_files = receive_files
        self._parser = Parser()
        self._serials = count(1)
        self._signals: deque[Message] = deque()

    def __enter__(self) -> Self:
        """Return the connection, which is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def fileno(self) -> int:
        """Return the socket, readable when messages arrive."""
        return self._stream.fileno()

    def close(self) -> None:
        """Leave the bus."""
        self._stream.close()

    def interrupt(self) -> None:
        """End the connection from another thread: whatever waits on it raises `ServiceLost`."""
        self._stream.interrupt()

    def call(
        self, address: DBusAddress, member: str, signature: str = "", body: tuple[Any, ...] = ()
    ) -> tuple[Any, ...]:
        """Call a method and return what it returns.

        Raises:
            CallRefused: the answer is an error.
            ServiceLost: no answer comes in time, or the bus is gone.
        """
        message = new_method_call(address, member, signature or None, body)
        if not self._start_services:
            message.header.flags |= MessageFlag.no_auto_start
        serial = self.send(message)
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            answer = self._receive(deadline)
            fields = answer.header.fields
            if fields.get(HeaderFields.reply_serial) != serial:
                self._keep(answer)
            elif answer.header.message_type is MessageType.error:
                name = fields.get(HeaderFields.error_name, "unknown")
                raise CallRefused(name, str(answer.body[0]) if answer.body else "")
            else:
                return tuple(answer.body)

    def get(self, address: DBusAddress, name: str) -> Any:
        """Return a property.

        Raises:
            CallRefused: there is no such property.
            ServiceLost: no answer comes in time, or the bus is gone.
        """
        properties = DBusAddress(address.object_path, address.bus_name, _PROPERTIES)
        (variant,) = self.call(properties, "Get", "ss", (address.interface, name))
        return variant[1]

    def has_owner(self, name: str) -> bool:
        """Return whether a program has this name now."""
        return bool(self.call(BUS, "NameHasOwner", "s", (name,))[0])

    def listen(self, **rule: Any) -> None:
        """Have matching signals sent to us (arguments of `jeepney.MatchRule`)."""
        self._add_match(MatchRule(type="signal", **rule))

    def listen_for_owner(self, name: str) -> None:
        """Have a signal sent to us when a program takes or loses this name."""
        rule = MatchRule(
            type="signal", sender=BUS.bus_name, interface=BUS.interface, member="NameOwnerChanged"
        )
        rule.add_arg_condition(0, name)
        self._add_match(rule)

    def signals(self) -> list[Message]:
        """Return the signals that have arrived, without waiting.

        Raises:
            ServiceLost: the bus is gone.
        """
        for message in self.arrived():
            self._keep(message)
        taken = list(self._signals)
        self._signals.clear()
        return taken

    def wait_for_signal(self) -> Message:
        """Return the next signal, without a time limit.

        Raises:
            ServiceLost: the bus is gone, or `interrupt` was called.
        """
        while not self._signals:
            self._keep(self._receive(None))
        return self._signals.popleft()

    def send(self, message: Message) -> int:
        """Send a message and return its serial number.

        Raises:
            ServiceLost: the bus is gone or takes nothing.
        """
        serial = next(self._serials)
        self._stream.write(message.serialise(serial=serial))
        return serial

    def arrived(self) -> list[Message]:
        """Return the messages that have arrived, without waiting. Not with `receive_files`.

        Raises:
            ServiceLost: the bus is gone.
        """
        if data := self._stream.read(0):
            self._parser.add_data(data)
        return list(iter(self._parser.get_next_message, None))

    def _add_match(self, rule: MatchRule) -> None:
        self.call(BUS, "AddMatch", "s", (rule.serialise(),))

    def _keep(self, message: Message) -> None:
        if message.header.message_type is MessageType.signal:
            self._signals.append(message)

    def _receive(self, deadline: float | None) -> Message:
        while (message := self._parser.get_next_message()) is None:
            wait = None if deadline is None else deadline - time.monotonic()
            if self._receive_files:
                self._read_with_files(wait)
            else:
                self._parser.add_data(self._stream.read_some(wait))
        return message

    def _read_with_files(self, wait_seconds: float | None) -> None:
        """Read not beyond the next message: files belong to the message that they came with."""
        connection = self._stream.socket
        connection.settimeout(None if wait_seconds is None else max(0.0, wait_seconds))
        try:
            data, extra, flags, _ = connection.recvmsg(self._parser.bytes_desired(), fds_buf_size())
        except OSError as error:
            raise ServiceLost("The message bus does not answer.") from error
        if not data or flags & socket.MSG_CTRUNC:
            raise ServiceLost("The message bus has ended, or sent more files than fit.")
        self._parser.add_data(data, FileDescriptor.from_ancdata(extra))
