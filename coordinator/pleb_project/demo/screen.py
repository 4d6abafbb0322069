"""What the demo shows while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection

    from rich.console import RenderableType

    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["Screen", "plain_line", "render"]

_ACTIVITIES: Final = {
    "active": "working",
    "probation": "working; another host repeats each result",
    "calibrating": "being measured",
    "away": "away",
    "banned": "banned",
}


def plain_line(status: ProjectStatus) -> str:
    """Return the status as one line."""
    accuracy = status.metrics.get("accuracy")
    return (
        f"version {status.version}/{status.versions_planned}  "
        f"accuracy {'-' if accuracy is None else f'{accuracy:.4f}'}  "
        f"verified {status.counts.verified}  refused {status.counts.refused}"
    )


def render(status: ProjectStatus, ended: Collection[str]) -> RenderableType:
    """Return the status as a table, trusted hosts first; `ended` names hosts without a process."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("host", "role", "verified", "refused", "activity"):
        right = column in {"verified", "refused"}
        table.add_column(column, justify="right" if right else "left")
    for host in sorted(status.hosts, key=lambda host: (host.role != "trusted", host.name)):
        activity = _ACTIVITIES.get(host.state, host.state)
        table.add_row(
            host.name or host.host[:8],
            host.role,
            str(host.verified),
            str(host.refused),
            f"{activity}, process ended" if host.name in ended else activity,
            style="red" if host.refused else "",
        )
    return Group(Text(plain_line(status), style="bold"), table)


class Screen:
    """Shows the status. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._console = console
        self._last = ""

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, status: ProjectStatus, ended: Collection[str]) -> None:
        """Show the newest status; without a terminal only what has changed."""
        if self._live:
            self._live.update(render(status, ended))
            return
        line = plain_line(status)
        if line != self._last:
            self._last = line
            self._console.print(line, highlight=False, soft_wrap=True)
