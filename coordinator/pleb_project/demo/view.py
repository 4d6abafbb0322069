"""What the demo shows while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType

__all__ = ["HostLine", "Screen", "Snapshot", "plain_line", "render"]


@dataclass(frozen=True)
class HostLine:
    """One host: its name, what it is to the project, and what became of its results."""

    name: str
    role: str
    doing: str
    verified: int
    refused: int


@dataclass(frozen=True)
class Snapshot:
    """The project at one moment."""

    version: int
    versions: int
    accuracy: float | None
    verified: int
    refused: int
    hosts: tuple[HostLine, ...]


def plain_line(snapshot: Snapshot) -> str:
    """Return the snapshot as one line."""
    accuracy = "-" if snapshot.accuracy is None else f"{snapshot.accuracy:.4f}"
    return (
        f"version {snapshot.version}/{snapshot.versions}  accuracy {accuracy}  "
        f"verified {snapshot.verified}  refused {snapshot.refused}"
    )


def render(snapshot: Snapshot) -> RenderableType:
    """Return the snapshot as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("host", "role", "verified", "refused", "does"):
        right = column in {"verified", "refused"}
        table.add_column(column, justify="right" if right else "left")
    for host in snapshot.hosts:
        style = "red" if host.refused else ""
        table.add_row(
            host.name, host.role, str(host.verified), str(host.refused), host.doing, style=style
        )
    return Group(Text(plain_line(snapshot), style="bold"), table)


class Screen:
    """Shows snapshots. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._console = console
        self._last = ""

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Show the newest snapshot; without a terminal only what changed."""
        if self._live:
            self._live.update(render(snapshot))
            return
        line = plain_line(snapshot)
        if line != self._last:
            self._last = line
            self._console.print(line, highlight=False, soft_wrap=True)
