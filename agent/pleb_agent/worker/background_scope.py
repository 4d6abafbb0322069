"""Linux: a control group of the worker's own, which gives way to those of other programs.

Where systemd gives each program of a session a control group with a share of the processors, as
desktops do, SCHED_IDLE counts only inside of the worker's group: beside a program in another
group of the same weight it takes half. So the user's own systemd is asked for a scope in
`background.slice` with the weight "idle", or the least one where it does not know that.
Sources: org.freedesktop.systemd1(5), systemd.resource-control(5): CPUWeight=.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final

__all__ = ["give_way_as_a_group", "scope_name"]

_IDLE_WEIGHT: Final = 0
"""How `CPUWeight=idle` is written on the bus (systemd 252 and later)."""
_LEAST_WEIGHT: Final = 1


def scope_name(pid: int) -> str:
    """Return the name of the scope of a worker's process."""
    return f"pleb-worker-{pid}.scope"


def give_way_as_a_group(pid: int, address: str = "") -> str:
    """Move the process into a scope of its own; return what happened, for the log.

    Blocks for some seconds at most. Where there is no systemd for the user, the process stays in
    its group, in which its own priority counts.
    """
    if sys.platform != "linux":
        return "this system has no control groups"
    from jeepney import DBusAddress

    from pleb_agent.dbus.bus import CallRefused, open_bus, session_address
    from pleb_agent.dbus.stream import ServiceError

    manager = DBusAddress(
        "/org/freedesktop/systemd1",
        bus_name="org.freedesktop.systemd1",
        interface="org.freedesktop.systemd1.Manager",
    )
    refusal = ""
    try:
        with open_bus(address or session_address(os.environ), start_services=True) as bus:
            for weight in (_IDLE_WEIGHT, _LEAST_WEIGHT):
                body: tuple[Any, ...] = (scope_name(pid), "fail", _properties(pid, weight), [])
                try:
                    bus.call(manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)
                except CallRefused as error:
                    refusal = str(error)
                else:
                    return f"in {scope_name(pid)} with the weight {weight or 'idle'}"
    except ServiceError as error:
        return f"no systemd for the user ({error})"
    return f"systemd refuses a scope ({refusal})"


def _properties(pid: int, weight: int) -> list[tuple[str, tuple[str, Any]]]:
    return [
        ("Description", ("s", "Pleb-Cluster's worker, which gives way to everything")),
        ("Slice", ("s", "background.slice")),
        ("PIDs", ("au", [pid])),
        ("CPUWeight", ("t", weight)),
        ("IOWeight", ("t", _LEAST_WEIGHT)),
        ("CollectMode", ("s", "inactive-or-failed")),
    ]
