"""How admins come in: the code that is used once, signed commands, links and sessions.

admin new      a code, of which only the hash is kept          (on the coordinator's machine)
login          the code buys the right to sign for a key       (`take_login`)
each command   signed by that key, with a number that grows    (`take_request`)
open           a link, by command; used once it is a session   (`enter`)
each page      the session's cookie                            (`find_session`)
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.command import Actor
from pleb_coordinator.core.admins import AdminRole
from pleb_coordinator.core.records import AdminSession
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.admin import AdminWelcome
from pleb_shared.protocol.ids import digest_of

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Admin
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.admin import AdminLogin, AdminRequest

__all__ = [
    "Session",
    "check_code",
    "enter",
    "find_admin",
    "find_link",
    "find_session",
    "take_login",
    "take_request",
]

_SESSION_SECONDS: Final = 2 * 3600.0
"""How long a browser may use the operator's page before it needs a new link."""


def check_code(tx: Transaction, login: AdminLogin) -> None:
    """Return if somebody was given that code; nothing is written for strangers.

    Raises:
        Refusal: `unknown_admin`.
    """
    if not tx.admins.has_code(digest_of(login.code.encode())):
        raise _no_code()


def take_login(tx: Transaction, login: AdminLogin, now: float) -> AdminWelcome:
    """Give a key to the admin with that code; the caller has checked the key's signature.

    Raises:
        Refusal: `unknown_admin`: the code is wrong, used, revoked or has run out.
    """
    admin = tx.admins.join(digest_of(login.code.encode()), login.key, now)
    if admin is None:
        raise _no_code()
    tx.audit.add(now, f"admin {admin.name}", "login", "", {"role": admin.role})
    return AdminWelcome(name=admin.name, role=admin.role)


def _no_code() -> Refusal:
    message = (
        "The code is not valid (any more): it works once, and for a day if nothing else was said. "
        "Ask for a new one: pleb-coordinator admin new."
    )
    return Refusal(RefusalCode.UNKNOWN_ADMIN, message)


def find_admin(tx: Transaction, request: AdminRequest) -> Admin:
    """Return the admin whose key must have signed the request.

    Raises:
        Refusal: `unknown_admin`.
    """
    admin = tx.admins.find(request.admin)
    if admin is None or admin.revoked or not admin.key:
        message = (
            f"{request.admin[:40]!r} is no admin here, or was revoked: ask for a code, and log in."
        )
        raise Refusal(RefusalCode.UNKNOWN_ADMIN, message)
    return admin


def take_request(tx: Transaction, admin: Admin, request: AdminRequest, now: float) -> Actor:
    """Return who asks, once the signature holds; the request's number cannot be used again.

    Raises:
        Refusal: `stale_sequence`: the request, or a later one, came before, or the admin was
            revoked a moment ago.
    """
    if not tx.admins.saw(admin, request.sequence, now):
        message = "This request, or a later one of the same admin, came before: send a new one."
        raise Refusal(RefusalCode.STALE_SEQUENCE, message)
    return Actor.of(admin)


@dataclass(frozen=True)
class Session:
    """A browser that uses the operator's page."""

    actor: Actor
    form_token: str
    """What its forms have to carry, so that no other site can send one."""
    expires_at: float


def find_link(tx: Transaction, deps: Deps, link: str) -> AdminSession:
    """Return a link that can be used.

    Raises:
        Refusal: `unknown_admin`: the link was used, or has run out.
    """
    found = tx.admins.session(digest_of(link.encode()))
    if found is None or found.entered or found.expires_at <= deps.clock():
        message = "This link was used or has run out: run `pleb-coordinator open` again."
        raise Refusal(RefusalCode.UNKNOWN_ADMIN, message)
    return found


def enter(tx: Transaction, deps: Deps, link: str) -> tuple[str, float]:
    """Use a link; return the secret of the cookie, and when it expires.

    Raises:
        Refusal: as `find_link`.
    """
    found, now = find_link(tx, deps, link), deps.clock()
    tx.admins.end_session(found.token_hash)
    cookie, expires_at = deps.random_bytes(32).hex(), now + _SESSION_SECONDS
    session = AdminSession(
        token_hash=digest_of(cookie.encode()),
        admin=found.admin,
        who=found.who,
        expires_at=expires_at,
        entered=True,
    )
    tx.admins.add_session(session, now)
    tx.audit.add(now, found.who, "open", "", {})
    return cookie, expires_at


def find_session(tx: Transaction, deps: Deps, cookie: str) -> Session | None:
    """Return the session that a cookie belongs to; None: none, or it is over."""
    found = tx.admins.session(digest_of(cookie.encode()))
    if found is None or not found.entered or found.expires_at <= deps.clock():
        return None
    actor = Actor("", found.who, AdminRole.OPERATOR)
    if found.admin:
        admin = tx.admins.find(found.admin)
        if admin is None or admin.revoked:
            return None
        actor = Actor.of(admin)
    token = hmac.digest(deps.secret, f"form/{found.token_hash}".encode(), "sha256").hex()
    return Session(actor, token, found.expires_at)
