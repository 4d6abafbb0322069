"""`GET /projects/P/model.safetensors`: the newest version as an ordinary state_dict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.api.downloads import Offer, send
from pleb_coordinator.api.status_routes import check_project
from pleb_coordinator.core.access import is_private
from pleb_coordinator.home.models import model_bytes
from pleb_coordinator.steps.access import blobs_of
from pleb_shared.errors import InputError, Refusal, RefusalCode

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from pleb_coordinator.api.context import Api

__all__ = ["MOST_MODEL_BYTES", "model_file"]

MOST_MODEL_BYTES: Final = 256 * 2**20
"""Larger ones are put together where they are wanted, by `pleb-project export`."""


async def model_file(api: Api, request: Request) -> Response:
    """Send the newest version.

    Raises:
        Refusal: `unknown_project`; `unknown_blob`: it is private or too large; as `send`.
    """
    check_project(api, request)
    with api.store.read() as tx:
        project = tx.projects.find(request.path_params["project"])
        try:
            source = tx.versions.source(project.id, project.epoch, project.version)
        except InputError as error:
            raise Refusal(RefusalCode.UNKNOWN_BLOB, str(error)) from error
    if is_private(project) or model_bytes(project.metadata) > MOST_MODEL_BYTES:
        message = "This model is not sent as one file: use `pleb-project export LINK FILE`."
        raise Refusal(RefusalCode.UNKNOWN_BLOB, message)
    blobs = blobs_of(api.deps, project)
    path = await api.models.find(project.metadata, source, blobs.get)
    offer = Offer(
        f"{project.name}-version-{project.version}.safetensors",
        path.stat().st_size,
        source.digest,
        "application/octet-stream",
        lambda: path.open("rb"),
    )
    return await send(api, request, offer)
