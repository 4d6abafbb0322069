"""What a project waits for at the moment, in one sentence: why nobody can work, or why it is slow.

`status`, the project's page, `/metrics` and alerts all have it from here. The first line that
holds is the answer, so the order is that of what must change first.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from pleb_coordinator.core.records import ProjectState, Record
from pleb_coordinator.core.rounds import due_at, ready
from pleb_shared.protocol.reasons import reason_sentence
from pleb_system.durations import shown_duration

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project, Round

__all__ = ["Level", "Scene", "Waiting", "waiting_for"]


class Level(StrEnum):
    """How bad it is."""

    WORKING = "working"
    IDLE = "idle"
    """Nobody is meant to work: it is finished, paused, or nobody has joined yet."""
    SLOW = "slow"
    STUCK = "stuck"
    """Nobody can work until somebody acts."""


class Waiting(Record, frozen=True):
    """What is waited for."""

    code: str
    """The same for the same cause, for programs."""
    level: Level
    sentence: str


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
    refusing: int = 0
    """Of the active ones, how many refuse what the coordinator answers."""
    refuses: str = ""
    """Why one of them does."""
    trusted_queue: int = 0
    """Checks and disputes that wait for a trusted host."""
    trusted_behind: bool = False
    """Whether these are more than the trusted hosts manage."""
    disk_is_full: bool = False
    clock_ahead_seconds: float = 0.0
    """How far this machine's clock is ahead of most hosts'; 0: it is right."""


def waiting_for(project: Project, scene: Scene, now: float) -> Waiting:
    """Return what is waited for."""
    return _machine(scene) or _stopped(project, scene) or _fleet(project, scene, now)


def _machine(scene: Scene) -> Waiting | None:
    """Return what keeps everybody from working, whatever the project."""
    if scene.disk_is_full:
        sentence = "The coordinator's disk is full: nothing that hosts send can be stored."
        return Waiting("disk_full", Level.STUCK, sentence)
    if scene.clock_ahead_seconds:
        side = "ahead of" if scene.clock_ahead_seconds > 0 else "behind"
        off = shown_duration(abs(scene.clock_ahead_seconds))
        sentence = f"The coordinator's clock is {off} {side} the hosts': turn on NTP there."
        return Waiting("clock_off", Level.STUCK, sentence)
    return None


def _stopped(project: Project, scene: Scene) -> Waiting | None:
    """Return why no work is issued."""
    if project.stopped_for is None:
        return None
    if project.state is ProjectState.FINISHED and not scene.evaluated:
        where = "a trusted host does it" if scene.trusted else "no trusted host is around"
        sentence = f"Version {project.version} is to be measured on the holdout: {where}."
        level = Level.WORKING if scene.trusted else Level.STUCK
        return Waiting("to_be_measured", level, sentence)
    sentence = reason_sentence(project.stopped_for)
    return Waiting(project.stopped_for.code, Level.IDLE, sentence)


def _fleet(project: Project, scene: Scene, now: float) -> Waiting:
    """Return what the project waits for while it is active."""
    following = project.version + 1
    who = "The only PC refuses" if scene.active == 1 else f"All {scene.active} PCs refuse"
    lines = (
        (
            project.metadata.delegation.expires_at <= now,
            ("permission_ended", Level.STUCK),
            f"The permission has ended: run `pleb-project renew {project.name}`.",
        ),
        (
            project.restoring is not None,
            ("restoring", Level.WORKING),
            f"Version {project.restoring} is being restored.",
        ),
        (
            not scene.hosts,
            ("no_hosts", Level.IDLE),
            "No PC has joined yet: share the attach link.",
        ),
        (
            not scene.active,
            ("no_active_hosts", Level.STUCK),
            f"None of the {_many(scene.hosts, 'PC')} has asked for work lately.",
        ),
        (
            scene.refusing == scene.active,
            ("all_refuse", Level.STUCK),
            f"{who} this coordinator's answers: {scene.refuses}",
        ),
        (
            not scene.calibrated,
            ("calibrating", Level.WORKING),
            f"{_many(scene.active, 'PC')} being calibrated for this model.",
        ),
        (
            scene.warm_start and not scene.trusted,
            ("no_trusted_host", Level.SLOW),
            f"Version {following} is a warm start, for a trusted host: start one, or all begin.",
        ),
    )
    for holds, (code, level), sentence in lines:
        if holds:
            return Waiting(code, level, sentence)
    if scene.round is None and project.metadata.activity == "finishing":
        sentence = (
            f"Version {project.version} is the last for now, as its researcher wants: "
            f"`pleb-project resume {project.name}` goes on."
        )
        return Waiting("finishing", Level.IDLE, sentence)
    if scene.round is None:
        sentence = f"The units of version {following} are being planned."
        return Waiting("planning", Level.WORKING, sentence)
    return _round(project, scene, scene.round, now)


def _round(project: Project, scene: Scene, row: Round, now: float) -> Waiting:
    """Return what the open round waits for."""
    following, grace = row.version + 1, project.metadata.round.grace_seconds
    if ready(row, grace, now):
        return Waiting("making", Level.WORKING, f"Version {following} is being made.")
    if due_at(row, grace) is not None:
        sentence = (
            f"Version {following} has the {_many(row.quorum, 'result')} that it needs, and waits "
            f"up to {grace:g} s for {row.open} more."
        )
        return Waiting("grace", Level.WORKING, sentence)
    if scene.warm_start:
        busy = "trains it alone" if scene.in_hand else "is to train it alone"
        sentence = (
            f"Version {following} is a warm start: a trusted host {busy}, with a large batch."
        )
        return Waiting("warm_start", Level.WORKING, sentence)
    lacking = f"Version {following} needs {_many(row.quorum - row.valid, 'more verified result')}"
    if scene.reported and not scene.anchors:
        sentence = f"{lacking}: no PC is trusted or proven yet, so most of them must agree first."
        return Waiting("no_anchor", Level.SLOW, sentence)
    if scene.trusted_behind:
        what = _many(scene.trusted_queue, "check or dispute", "checks and disputes")
        wait = "waits" if scene.trusted_queue == 1 else "wait"
        sentence = f"{lacking}: {what} {wait} for a trusted host, which has too little time."
        return Waiting("trusted_host_behind", Level.SLOW, sentence)
    if scene.reported and not scene.in_hand:
        confirmed = _many(scene.reported, "result")
        sentence = f"{lacking}: {confirmed} to be confirmed by a second PC."
        return Waiting("to_be_confirmed", Level.SLOW, sentence)
    parts = [
        f"{_many(scene.in_hand, 'unit')} being computed" if scene.in_hand else "",
        f"{_many(scene.reported, 'result')} to be confirmed" if scene.reported else "",
    ]
    shown = " and ".join(part for part in parts if part)
    sentence = f"{lacking}: {shown or 'PCs take its units when they are free'}."
    return Waiting("computing", Level.WORKING, sentence)


def _many(count: int, what: str, several: str = "") -> str:
    return f"{count} {what}" if count == 1 else f"{count} {several or what + 's'}"
