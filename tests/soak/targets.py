"""The list of targets. A file of targets exports `TARGETS`; add it here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.soak import door_targets, graph_targets

if TYPE_CHECKING:
    from tests.soak.frame import Target

ALL: Final[dict[str, Target]] = {
    target.name: target for target in (*graph_targets.TARGETS, *door_targets.TARGETS)
}
