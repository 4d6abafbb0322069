"""Which requests may read a private project; all others hear that there is none.

A program sends `Authorization: Pleb TEXT`, where TEXT is what it is known by, or an invite; a
browser has the same in a cookie, which `POST /join/PROJECT` sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.api.requests import address_of
from pleb_coordinator.blobs.store import missing_blob
from pleb_coordinator.core.access import is_private, unknown_project
from pleb_coordinator.core.invites import check_invite
from pleb_coordinator.steps.access import keyring_of, may_read
from pleb_shared.errors import Refusal
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role
from pleb_system.transport import is_loopback

if TYPE_CHECKING:
    from starlette.requests import Request

    from pleb_coordinator.api.context import Api
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "check_blob",
    "check_reader",
    "cookie_of",
    "is_invited",
    "is_way_private",
    "readable_project",
]

_SCHEME: Final = "Pleb "
_COOKIE: Final = "pleb_reader_"
_HOSTS: Final = frozenset({Role.HOST, Role.TRUSTED, Role.ADMIN})


def cookie_of(project: str) -> str:
    """Return the name of the cookie by which a browser reads a private project."""
    return _COOKIE + project


def is_way_private(api: Api, request: Request) -> bool:
    """Whether the connection is encrypted, or does not leave this machine."""
    return api.links.url.startswith("https://") or is_loopback(address_of(request))


def check_reader(
    tx: Transaction, api: Api, request: Request, project: Project, *, invited: bool = False
) -> None:
    """Return if the request may read the project.

    `invited`: so may who has an invite that is still good, and has not used it yet.

    Raises:
        Refusal: `unknown_project`, as if there were none.
    """
    if not is_private(project):
        return
    text = _shown(request, project.name)
    if is_way_private(api, request) and text:
        if may_read(tx, api.deps, project, text):
            return
        if invited and is_invited(tx, project, text, api.deps.clock()):
            return
    raise unknown_project(project.name)


def is_invited(tx: Transaction, project: Project, token: str, now: float) -> bool:
    """Whether the token is an invite that lets a host into the private project now."""
    found = tx.invites.find(digest_of(token.encode()))
    try:
        check_invite(found, _HOSTS, now, project.name, private=True)
    except Refusal:
        return False
    return True


def readable_project(
    tx: Transaction, api: Api, request: Request, *, invited: bool = False
) -> Project:
    """Return the project that the path names.

    Raises:
        Refusal: `unknown_project`: there is none, or not for who asks.
    """
    project = tx.projects.find(request.path_params["project"])
    check_reader(tx, api, request, project, invited=invited)
    return project


def check_blob(api: Api, request: Request, digest: str, key_id: bytes | None) -> None:
    """Return if the request may have a blob that is sealed with that key; None: it is not.

    Raises:
        Refusal: `unknown_blob`, as if there were none.
    """
    if key_id is None:
        return
    text = _header(request)
    with api.store.read() as tx:
        try:
            project = tx.projects.find(text.partition(".")[0])
            check_reader(tx, api, request, project)
        except Refusal as refusal:
            raise missing_blob(digest) from refusal
    if key_id not in keyring_of(api.deps, project):
        raise missing_blob(digest)


def _header(request: Request) -> str:
    header = request.headers.get("authorization", "")
    return header.removeprefix(_SCHEME) if header.startswith(_SCHEME) else ""


def _shown(request: Request, project: str) -> str:
    return _header(request) or request.cookies.get(cookie_of(project), "")
