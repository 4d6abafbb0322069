"""Status and projects as lines for people."""

from __future__ import annotations

from typing import Any

__all__ = ["project_lines", "status_lines"]


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
