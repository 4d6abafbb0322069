"""Show a project's status once, or whenever it changes until the project is finished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_project.server.status import decode_status, status_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pleb_project.server.client import Coordinator

__all__ = ["watch_project"]

_WATCH_SECONDS: Final = 2.0


def watch_project(
    coordinator: Coordinator,
    project: str,
    show: Callable[[dict[str, Any], Iterable[str]], None],
    sleep: Callable[[float], None],
    *,
    forever: bool,
) -> None:
    """Show the status; if `forever`, again after every change until the project is finished.

    Raises:
        PlebError: the coordinator refuses or does not answer.
    """
    shown: list[str] = []
    while True:
        status = decode_status(coordinator.status(project))
        lines = status_lines(status)
        if lines != shown:
            show(msgspec.to_builtins(status), lines)
            shown = lines
        if status.finished or not forever:
            return
        sleep(_WATCH_SECONDS)
