"""What a project waits for at the moment, in one sentence: for `status`, its page and commands.

The first line that holds is the answer, so the order is that of what must change first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_coordinator.core.records import ProjectState, Record
from pleb_coordinator.core.rounds import due_at, ready
from pleb_shared.protocol.reasons import reason_sentence

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project, Round

__all__ = ["Scene", "waiting_for"]


class Scene(Record, frozen=True):
    """What the sentence depends on beside the project."""

    round: Round | None
    """That of the newest version; None: it is not planned yet."""
    hosts: int
    """All that ever enrolled and were not removed."""
    active: int
    """Those that asked for work lately."""
    calibrated: int
    """Of these, how many have been calibrated."""
    anchors: int
    """Of these, how many are trusted or proven."""
    trusted: int
    """Of these, how many are trusted."""
    in_hand: int
    """Open units of the round that hosts are computing."""
    reported: int
    """Open units of the round with a result that does not count yet."""
    evaluated: bool
    """Whether the newest version was measured on the holdout, or there is none."""
    warm_start: bool
    """Whether only trusted hosts train the newest version."""


def waiting_for(project: Project, scene: Scene, now: float) -> str:
    """Return the sentence."""
    if project.stopped_for is not None:
        ended = project.state is ProjectState.FINISHED
        if ended and not scene.evaluated:
            where = "a trusted host does it" if scene.trusted else "no trusted host is around"
            return f"Version {project.version} is to be measured on the holdout: {where}."
        return reason_sentence(project.stopped_for)
    following = project.version + 1
    lines = (
        (
            project.metadata.delegation.expires_at <= now,
            f"The permission has ended: run `pleb-project renew {project.name}`.",
        ),
        (project.restoring is not None, f"Version {project.restoring} is being restored."),
        (not scene.hosts, "No PC has joined yet: share the attach link."),
        (not scene.active, f"None of the {_many(scene.hosts, 'PC')} has asked for work lately."),
        (not scene.calibrated, f"{_many(scene.active, 'PC')} being calibrated for this model."),
        (
            scene.warm_start and not scene.trusted,
            f"Version {following} is a warm start, for a trusted host: start one.",
        ),
        (scene.round is None, f"The units of version {following} are being planned."),
    )
    found = next((sentence for holds, sentence in lines if holds), "")
    return _round(project, scene, scene.round, now) if scene.round and not found else found


def _round(project: Project, scene: Scene, row: Round, now: float) -> str:
    """Return what the open round waits for."""
    following, grace = row.version + 1, project.metadata.round.grace_seconds
    if ready(row, grace, now):
        return f"Version {following} is being made."
    if due_at(row, grace) is not None:
        return (
            f"Version {following} has the {_many(row.quorum, 'result')} that it needs, and waits "
            f"up to {grace:g} s for {row.open} more."
        )
    lacking = f"Version {following} needs {_many(row.quorum - row.valid, 'more verified result')}"
    if scene.reported and not scene.anchors:
        return f"{lacking}: no PC is trusted or proven yet, so most of them must agree first."
    parts = [
        f"{_many(scene.in_hand, 'unit')} being computed" if scene.in_hand else "",
        f"{_many(scene.reported, 'result')} to be confirmed" if scene.reported else "",
    ]
    shown = " and ".join(part for part in parts if part)
    return f"{lacking}: {shown or 'PCs take its units when they are free'}."


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
