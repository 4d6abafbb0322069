"""The coordinator's online keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from typing_extensions import override

from pleb_coordinator.admin.command import Command, Desk, Text, Value
from pleb_coordinator.home.keys import OnlineKeys, earlier_key_file, rotate_online_key
from pleb_shared.errors import InputError
from pleb_system.durable import remove_private

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project

__all__ = [
    "COMMANDS",
    "DeleteKey",
    "KeyDeleted",
    "KeyRotated",
    "KeyShown",
    "KeyUse",
    "ListKeys",
    "RotateKey",
]


class KeyUse(Value, frozen=True):
    """A project that delegates to a key."""

    project: str
    expires_at: float


class KeyShown(Value, frozen=True):
    """An online key."""

    key: str
    newest: bool
    projects: list[str]
    uses: list[KeyUse]


class KeyRotated(Value, frozen=True):
    """The newest key, and the projects whose researchers have to renew."""

    key: str
    to_renew: list[str]


class KeyDeleted(Value, frozen=True):
    """An earlier key is gone."""

    deleted: str


class ListKeys(Command[list[KeyShown]], frozen=True):
    """The online keys, and which projects delegate to each."""

    words: ClassVar[str] = "key list"

    def carry_out(self, desk: Desk) -> list[KeyShown]:
        """Raises `InputError`: a key cannot be read."""
        newest, *earlier = OnlineKeys(desk.home).all()
        projects = _projects(desk)
        found = []
        for key in (newest, *earlier):
            users = [p for p in projects if p.metadata.delegation.online_key == key.public]
            uses = [KeyUse(p.name, p.metadata.delegation.expires_at) for p in users]
            names = [p.name for p in users]
            found.append(KeyShown(key.fingerprint, key is newest, names, uses))
        return found


class RotateKey(Command[KeyRotated], frozen=True):
    """Make a new online key; a running `serve` uses it at once."""

    words: ClassVar[str] = "key rotate"

    @override
    def told(self, answer: KeyRotated) -> dict[str, Any]:
        """Return the new key."""
        return {"key": answer.key}

    def carry_out(self, desk: Desk) -> KeyRotated:
        """Raises `InputError`: the key cannot be read."""
        projects = [project.name for project in _projects(desk)]
        return KeyRotated(rotate_online_key(desk.home).fingerprint, projects)


class DeleteKey(Command[KeyDeleted], frozen=True):
    """Delete an earlier online key that no project delegates to any more."""

    words: ClassVar[str] = "key delete"
    key: Text
    """The beginning of its fingerprint."""

    @override
    def told(self, answer: KeyDeleted) -> dict[str, Any]:
        """Return the whole fingerprint."""
        return {"key": answer.deleted}

    def carry_out(self, desk: Desk) -> KeyDeleted:
        """Raises `InputError`: no key is called so, or several; it is needed."""
        given = self.key.lower()
        newest, *earlier = OnlineKeys(desk.home).all()
        found = [key for key in earlier if key.fingerprint.startswith(given)]
        if len(found) != 1:
            if newest.fingerprint.startswith(given):
                raise InputError("This is the newest key: run `pleb-coordinator key rotate` first.")
            raise InputError(f"{self.key!r} begins no earlier key, or several: see `key list`.")
        users = [
            project.name
            for project in _projects(desk)
            if project.metadata.delegation.online_key == found[0].public
        ]
        if users:
            raise InputError(
                f"{', '.join(users)} still delegates to this key: its researcher must run "
                "`pleb-project renew` first."
            )
        remove_private(earlier_key_file(desk.home, found[0].fingerprint))
        return KeyDeleted(found[0].fingerprint)


def _projects(desk: Desk) -> list[Project]:
    with desk.opened() as store, store.read() as tx:
        return [tx.projects.find(name) for name in tx.projects.names()]


COMMANDS: Final = (ListKeys, RotateKey, DeleteKey)
