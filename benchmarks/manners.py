"""What a volunteer feels: memory, processor time, pauses, and the speed of everything else.

Real processes on a desktop of their own (Xvfb, a session bus, a panel): agentd with its probe and
tray, a coordinator that gives out units, and workers that compute them. The worker at nice 19, as
other programs of this kind run theirs, is measured in turns with ours.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks.manners_desktop import desktop, measure_idle, require_programs
from benchmarks.manners_foreground import measure_foreground
from benchmarks.manners_job import layers_for
from benchmarks.manners_pause import measure_pauses
from benchmarks.manners_share import measure_memory_back, measure_shares

STEP_MILLISECONDS: Final = (2, 200, 500)


def main(quick: bool) -> dict[str, Any]:
    require_programs()
    layers = {step: layers_for(step / 1000) for step in STEP_MILLISECONDS}
    with desktop() as place:
        idle = measure_idle(place, quick=quick)
        pause = measure_pauses(place, layers, quick=quick)
    foreground = measure_foreground(layers, quick=quick)
    share = measure_shares(layers, quick=quick)
    memory = measure_memory_back(layers, quick=quick)
    return {
        "agentd_rss_mb": idle["agentd"]["rss_mb"],
        "agentd_cpu_ms_per_min": idle["agentd"]["cpu_ms_per_min"],
        "tray_rss_mb": idle["tray"]["rss_mb"],
        "pause_ms_p99": pause["p99"],
        "foreground_slowdown": foreground["ours"],
        "slowdown_nice19": foreground["nice19"],
        "share_error_points": share["worst"],
        "ram_back_s": memory["worst"],
        "idle": idle,
        "pause_ms": pause,
        "foreground": foreground,
        "share": share,
        "ram_back": memory,
    }
