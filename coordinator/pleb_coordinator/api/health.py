"""`/health` (the process answers), `/ready` (it can do its work), `/metrics` (Prometheus)."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Final

import msgspec
import psutil
from starlette.responses import PlainTextResponse, Response

from pleb_coordinator.home.machine import LEAST_FREE_BYTES
from pleb_coordinator.steps.access import public_projects
from pleb_shared.errors import Refusal, RefusalCode

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from pleb_coordinator.api.context import Api

__all__ = ["health", "metrics", "ready"]

_PROCESS: Final = psutil.Process()


async def health(_: Api, __: Request) -> Response:
    """Answer: the process is alive."""
    return PlainTextResponse("ok\n")


async def ready(api: Api, request: Request) -> Response:
    """Return whether the store can be written and the disk has free space.

    Raises:
        Refusal: `internal` or `storage_full`, with what is wrong.
    """
    home: Path = request.app.state.home
    free = await asyncio.to_thread(lambda: shutil.disk_usage(home).free)
    if free < LEAST_FREE_BYTES:
        message = f"Only {free // 2**20} MiB are free on the coordinator's disk: free some space."
        raise Refusal(RefusalCode.STORAGE_FULL, message, retry_after_seconds=60)
    projects = await api.commits.run(public_projects)
    body = msgspec.json.encode({"ready": True, "projects": len(projects), "free_bytes": free})
    return Response(body, media_type="application/json")


async def metrics(api: Api, _: Request) -> Response:
    """Return counters since the start, the process's gauges, and how long permissions last.

    Private projects are on the operator's port alone (`[metrics]`).
    """
    gauges = {
        "resident_bytes": float(_PROCESS.memory_info().rss),
        "waiters": float(api.changes.places_taken),
        "listeners": float(api.listeners.taken),
    }
    with api.store.read() as tx:
        projects = public_projects(tx)
    now = api.deps.clock()
    name = "pleb_permission_seconds_left"
    lines = [f"# TYPE {name} gauge"] + [
        f'{name}{{project="{project.name}"}} {project.metadata.delegation.expires_at - now:.0f}'
        for project in projects
    ]
    name = "pleb_waiting"
    lines.append(f"# TYPE {name} gauge")
    for status in await api.statuses.all():
        labels = f'project="{status.project}",level="{status.waiting_level}"'
        lines.append(f'{name}{{{labels},cause="{status.waiting_for}"}} 1')
    return PlainTextResponse(api.counters.text(gauges) + "\n".join(lines) + "\n")
