"""Admins, and the browsers in which they use the operator's page."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.records import Admin, AdminSession
from pleb_coordinator.store.queries import admins as sql
from pleb_coordinator.store.rows import Rows, TableGroup

__all__ = ["Admins"]

_ADMIN: Final = Rows(Admin)
_SESSION: Final = Rows(AdminSession)


class Admins(TableGroup):
    """Admins by their names; sessions by the SHA-256 of their token."""

    def put(self, admin: Admin) -> None:
        """Add an admin, or replace the one with that name."""
        self._db.execute(sql.PUT_ADMIN, **_ADMIN.parameters(admin))

    def find(self, name: str) -> Admin | None:
        """Return the admin, or None."""
        return _ADMIN.first(self._db.execute(sql.FIND_ADMIN, name=name))

    def all(self) -> list[Admin]:
        """Return all admins, also those that are revoked, by name."""
        return _ADMIN.all(self._db.execute(sql.ADMINS))

    def join(self, code_hash: str, key: str, now: float) -> Admin | None:
        """Give the admin with that code the key; None: no code is valid that has this hash."""
        return _ADMIN.first(self._db.execute(sql.JOIN_ADMIN, code_hash=code_hash, key=key, now=now))

    def has_code(self, code_hash: str) -> bool:
        """Whether a code that has this hash was made; it may be used already."""
        return self._exists(sql.HAS_ADMIN_CODE, code_hash=code_hash)

    def saw(self, admin: Admin, sequence: int, now: float) -> bool:
        """Take a command's number; False: a greater one came before, or the key is not valid."""
        return self._changed(
            sql.SAW_ADMIN, name=admin.name, key=admin.key, sequence=sequence, now=now
        )

    def revoke(self, name: str) -> bool:
        """Revoke an admin, and end all sessions; False: there is none with that name."""
        self._db.execute(sql.END_ADMIN_SESSIONS, admin=name)
        return self._changed(sql.REVOKE_ADMIN, name=name)

    def add_session(self, session: AdminSession, now: float) -> None:
        """Add a session; forget those that are over."""
        self._db.execute(sql.FORGET_ADMIN_SESSIONS, now=now)
        self._db.execute(sql.ADD_ADMIN_SESSION, **_SESSION.parameters(session))

    def session(self, token_hash: str) -> AdminSession | None:
        """Return the session or link, or None."""
        return _SESSION.first(self._db.execute(sql.FIND_ADMIN_SESSION, token_hash=token_hash))

    def end_session(self, token_hash: str) -> bool:
        """End a session, or use a link; False: there is none."""
        return self._changed(sql.END_ADMIN_SESSION, token_hash=token_hash)
