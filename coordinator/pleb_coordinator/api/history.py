"""Earlier versions and metadata of a project, for who downloads or continues one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from starlette.responses import Response

from pleb_coordinator.api.access import readable_project
from pleb_coordinator.core.records import version_not_kept
from pleb_coordinator.steps.activity import best_of
from pleb_coordinator.steps.version_history import all_versions, line_of
from pleb_coordinator.steps.version_log import log_of, sign_head
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.status import VersionStatus

if TYPE_CHECKING:
    from starlette.requests import Request

    from pleb_coordinator.api.context import Api
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["log_entries", "log_head", "log_versions", "metadata_at", "numbered", "version"]

_ALWAYS_ASK: Final = {"Cache-Control": "no-cache"}


async def metadata_at(api: Api, request: Request) -> Response:
    """Return the envelope of the metadata with that number, exactly as a root key signed it."""
    number = request.path_params["number"]
    with api.store.read() as tx:
        project = readable_project(tx, api, request)
        try:
            envelope = tx.projects.envelope(project.id, number)
        except LookupError as error:
            message = f"{project.name} has no metadata {number}."
            raise Refusal(RefusalCode.UNKNOWN_PROJECT, message) from error
    return Response(envelope, media_type="application/json")


async def version(api: Api, request: Request) -> Response:
    """Return how a version is put together; VERSION is a number, `best` or `newest`."""
    epoch, text = request.path_params["epoch"], request.path_params["version"]
    with api.store.read() as tx:
        project = readable_project(tx, api, request)
        row = tx.versions.get(project.id, epoch, numbered(tx, project, epoch, text))
    if row.source is None:
        raise Refusal(RefusalCode.UNKNOWN_BLOB, str(version_not_kept(row.number)))
    found = VersionStatus(metadata_number=row.metadata_number, source=row.source)
    return Response(msgspec.json.encode(found), media_type="application/json")


async def log_entries(api: Api, request: Request) -> Response:
    """Return the lines of the signed log of versions."""
    with api.store.read() as tx:
        lines = log_of(tx, readable_project(tx, api, request))
    return Response(b"\n".join(lines), media_type="application/jsonl", headers=_ALWAYS_ASK)


async def log_versions(api: Api, request: Request) -> Response:
    """Return every version's line, as a mirror has them."""
    with api.store.read() as tx:
        project = readable_project(tx, api, request)
        lines = [line_of(row) for row in all_versions(tx, project)]
    return Response(b"\n".join(lines), media_type="application/jsonl", headers=_ALWAYS_ASK)


async def log_head(api: Api, request: Request) -> Response:
    """Return the signed end of the log of versions."""
    with api.store.read() as tx:
        project = readable_project(tx, api, request)
        lines = log_of(tx, project)
    head = sign_head(api.deps, project, lines)
    return Response(head, media_type="application/json", headers=_ALWAYS_ASK)


def numbered(tx: Transaction, project: Project, epoch: int, text: str) -> int:
    """Return the number of the version that `text` names in an epoch.

    Raises:
        Refusal: `unknown_project`: there is none.
    """
    number: int | None = None
    if text == "newest" and epoch == project.epoch:
        number = project.version
    elif text == "newest":
        number = tx.versions.last_number(project.id, epoch)
    elif text == "best":
        number = best_of(tx, project, epoch)
    elif text.isascii() and text.isdecimal() and len(text) < 12:
        number = int(text)
    if number is None or not tx.versions.exists(project.id, epoch, number):
        which = "evaluated version" if text == "best" else f"version {text}"
        message = (
            f"{project.name} has no {which} in epoch {epoch}: the newest is version "
            f"{project.version} of epoch {project.epoch}."
        )
        raise Refusal(RefusalCode.UNKNOWN_PROJECT, message)
    return number
