"""Receipts as the faces show them, and what the signed logs say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pleb_agent.client.http import HttpClient
from pleb_agent.control.journal_reader import find_all_attached
from pleb_agent.control.views import AllVerifiedView, VerifiedView
from pleb_agent.loop.verify import verify
from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import check_mirror

if TYPE_CHECKING:
    from pleb_agent.control.requests import VerifyRequest
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.attach import Attaching

__all__ = ["verify_projects"]


async def verify_projects(attaching: Attaching, request: VerifyRequest) -> AllVerifiedView:
    """Look for accepted units in the logs of a project, or of all that are attached.

    Raises:
        InputError: no such project is attached, or the mirror is no address.
        TrustError, NetworkError: as `loop.verify.verify`.
    """
    journal = attaching.journal
    if request.project:
        rows = find_all_attached(journal, request.project)
    else:
        rows = [row for row in journal.projects() if not row.detaching]
    if not rows:
        raise InputError("No project is attached: `pleb-agent attach LINK`.")
    if request.mirror:
        try:
            check_mirror(request.mirror)
        except ValueError as error:
            raise InputError(f"{request.mirror!r} is not a mirror's address: {error}.") from error
    return AllVerifiedView([await _verify(attaching, row, request) for row in rows])


async def _verify(attaching: Attaching, row: ProjectRow, request: VerifyRequest) -> VerifiedView:
    coordinator = attaching.make_client(row.attach_link)
    client: HttpClient = coordinator
    if request.mirror:
        client = HttpClient(request.mirror, network=coordinator.network)
    try:
        found = await verify(
            attaching.journal, row, client, now=attaching.clock(), again=request.again
        )
    finally:
        await coordinator.close()
        await client.close()
    return msgspec.convert(found, VerifiedView, from_attributes=True)
