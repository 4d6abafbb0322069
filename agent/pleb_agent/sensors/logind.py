"""systemd-logind (org.freedesktop.login1) or elogind: sleep, shutdown, and staying awake.

An inhibitor is a file: while it is open, logind waits (`delay`, five seconds at most by default) or
refuses (`block`). See systemd's "Inhibitor Locks" and org.freedesktop.login1(5).

A delaying inhibitor is held all the time, so that logind waits while the worker writes its
checkpoint; it is closed when that is done, and taken again after the machine woke up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Final

from jeepney import DBusAddress, HeaderFields

from pleb_agent.dbus.bus import Bus, open_bus, system_address
from pleb_agent.dbus.stream import ServiceError
from pleb_agent.sensors.session_events import MachineState

if TYPE_CHECKING:
    from pleb_agent.sensors.session_events import SessionListener

__all__ = ["MANAGER", "LogindBlock", "LogindEvents"]

_LOG: Final = logging.getLogger("pleb.agent")
_SERVICE: Final = "org.freedesktop.login1"
MANAGER: Final = DBusAddress("/org/freedesktop/login1", _SERVICE, f"{_SERVICE}.Manager")
_WHO: Final = "Pleb-Cluster"
_SLEEP: Final = "PrepareForSleep"
_SHUTDOWN: Final = "PrepareForShutdown"
_SHARE: Final = 0.8
"""Of the time that logind waits: the rest is for closing the inhibitor."""


def _open_bus(address: str) -> Bus:
    where = address or system_address(os.environ)
    return open_bus(where, start_services=True, receive_files=True)


def _take_inhibitor(bus: Bus, what: str, why: str, mode: str) -> int:
    """Return the inhibitor's file descriptor; closing it ends the inhibition.

    Raises:
        ServiceError: logind is not there, or refuses.
    """
    (file,) = bus.call(MANAGER, "Inhibit", "ssss", (what, _WHO, why, mode))
    return int(file.to_raw_fd())


class LogindBlock:
    """Keeps the machine awake: logind refuses to sleep, by itself and by the desktop.

    `address`: of a bus; "": the system's.
    """

    def __init__(self, address: str = "") -> None:
        self._address = address
        self._inhibitor: int | None = None

    def hold(self) -> None:
        """Take the inhibitor.

        Raises:
            OSError: logind is not there, or refuses.
        """
        try:
            with _open_bus(self._address) as bus:
                self._inhibitor = _take_inhibitor(
                    bus, "idle:sleep", "A unit is being computed", "block"
                )
        except ServiceError as error:
            raise OSError(f"logind does not keep it awake: {error}") from error

    def release(self) -> None:
        """Close it."""
        if self._inhibitor is not None:
            os.close(self._inhibitor)
            self._inhibitor = None


class LogindEvents:
    """Reports sleep and shutdown. Without a bus it tries again now and then.

    `address`: of a bus; "": the system's.
    """

    def __init__(self, address: str = "", *, retry_seconds: float = 60.0) -> None:
        self._address = address
        self._retry_seconds = retry_seconds

    async def run(self, listener: SessionListener) -> None:
        """Call the listener until cancelled."""
        watcher = _Watcher(self._address, self._retry_seconds, listener)
        thread = threading.Thread(target=watcher.run, name="logind", daemon=True)
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            watcher.close()


class _Watcher:
    """The part that runs in a thread, which waits for signals without a limit."""

    def __init__(self, address: str, retry_seconds: float, listener: SessionListener) -> None:
        self._address = address
        self._retry_seconds = retry_seconds
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self._bus: Bus | None = None
        self._inhibitor: int | None = None
        self._state = MachineState()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                with _open_bus(self._address) as bus:
                    self._bus = bus
                    self._watch(bus)
            except (ServiceError, RuntimeError) as error:  # the event loop may have closed
                _LOG.debug("logind is not watched: %s", error)
            finally:
                self._bus = None
                self._close_inhibitor()
            self._ended.wait(self._retry_seconds)

    def close(self) -> None:
        """End the thread. To be called by another one."""
        self._ended.set()
        bus = self._bus
        if bus is not None:
            bus.interrupt()

    def _watch(self, bus: Bus) -> None:
        for member in (_SLEEP, _SHUTDOWN):
            bus.listen(
                sender=_SERVICE,
                path=MANAGER.object_path,
                interface=MANAGER.interface,
                member=member,
            )
        self._delay_sleep(bus)
        while not self._ended.is_set():
            signal = bus.wait_for_signal()
            member = signal.header.fields.get(HeaderFields.member)
            if member not in (_SLEEP, _SHUTDOWN):
                continue
            begins, old = bool(signal.body[0]), self._state
            if member == _SLEEP:
                self._state = MachineState(begins, old.shutting_down)
            else:
                self._state = MachineState(old.suspending, begins)
            self._loop.call_soon_threadsafe(self._listener.changed, self._state)
            if begins:
                self._prepare(bus)
                self._close_inhibitor()
            else:
                self._delay_sleep(bus)

    def _prepare(self, bus: Bus) -> None:
        """Let the listener write what it must, within the time that logind gives."""
        preparing = asyncio.run_coroutine_threadsafe(self._listener.prepare(), self._loop)
        wait_seconds = bus.get(MANAGER, "InhibitDelayMaxUSec") / 1e6
        try:
            preparing.result(wait_seconds * _SHARE)
        except (TimeoutError, CancelledError):
            preparing.cancel()
            _LOG.warning("The machine sleeps before everything was written.")

    def _delay_sleep(self, bus: Bus) -> None:
        self._close_inhibitor()
        try:
            self._inhibitor = _take_inhibitor(
                bus, "sleep:shutdown", "To save what was computed", "delay"
            )
        except ServiceError as error:
            _LOG.debug("Sleep is not delayed: %s", error)

    def _close_inhibitor(self) -> None:
        if self._inhibitor is not None:
            os.close(self._inhibitor)
            self._inhibitor = None
