"""What a volunteer feels: memory, processor time, pauses, and the speed of everything else.

Real processes on a desktop of their own (Xvfb, a session bus, a panel): agentd with its probe and
tray, a coordinator that gives out units, and workers that compute them. The worker at nice 19, as
other programs of this kind run theirs, is measured in turns with ours.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks.manners_desktop import desktop, measure_idle, require_programs
from benchmarks.manners_job import layers_for
from benchmarks.manners_pause import measure_pauses
from benchmarks.manners_worker import measure_foreground, measure_holding

STEP_MILLISECONDS: Final = (2, 200, 500)
QUICK_STEP_MILLISECONDS: Final = (2, 500)
FOREGROUND_STEP_SECONDS: Final = 0.2


def main(quick: bool) -> dict[str, Any]:
    require_programs()
    steps = QUICK_STEP_MILLISECONDS if quick else STEP_MILLISECONDS
    layers = {step: layers_for(step / 1000) for step in steps}
    with desktop() as place:
        idle = measure_idle(place, quick=quick)
        pause = measure_pauses(place, layers, quick=quick)
    foreground = measure_foreground(layers_for(FOREGROUND_STEP_SECONDS), quick=quick)
    holding = measure_holding(layers, quick=quick)
    return {
        "agentd_rss_mb": idle["agentd"]["rss_mb"],
        "agentd_cpu_ms_per_min": idle["agentd"]["cpu_ms_per_min"],
        "tray_rss_mb": idle["tray"]["rss_mb"],
        "pause_ms_p99": pause["p99"],
        "foreground_slowdown": foreground["ours"],
        "slowdown_nice19": foreground["nice19"],
        "share_error_points": holding["share_error_points"],
        "ram_back_s": holding["ram_back_s"],
        "idle": idle,
        "pause_ms": pause,
        "foreground": foreground,
        "share": holding["share_errors"],
        "share_crowded_out_percent": holding["crowded_out_percent"],
        "ram_back": holding["ram_back_by_step"],
    }
