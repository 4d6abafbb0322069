"""When trials of a sweep can be compared."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from pleb_project.definition.sections import ProjectDefinition

__all__ = ["early_rungs"]


def early_rungs(whole: ProjectDefinition) -> str:
    """Return a warning if trials are compared before their outer momentum has built up.

    Its first steps are shorter than later ones, and the next ones overshoot where a trial learns
    fast, so it is the good trials that look bad. M = momentum * M + g has 63 % of its full length
    after 1 / (1 - momentum) versions.
    """
    if whole.sweep is None or not whole.sweep.rungs:
        return ""
    momentum = max(trial.definition.outer.momentum for trial in whole.trials)
    built_up = min(math.ceil(round(1 / max(1 - momentum, 1e-6), 6)), LIMITS.versions)
    first = whole.sweep.rungs[0]
    if first >= built_up:
        return ""
    return (
        f"Trials are compared after version {first}, but the outer momentum of {momentum:g} takes "
        f"{built_up} versions to build up, and until then good trials may look bad: let rungs "
        f"begin at {built_up}, if need be with more versions of fewer local_steps."
    )
