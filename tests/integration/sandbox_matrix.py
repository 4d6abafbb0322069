"""The matrix of docs/sandbox.md: which layer stops what, on this kernel and on older ones.

`python -m tests.integration.sandbox_matrix` tries it and writes the table into the page.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pleb_agent.worker.sandbox.confine import LAYERS
from pleb_agent.worker.trial import try_sandbox
from tests.ordinary_user import as_ordinary_user

PAGE: Final = Path(__file__).parents[2] / "docs" / "sandbox.md"
_START: Final = "<!-- the matrix: written by python -m tests.integration.sandbox_matrix -->\n"
_END: Final = "<!-- the end of the matrix -->\n"
_NEWEST: Final = 99
_WITHOUT_NAMES: Final = tuple(name for name in LAYERS if name != "names")


@dataclass(frozen=True)
class Kernel:
    """What a kernel, as it is set up, has of the layers."""

    heading: str
    layers: tuple[str, ...]
    landlock_version: int = _NEWEST


KERNELS: Final = (
    Kernel("Linux 6.12 and later", LAYERS),
    Kernel("the same without user namespaces (Ubuntu)", _WITHOUT_NAMES),
    Kernel("Linux 6.2, without them", _WITHOUT_NAMES, 3),
    Kernel("Linux 5.13, without them", _WITHOUT_NAMES, 1),
    Kernel("Linux 5.10, with them", tuple(n for n in LAYERS if n != "files")),
    Kernel("Linux 5.10, without them", tuple(n for n in _WITHOUT_NAMES if n != "files")),
    Kernel("another architecture", tuple(n for n in _WITHOUT_NAMES if n != "calls")),
)


class Table(msgspec.Struct):
    """What was tried: by attempt, the kernels on which it is stopped, and by what alone."""

    stopped: dict[str, list[bool]]
    by: dict[str, list[list[str]]]
    faults: list[str]
    """Layers that did not close, attempts that did not work before."""


def measure() -> Table:
    """Try every kernel's layers together, and each layer alone."""
    alone: dict[tuple[str, int], set[str]] = {}
    table = Table(stopped={}, by={}, faults=[])
    for kernel in KERNELS:
        for layer in kernel.layers:
            version = kernel.landlock_version if layer == "files" else _NEWEST
            if (layer, version) not in alone:
                alone[layer, version] = _stopped((layer,), version, table.faults)
        stopped = _stopped(kernel.layers, kernel.landlock_version, table.faults)
        for attempt in [*table.stopped] or _every_attempt():
            by = [
                layer
                for layer in kernel.layers
                if attempt in alone[layer, kernel.landlock_version if layer == "files" else _NEWEST]
            ]
            table.stopped.setdefault(attempt, []).append(attempt in stopped)
            table.by.setdefault(attempt, []).append(by)
    return table


def as_user() -> Table:
    """Return `measure()` as a user without root's rights has it."""
    command = [sys.executable, "-m", "tests.integration.sandbox_matrix", "measure"]
    place = os.pathsep.join([str(PAGE.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        as_ordinary_user(command),
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": place.rstrip(os.pathsep), "HOME": "/"},
        cwd="/",
        timeout=300,
    )
    return msgspec.json.decode(done.stdout, type=Table)


def written(table: Table) -> str:
    """Return the table as the page has it."""
    headings = ["what a worker might try", *(kernel.heading for kernel in KERNELS)]
    lines = [headings, ["---"] * len(headings)]
    for attempt, stopped in table.stopped.items():
        cells = [
            ", ".join(by) if stops else "**not stopped**"
            for stops, by in zip(stopped, table.by[attempt], strict=True)
        ]
        lines.append([attempt, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def on_page() -> str:
    """Return the table that the page has."""
    return PAGE.read_text(encoding="utf-8").split(_START)[1].split(_END)[0]


def _stopped(layers: tuple[str, ...], version: int, faults: list[str]) -> set[str]:
    report = try_sandbox(layers, version)
    faults += [f"{one.layer}: {one.sentence}" for one in report.layers if not one.holds]
    faults += [f"{one.attempt}: {one.reason}" for one in report.outcomes if not one.before]
    return {one.attempt for one in report.outcomes if not one.after}


def _every_attempt() -> list[str]:
    return [one.attempt for one in try_sandbox(()).outcomes]


def main() -> None:
    """Write the table into the page, or print what `measure` finds."""
    if sys.argv[1:] == ["measure"]:
        sys.stdout.buffer.write(msgspec.json.encode(measure()))
        return
    before, rest = PAGE.read_text(encoding="utf-8").split(_START)
    text = before + _START + written(as_user()) + _END + rest.split(_END)[1]
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
