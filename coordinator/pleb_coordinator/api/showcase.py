"""`/projects/P/showcase`: what the newest version says or sees, beside an earlier one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from pleb_coordinator.api.access import readable_project
from pleb_shared.protocol.showcase import Card, Shown

if TYPE_CHECKING:
    from starlette.requests import Request

    from pleb_coordinator.api.context import Api
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["Answer", "ShowcaseStatus", "asked_version", "showcase", "showcase_status"]

_MOST_DIGITS: Final = 12
"""Of a version in an address."""


class Answer(msgspec.Struct, frozen=True):
    """What a version says or sees."""

    version: int
    made_at: float
    shown: Shown


class ShowcaseStatus(msgspec.Struct, frozen=True):
    """A project's showcase as it is now."""

    epoch: int
    kind: str | None
    """`classes`, `numbers` or `text`; null: the project shows nothing."""
    card: Card | None
    versions: list[int]
    """That have answered this card, in this epoch, oldest first."""
    before: Answer | None
    """The first one's, or the newest up to the one that was asked for; null: there is but one."""
    newest: Answer | None
    """Null: none was evaluated yet."""


async def showcase(api: Api, request: Request) -> Response:
    """Return the showcase as JSON."""
    found = await showcase_status(api, request)
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(found), media_type="application/json", headers=headers)


async def showcase_status(api: Api, request: Request) -> ShowcaseStatus:
    """Return the showcase of the project that the path names, for the `from` of the query.

    Raises:
        Refusal: `unknown_project`: there is none, or not for who asks.
    """
    with api.store.read() as tx:
        project = readable_project(tx, api, request)
        asked = project.metadata.showcase
        if asked is UNSET:
            return ShowcaseStatus(project.epoch, None, None, [], None, None)
        digest = asked.card.digest
        versions = tx.projects.shown_versions(project.id, project.epoch, digest)
        newest = _answer(tx, project, digest, versions[-1] if versions else None)
        chosen = _chosen(versions, asked_version(request))
        before = _answer(tx, project, digest, chosen)
    card = await api.cards.get(api.deps, project, digest)
    return ShowcaseStatus(project.epoch, asked.kind, card, versions, before, newest)


def asked_version(request: Request) -> int | None:
    """Return the `from` of the query, which a stranger wrote: None if it is no version."""
    text = request.query_params.get("from", "")
    right = text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS
    return int(text) if right else None


def _chosen(versions: list[int], asked: int | None) -> int | None:
    """Return which version stands beside the newest of `versions`, which are in order."""
    earlier = versions[:-1]
    if not earlier:
        return None
    wanted = earlier[0] if asked is None else asked
    return max((version for version in earlier if version <= wanted), default=earlier[0])


def _answer(tx: Transaction, project: Project, card: str, version: int | None) -> Answer | None:
    if version is None:
        return None
    found = tx.projects.showing(project.id, project.epoch, card, version)
    return None if found is None else Answer(found.version, found.made_at, found.shown)
