"""What the agent asks of systemd-logind (org.freedesktop.login1) or of elogind.

An inhibitor is a file: while it is open, logind waits (`delay`, five seconds at most by default) or
refuses (`block`). See systemd's "Inhibitor Locks" and org.freedesktop.login1(5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jeepney import DBusAddress, MatchRule, MessageType, Properties, message_bus, new_method_call
from jeepney.io.blocking import DBusConnection, open_dbus_connection

if TYPE_CHECKING:
    from jeepney import Message

__all__ = [
    "NoLogindError",
    "open_logind",
    "signal_rule",
    "take_inhibitor",
    "wait_seconds",
    "watch",
]

_PATH: Final = "/org/freedesktop/login1"
_SERVICE: Final = "org.freedesktop.login1"
_MANAGER: Final = "org.freedesktop.login1.Manager"
_ADDRESS: Final = DBusAddress(_PATH, _SERVICE, _MANAGER)
_WHO: Final = "Pleb-Cluster"
_SECONDS: Final = 2.0


class NoLogindError(OSError):
    """There is no logind that answers, or it refuses."""


def open_logind(address: str = "SYSTEM") -> DBusConnection:
    """Return a connection that can carry files.

    Raises:
        NoLogindError: there is no system bus.
    """
    try:
        return open_dbus_connection(address, enable_fds=True, auth_timeout=_SECONDS)
    except (OSError, RuntimeError, ValueError) as error:
        raise NoLogindError(f"The system bus does not answer: {error}") from error


def take_inhibitor(connection: DBusConnection, what: str, why: str, mode: str) -> int:
    """Return the inhibitor's file descriptor; closing it ends the inhibition.

    Raises:
        NoLogindError: logind is not there, or refuses.
    """
    call = new_method_call(_ADDRESS, "Inhibit", "ssss", (what, _WHO, why, mode))
    return int(_answer(connection, call).body[0].to_raw_fd())


def wait_seconds(connection: DBusConnection) -> float:
    """Return for how long logind waits for those who delay it.

    Raises:
        NoLogindError: logind is not there.
    """
    reply = _answer(connection, Properties(_ADDRESS).get("InhibitDelayMaxUSec"))
    return float(reply.body[0][1]) / 1e6


def signal_rule(member: str, sender: str | None = None) -> MatchRule:
    """Return the rule that matches one of the manager's signals."""
    return MatchRule(type="signal", sender=sender, path=_PATH, interface=_MANAGER, member=member)


def watch(connection: DBusConnection, *members: str) -> None:
    """Have these signals sent to us, if logind itself emits them.

    Raises:
        NoLogindError: the bus does not answer.
    """
    for member in members:
        _answer(connection, message_bus.AddMatch(signal_rule(member, _SERVICE)))


def _answer(connection: DBusConnection, call: Message) -> Message:
    try:
        reply = connection.send_and_get_reply(call, timeout=_SECONDS)
    except (OSError, RuntimeError) as error:
        raise NoLogindError(f"logind does not answer: {error}") from error
    if reply.header.message_type is MessageType.error:
        raise NoLogindError(f"logind refuses: {reply.body}")
    return reply
