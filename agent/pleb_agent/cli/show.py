"""What commands print: one answer, as a sentence or as JSON; status and projects as lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pleb_shared.protocol.shown import shown

if TYPE_CHECKING:
    import argparse

__all__ = ["project_lines", "status_lines", "tell"]


def tell(arguments: argparse.Namespace, value: dict[str, Any], sentence: str) -> int:
    """Print the value for programs, or the sentence for people; return the exit code of success."""
    print(json.dumps(value) if arguments.json else shown(sentence))
    return 0


def status_lines(view: dict[str, Any]) -> list[str]:
    """Return the state, the unit in hand and the projects."""
    lines = [f"{view['activity']}: {view['sentence']}"]
    unit = view["unit"]
    if unit:
        loss = "" if unit["loss"] is None else f", loss {unit['loss']:.4g}"
        lines.append(
            f"  {unit['kind']} unit {unit['assignment']} of {unit['project']}, version "
            f"{unit['version']}: step {unit['steps_done']} of {unit['steps_total']}{loss}"
        )
    return lines + project_lines(view["projects"])


def project_lines(projects: list[dict[str, Any]]) -> list[str]:
    """Return one line for each project, and one for what is wrong with it."""
    lines = []
    for project in projects:
        counters = project["counters"]
        lines.append(
            f"  {project['project']} at {project['url']}: "
            f"{counters.get('units_done', 0):.0f} units done, "
            f"{counters.get('credit_flops', 0) / 1e12:.3g} TFLOP credit, "
            f"version {project['latest_version']}"
        )
        if project["problem"]:
            lines.append(f"    {project['problem']}")
    return lines
