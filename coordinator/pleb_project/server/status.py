"""The coordinator's answer to `GET /projects/P/status`, read, shown as lines, and watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.status import NOT_COMPARABLE, ProjectStatus, overall, shown_privacy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pleb_project.server.client import Coordinator

__all__ = ["STATUS_BYTES", "decode_status", "status_lines", "watch_projects"]

_WATCH_SECONDS: Final = 2.0
STATUS_BYTES: Final = 4 * 2**20


def decode_status(data: bytes) -> ProjectStatus:
    """Return the status that the coordinator sent.

    Raises:
        Refusal: `malformed`: it is something else.
    """
    try:
        return strict_json.decode(data, ProjectStatus, most_bytes=STATUS_BYTES)
    except Refusal as error:
        message = f"The coordinator's status cannot be read ({error}): update Pleb-Cluster."
        raise Refusal(RefusalCode.MALFORMED, message) from error


def status_lines(status: ProjectStatus) -> list[str]:
    """Return the status as lines for people."""
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in overall(status.metrics).items())
    measured = f" (version {status.metrics_version}: {metrics})" if metrics else ""
    lines = [
        (
            f"{status.project}: {status.state}, version {status.version} of "
            f"{status.versions_planned}{measured}"
        )
    ]
    if status.family and status.family.settings:
        settings = ", ".join(f"{name} = {v}" for name, v in status.family.settings.items())
        lines.append(f"  trial: {settings}")
    if status.waiting:
        lines.append(f"  {status.waiting}")
    if status.best_version is not None:
        lines.append(f"  best version: {status.best_version}")
    if status.target:
        reached = status.target_reached_at_version
        sign = ">=" if status.target.direction == "at_least" else "<="
        aim = f"{status.target.metric} {sign} {status.target.value:g}"
        result = "not reached yet" if reached is None else f"reached at version {reached}"
        lines.append(f"  target {aim}: {result}")
    if status.round:
        lines.append(
            f"  next version: {status.round.valid} of {status.round.units} units verified, "
            f"{status.round.quorum} needed"
        )
    counts = status.counts
    lines.append(
        f"  hosts: {counts.hosts}; units in flight: {counts.in_flight}; "
        f"results: {counts.verified} verified, {counts.refused} refused"
    )
    lines += [f"  {sentence}" for sentence in shown_privacy(status)]
    if not status.comparable:
        lines.append(f"! {NOT_COMPARABLE}")
    if status.permission_warning:
        lines.append(f"! {status.permission_warning}")
    return lines


def watch_projects(
    coordinator: Coordinator,
    projects: Sequence[str],
    show: Callable[[Any, Iterable[str]], None],
    sleep: Callable[[float], None],
    *,
    forever: bool,
) -> None:
    """Show the status; if `forever`, again after every change until all projects are finished.

    The value of one project is its status, that of several is a list of them.

    Raises:
        PlebError: the coordinator refuses or does not answer.
    """
    shown: list[str] = []
    while True:
        found = [decode_status(coordinator.status(project)) for project in projects]
        lines = [line for status in found for line in status_lines(status)]
        if lines != shown:
            values = msgspec.to_builtins(found)
            show(values[0] if len(values) == 1 else values, lines)
            shown = lines
        if all(status.finished for status in found) or not forever:
            return
        sleep(_WATCH_SECONDS)
