"""Sleep and shutdown as logind announces them.

A delaying inhibitor is held all the time, so that logind waits while the worker writes its
checkpoint; it is let go when that is done, and taken anew after the machine woke up. The
connection has a thread of its own, since the inhibitor is a file, which jeepney's asyncio
connection cannot receive.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as LateError
from typing import TYPE_CHECKING, Final

from pleb_agent.sensors.logind import (
    NoLogindError,
    open_logind,
    signal_rule,
    take_inhibitor,
    wait_seconds,
    watch,
)
from pleb_agent.sensors.session_events import MachineState

if TYPE_CHECKING:
    from jeepney import Message
    from jeepney.io.blocking import DBusConnection

    from pleb_agent.sensors.session_events import SessionListener

__all__ = ["LogindEvents"]

_LOG: Final = logging.getLogger("pleb.agent")
_SLEEP: Final = "PrepareForSleep"
_SHUTDOWN: Final = "PrepareForShutdown"
_SHARE: Final = 0.8
"""Of the time that logind waits: the rest is for letting go."""


class LogindEvents:
    """Watches logind at a bus address. Without a bus it looks again now and then."""

    def __init__(self, address: str = "SYSTEM", *, retry_seconds: float = 60.0) -> None:
        self._address = address
        self._retry_seconds = retry_seconds

    async def run(self, listener: SessionListener) -> None:
        """Tell the listener until cancelled."""
        watcher = _Watcher(self._address, self._retry_seconds, listener)
        thread = threading.Thread(target=watcher.run, name="logind", daemon=True)
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            watcher.close()


class _Watcher:
    """The thread's part."""

    def __init__(self, address: str, retry_seconds: float, listener: SessionListener) -> None:
        self._address = address
        self._retry_seconds = retry_seconds
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self._connection: DBusConnection | None = None
        self._inhibitor: int | None = None
        self._state = MachineState()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self._watch()
            except (OSError, RuntimeError) as error:  # the bus went away, or there is none
                _LOG.debug("logind is not watched: %s", error)
            finally:
                self._let_go()
                self._disconnect()
            self._ended.wait(self._retry_seconds)

    def close(self) -> None:
        """End the thread, which waits for a message."""
        self._ended.set()
        connection = self._connection
        if connection is not None:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                _LOG.debug("The bus had gone already.")

    def _watch(self) -> None:
        connection = self._connection = open_logind(self._address)
        watch(connection, _SLEEP, _SHUTDOWN)
        self._take(connection)
        rules = {member: signal_rule(member) for member in (_SLEEP, _SHUTDOWN)}
        while not self._ended.is_set():
            message = connection.receive()
            for member, rule in rules.items():
                if rule.matches(message):
                    self._heard(connection, member, message)

    def _heard(self, connection: DBusConnection, member: str, message: Message) -> None:
        begins = bool(message.body[0])
        old = self._state
        if member == _SLEEP:
            self._state = MachineState(begins, old.shutting_down)
        else:
            self._state = MachineState(old.suspending, begins)
        self._loop.call_soon_threadsafe(self._listener.changed, self._state)
        if begins:
            self._prepare(connection)
            self._let_go()
        else:
            self._take(connection)

    def _prepare(self, connection: DBusConnection) -> None:
        """Have the listener write what it must, within the time that logind gives."""
        preparing = asyncio.run_coroutine_threadsafe(self._prepared(), self._loop)
        try:
            preparing.result(wait_seconds(connection) * _SHARE)
        except (LateError, CancelledError):
            preparing.cancel()
            _LOG.warning("The machine sleeps before everything was written.")

    async def _prepared(self) -> None:
        await self._listener.prepare()

    def _take(self, connection: DBusConnection) -> None:
        self._let_go()
        try:
            self._inhibitor = take_inhibitor(
                connection, "sleep:shutdown", "To write down what was computed", "delay"
            )
        except NoLogindError as error:
            _LOG.debug("Sleep is not delayed: %s", error)

    def _let_go(self) -> None:
        if self._inhibitor is not None:
            os.close(self._inhibitor)
            self._inhibitor = None

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
