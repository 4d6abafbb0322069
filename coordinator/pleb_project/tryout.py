"""Train the first versions of a project with real processes on loopback, then clean up."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pleb_project.processes import Fleet, terminated_as_interrupt
from pleb_project.server.client import Address, Coordinator
from pleb_project.server.status import decode_status
from pleb_shared.errors import PlebError
from pleb_shared.protocol.ids import parse_attach_link
from pleb_shared.protocol.status import overall

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["try_project"]

_POLL_SECONDS: Final = 0.5
_PUBLISH_SECONDS: Final = 1800.0
_SILENCE_SECONDS: Final = 900.0
"""Without a new version for this long, the trial gives up."""


def try_project(
    folder: Path,
    overrides: tuple[str, ...],
    versions: int,
    say: Callable[[str], None],
    build: Path,
) -> dict[str, Any]:
    """Train until version `versions` is made and measured, and return the results.

    The learning-rate schedule is that of the whole project. `say` gets a line for each version.
    `build` has what an earlier check measured.

    Raises:
        PlebError: the project cannot be published, a process failed, or nothing moves.
    """
    started = time.monotonic()
    folder_of_fleet = tempfile.TemporaryDirectory(prefix="pleb-try-", ignore_cleanup_errors=True)
    with terminated_as_interrupt(), folder_of_fleet as name:
        fleet = Fleet(Path(name))
        try:
            url = fleet.start_coordinator()
            fleet.keep_checks(build)
            say(f"Checking and publishing to a coordinator at {url}")
            link = fleet.publish(folder, url, _PUBLISH_SECONDS, overrides)
            say(f"Watch it at {url}/projects/{parse_attach_link(link).project}")
            fleet.start_agent("trusted", link, fleet.invite("trusted"))
            status = _follow(fleet, link, versions, say)
        finally:
            fleet.stop()
    return {
        "versions": status.version,
        "metrics": status.metrics,
        "metrics_version": status.metrics_version,
        "seconds": round(time.monotonic() - started, 1),
    }


def _follow(fleet: Fleet, link: str, versions: int, say: Callable[[str], None]) -> ProjectStatus:
    """Return the status once version `versions`, or the project's last one, is measured."""
    parts = parse_attach_link(link)
    shown, moved = -1, time.monotonic()
    with Coordinator(Address(parts.base_url, parts.certificate)) as coordinator:
        while True:
            fleet.require_alive()
            status = decode_status(coordinator.status(parts.project))
            for point in status.series:
                if point.version > shown and (point.metrics or not status.has_holdout):
                    shown, moved = point.version, time.monotonic()
                    loss = (
                        "" if point.train_loss is None else f"train loss {point.train_loss:.4f}  "
                    )
                    shown_metrics = "  ".join(
                        f"{n} {v:.4f}" for n, v in overall(point.metrics).items()
                    )
                    say(f"version {point.version:>3}  {loss}holdout: {shown_metrics}")
            if shown >= min(versions, status.versions_planned):
                return status
            if time.monotonic() - moved > _SILENCE_SECONDS:
                raise PlebError(
                    f"No new version in {_SILENCE_SECONDS / 60:.0f} minutes: see how long a unit "
                    "takes with `pleb-project check`."
                )
            time.sleep(_POLL_SECONDS)
