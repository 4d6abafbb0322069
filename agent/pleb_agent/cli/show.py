"""Status, projects, times and log entries as lines for people."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from pleb_agent.core.sizes import format_bytes
from pleb_shared.protocol.shown import shown_line
from pleb_system.durations import shown_duration

__all__ = [
    "clock_time",
    "device_lines",
    "log_line",
    "project_lines",
    "status_lines",
    "unit_lines",
]

_PARTS: Final = {
    "in_hand": "in hand",
    "waiting": "waiting for a verdict",
    "accepted": "accepted",
    "refused": "refused",
    "uncounted": "did not count",
}


def status_lines(view: dict[str, Any]) -> list[str]:
    """Return the state, the current unit and the projects."""
    lines = [f"{view['activity']}: {view['sentence']}"]
    devices = view.get("devices") or []
    if devices:
        lines += device_lines(devices)
    elif view["unit"]:
        lines.append(f"  {_unit(view['unit'])}")
    return [*lines, *project_lines(view["projects"]), *_sharing_lines(view.get("sharing"))]


def _sharing_lines(sharing: dict[str, Any] | None) -> list[str]:
    if sharing is None:
        return []
    count, sent = sharing["neighbours"], format_bytes(sharing["sent_bytes"])
    near = "1 agent" if count == 1 else f"{count} agents"
    lines = [f"  neighbours: {near} near by with a project in common, which got {sent} from here"]
    if internet := sharing.get("internet"):
        sent = format_bytes(internet["sent_bytes"])
        text = internet["message"]["text"]
        lines.append(f"  other volunteers: {internet['others']} known, which got {sent}. {text}")
    return lines


def device_lines(devices: list[dict[str, Any]]) -> list[str]:
    """Return a line for each device, and one for its unit if it has one."""
    lines = []
    for device in devices:
        about = f"  {device['name']} ({device['title']})"
        if "activity" not in device:
            lines.append(about)
            continue
        degrees = "" if device["celsius"] is None else f", {device['celsius']:.0f} °C"
        lines.append(f"{about}: {device['activity']}: {device['message']['text']}{degrees}")
        if device["unit"]:
            lines.append(f"    {_unit(device['unit'])}")
    return lines


def _unit(unit: dict[str, Any]) -> str:
    loss = "" if unit["loss"] is None else f", loss {unit['loss']:.4g}"
    total = unit["steps_total"]
    steps = f"step {unit['steps_done']} of {total}" if total else "not started"
    return (
        f"{unit['kind']} unit of {unit['project']}, version "
        f"{unit['version']}: {steps}{loss}{_device(unit)}"
    )


def _device(unit: dict[str, Any]) -> str:
    return f", on {unit['device'].upper()} ({unit['capability']})" if unit["device"] else ""


def project_lines(projects: list[dict[str, Any]]) -> list[str]:
    """Return one line for each project, and one for its problem or its notice if it has one."""
    lines = []
    for project in projects:
        counters = project["counters"]
        units = round(counters.get("units_done", 0))
        lines.append(
            f"  {project['project']} at {project['url']}: "
            f"{units} {'unit' if units == 1 else 'units'} done, "
            f"{counters.get('credit_flops', 0) / 1e12:.3g} TFLOP credit, "
            f"version {project['latest_version']}"
        )
        if project["problem"]:
            lines.append(f"    {project['problem']}")
        if line := _sources(counters):
            lines.append(f"    {line}")
        if showcase := project.get("showcase"):
            when = ", before your work and now" if project.get("showcase_since_ours") else ""
            lines.append(f"    what the model does{when}: {showcase.partition('#')[0]}")
        if project.get("own_data"):
            folder = project.get("own_folder")
            said = f"trains on your data in {folder}" if folder else "no folder with your data"
            lines.append(f"    {said}: `pleb-agent data {project['project']}`")
        if project.get("no_new_work"):
            lines.append("    no new work, as you asked: `pleb-agent allow-new-work`")
        if project.get("notice"):
            lines.append(f"    {project['notice']['text']}")
    return lines


def _sources(counters: dict[str, float]) -> str:
    """Return from where the project's files came; empty: all from its coordinator."""
    neighbours = counters.get("bytes_from_neighbours", 0)
    mirrors = counters.get("bytes_from_mirrors", 0)
    internet = counters.get("bytes_from_internet", 0)
    if not neighbours + mirrors + internet:
        return ""
    coordinator = counters.get("bytes_from_coordinator", 0)
    others = f", {format_bytes(round(internet))} from other volunteers" if internet else ""
    return (
        f"files: {format_bytes(round(coordinator))} from the coordinator, "
        f"{format_bytes(round(neighbours))} from neighbours, "
        f"{format_bytes(round(mirrors))} from mirrors{others}"
    )


def habit_lines(view: dict[str, Any]) -> list[str]:
    """Return for how long the PC usually stays free, and from what that is known."""
    seconds = view["free_seconds"]
    known = (
        "For how long this PC stays free is not known yet."
        if seconds is None
        else f"At this time, this PC usually stays free for another {shown_duration(seconds)}."
    )
    lines = [f"{known} Learned from {view['times']} times in the last four weeks."]
    if not view["learns"]:
        lines.append("Projects do not learn this: see the preference `learn_habits`.")
    return lines


def unit_lines(view: dict[str, Any], now: float) -> list[str]:
    """Return how many units each part has, and one line for each unit of the part shown."""
    counts = ", ".join(f"{view['counts'][part]} {name}" for part, name in _PARTS.items())
    lines = [f"{counts}."]
    for unit in view["units"]:
        number = f"unit {unit['unit']}" if unit["unit"] else f"{unit['kind']} unit"
        line = f"  {unit['id']}: {number} of {unit['project']}, version {unit['version']}: "
        if view["part"] == "in_hand":
            state = unit["held"].replace("_", " ") or unit["state"]
            line += f"{state}, due {clock_time(unit['lease_ends_at'], now)}"
        else:
            line += unit["verdict"] or unit["state"]
        lines.append(line)
        if unit["note"]:
            lines.append(f"      {shown_line(unit['note'])}")
        if unit["distance"] is not None:
            lines.append(
                f"      {unit['distance']:.3g} from the result that counts; "
                f"{unit['tolerance']:.3g} is allowed"
            )
    return lines


def clock_time(at: float, now: float) -> str:
    """Return a time of day, with its date if that is not today's."""
    local, today = time.localtime(at), time.localtime(now)
    same = local[:3] == today[:3]
    return time.strftime("%H:%M" if same else "%Y-%m-%d %H:%M", local)


def log_line(line: str) -> str:
    """Return a line of the log for people; what is not one of our JSON objects is unchanged."""
    try:
        entry = json.loads(line)
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.pop("time")))
        words = [at, entry.pop("level"), entry.pop("event")]
        entry.pop("logger", None)
    except (ValueError, TypeError, AttributeError, KeyError):
        return shown_line(line.rstrip("\n"))
    return shown_line("  ".join([*words, *(f"{name}={value}" for name, value in entry.items())]))
