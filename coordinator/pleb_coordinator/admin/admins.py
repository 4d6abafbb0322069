"""Who may use this coordinator from elsewhere, and links to the operator's page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final

from pleb_coordinator.admin.command import Command, Days, Desk, Text, Value
from pleb_coordinator.core.admins import AdminRole
from pleb_coordinator.core.records import Admin, AdminSession
from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import digest_of

if TYPE_CHECKING:
    from pleb_coordinator.api.links import LinkBase

__all__ = [
    "COMMANDS",
    "AdminMade",
    "AdminRevoked",
    "AdminShown",
    "ListAdmins",
    "MakeAdmin",
    "OpenPage",
    "PageLink",
    "RevokeAdmin",
]

_DAY_SECONDS: Final = 86_400.0
_LINK_SECONDS: Final = 120.0
"""How long a link to the operator's page works."""
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,38}[a-z0-9])?")


class AdminMade(Value, frozen=True):
    """A new admin; the address to log in with works once, and is not kept."""

    name: str
    role: AdminRole
    login: str
    expires_at: float


class AdminShown(Value, frozen=True):
    """An admin."""

    name: str
    role: AdminRole
    projects: tuple[str, ...]
    """Those that a publisher may change; empty: all."""
    state: str
    """`invited`, `expired` (never logged in), `active` or `revoked`."""
    created_at: float
    last_seen: float | None


class AdminRevoked(Value, frozen=True):
    """An admin's key and sessions are not valid any more."""

    name: str
    revoked: bool


class PageLink(Value, frozen=True):
    """A link to the operator's page, which works once."""

    url: str
    expires_at: float


class MakeAdmin(Command[AdminMade], frozen=True):
    """Let somebody use the coordinator from elsewhere."""

    words: ClassVar[str] = "admin new"
    name: Text
    role: AdminRole = AdminRole.VIEWER
    projects: tuple[str, ...] = ()
    """The projects that a publisher may change; empty: all."""
    days: Days = 1.0
    """How long the code is valid."""

    def carry_out(self, desk: Desk) -> AdminMade:
        """Raises `InputError`: it is no name, or somebody has it; `Refusal` unknown_project."""
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"{self.name[:40]!r} is no name for an admin: use up to 40 small letters, digits, "
                "dots and hyphens."
            )
        if self.projects and self.role is not AdminRole.PUBLISHER:
            raise InputError("--project is for --role publisher: others change all, or none.")
        code, now = desk.deps.random_bytes(24).hex(), desk.clock()
        admin = Admin(
            name=self.name,
            role=self.role,
            projects=self.projects,
            code_hash=digest_of(code.encode()),
            code_expires_at=now + self.days * _DAY_SECONDS,
            key="",
            created_at=now,
            last_seen=None,
            sequence=0,
            revoked=False,
        )
        with desk.opened() as store, store.write() as tx:
            for project in self.projects:
                tx.projects.find(project)
            before = tx.admins.find(self.name)
            if before is not None and _state(before, now) in {"active", "invited"}:
                raise InputError(
                    f"{self.name} is an admin already: give another name, or run "
                    f"`pleb-coordinator admin revoke {self.name}` first."
                )
            tx.admins.put(admin)
        login = login_address(desk.links, code)
        return AdminMade(self.name, self.role, login, admin.code_expires_at)


class ListAdmins(Command[list[AdminShown]], frozen=True):
    """All admins, also those that are revoked."""

    words: ClassVar[str] = "admin list"

    def carry_out(self, desk: Desk) -> list[AdminShown]:
        """Read them."""
        with desk.opened() as store, store.read() as tx:
            found = tx.admins.all()
        now = desk.clock()
        return [
            AdminShown(a.name, a.role, a.projects, _state(a, now), a.created_at, a.last_seen)
            for a in found
        ]


class RevokeAdmin(Command[AdminRevoked], frozen=True):
    """Take an admin's key and sessions back."""

    words: ClassVar[str] = "admin revoke"
    name: Text

    def carry_out(self, desk: Desk) -> AdminRevoked:
        """Raises `InputError`: nobody has that name."""
        with desk.opened() as store, store.write() as tx:
            if not tx.admins.revoke(self.name):
                raise InputError(
                    f"{self.name[:40]!r} is no admin, or was revoked before: see "
                    "`pleb-coordinator admin list`."
                )
        return AdminRevoked(self.name, revoked=True)


class OpenPage(Command[PageLink], frozen=True):
    """Make a link by which the operator's page opens in a browser."""

    words: ClassVar[str] = "open"

    def carry_out(self, desk: Desk) -> PageLink:
        """Make it."""
        token, now = desk.deps.random_bytes(24).hex(), desk.clock()
        session = AdminSession(
            token_hash=digest_of(token.encode()),
            admin=desk.actor.admin,
            who=desk.actor.who,
            expires_at=now + _LINK_SECONDS,
            entered=False,
        )
        with desk.opened() as store, store.write() as tx:
            tx.admins.add_session(session, now)
        return PageLink(f"{desk.links.url}/operator/login?link={token}", session.expires_at)


def login_address(links: LinkBase, code: str) -> str:
    """Return what `pleb-coordinator login` is given: `URL#CODE`, with `+CERTIFICATE` if pinned."""
    pin = f"+{links.certificate}" if links.certificate else ""
    return f"{links.url}#{code}{pin}"


def _state(admin: Admin, now: float) -> str:
    if admin.revoked:
        return "revoked"
    if admin.key:
        return "active"
    return "invited" if admin.code_expires_at > now else "expired"


COMMANDS: Final = (MakeAdmin, ListAdmins, RevokeAdmin, OpenPage)
