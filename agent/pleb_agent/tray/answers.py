"""What our D-Bus objects answer: a signature and a body, or a typed no."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

__all__ = ["NOTHING", "Answer", "DBusRefusal", "Properties", "Signal", "properties_answer"]

Properties = dict[str, tuple[str, Any]]
"""Values by name, each with its signature, as jeepney writes variants."""


class Answer(NamedTuple):
    """A reply. `signature` None: it carries nothing."""

    signature: str | None = None
    body: tuple[Any, ...] = ()


class Signal(NamedTuple):
    """Something to tell the hosts."""

    path: str
    interface: str
    member: str
    signature: str | None = None
    body: tuple[Any, ...] = ()


NOTHING: Final = Answer()


class DBusRefusal(Exception):
    """Becomes an error reply of this name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = f"org.freedesktop.DBus.Error.{name}"


def properties_answer(
    interface: str, properties: Properties, member: str, body: tuple[Any, ...]
) -> Answer:
    """Answer a call of `org.freedesktop.DBus.Properties` for the one interface of an object.

    Raises:
        DBusRefusal: another interface, no such property, or an attempt to set one.
    """
    if member == "GetAll":
        return Answer("a{sv}", (properties if body[:1] in {(interface,), ("",)} else {},))
    if member == "Get":
        if body[1:2] and body[1] in properties:
            return Answer("v", (properties[body[1]],))
        raise DBusRefusal("UnknownProperty", "There is no such property.")
    if member == "Set":
        raise DBusRefusal("PropertyReadOnly", "Nothing can be set here.")
    raise DBusRefusal("UnknownMethod", f"There is no method {member}.")
