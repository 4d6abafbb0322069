"""Hostile hosts: what they send and when; `ATTACKS` are pairs of both.

All hostile hosts of a fleet know one another (`Gang`): which units friends have or had, what their
manifests showed, and what lie they agreed on for a unit. They know the public formulas of the
coordinator too, for example which place in the round a unit's seed belongs to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from pleb_coordinator.core.planning import unit_seed
from pleb_coordinator.simulation.deltas import Deltas, Floats, unit_vector
from pleb_shared.protocol.unit import ShardRange
from pleb_shared.tensors.distance import distances

if TYPE_CHECKING:
    from pleb_shared.protocol.manifest import Manifest
    from pleb_shared.protocol.unit import Unit

__all__ = ["ATTACKS", "Attack", "Choice", "Gang", "Member", "at_distance"]

_SEQUENTIAL_BELOW: Final = 10**9
"""Assignments with larger numbers are not counted through: their numbers tell nothing."""
_ORDER_SLACK: Final = 4
"""First tries may be handed out this many places out of order."""
_FEW_DELTAS: Final = 3


class Choice(StrEnum):
    """What a hostile host does with a unit."""

    HONEST = "honest"
    LIE = "lie"
    GIVE_BACK = "give_back"
    VANISH = "vanish"


@dataclass
class Gang:
    """What all hostile hosts of a fleet know."""

    deltas: Deltas
    generator: np.random.Generator
    tolerance: float
    ceiling: float
    round_units: int
    turn_at: float
    """When those who turn all at once do so."""
    had: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Members that were given a unit, by its seed."""
    lied: set[int] = field(default_factory=set)
    """Seeds of units that a member lied on."""
    agreed: dict[int, bytes] = field(default_factory=dict)
    """The bytes that members agreed to send, by the unit's seed."""
    known: defaultdict[int, list[Floats]] = field(default_factory=lambda: defaultdict(list))
    """Honest deltas of members' units, by version."""
    newest: int = -1
    sequential: bool = True
    _starts: dict[int, int] = field(default_factory=dict)
    """Smallest difference of an assignment's number and its place in the round, by version."""
    _frontier: dict[int, int] = field(default_factory=dict)
    """Last place in the round that a member was given, by version."""
    _places: dict[int, int] = field(default_factory=dict)
    """Place in the round by seed, of the newest version."""

    def note(self, manifest: Manifest, number: int) -> bool:
        """Remember a manifest that a member got; return whether it looks like a first try."""
        unit = manifest.unit
        if unit.version > self.newest:
            self.newest = unit.version
            self._places = {
                unit_seed(manifest.project, unit.epoch, unit.version, place): place
                for place in range(self.round_units)
            }
        again = bool(self.had[unit.seed])
        self.had[unit.seed].add(number)
        self.sequential = self.sequential and manifest.assignment < _SEQUENTIAL_BELOW
        if unit.version < self.newest or again:
            return False
        place = self._places.get(unit.seed, -1)
        if place < 0:
            return True  # its seed tells nothing
        frontier = self._frontier.get(unit.version, -1)
        self._frontier[unit.version] = max(frontier, place)
        if self.sequential:
            start = manifest.assignment - place
            self._starts[unit.version] = min(start, self._starts.get(unit.version, start))
            return start == self._starts[unit.version]
        return place > frontier - _ORDER_SLACK


@dataclass
class Member:
    """One hostile host, under one name."""

    gang: Gang
    number: int
    determinism_class: int
    made: int = 0
    """Results that it delivered."""
    valid: int = 0
    """Of them, in a row, those that it was told are valid."""
    last_sent: bytes = b""


@dataclass(frozen=True)
class Moment:
    """A member has a unit and decides."""

    member: Member
    manifest: Manifest
    first_try: bool
    """As far as members can tell."""
    now: float
    had_shards: bool = False
    """Whether the member had the unit's shards before: then it is less often a check."""

    @property
    def unit(self) -> Unit:
        """The unit."""
        return self.manifest.unit

    @property
    def gang(self) -> Gang:
        """What all members know."""
        return self.member.gang

    @property
    def friend_lied(self) -> bool:
        """Whether another member has lied on this unit."""
        return self.unit.seed in self.gang.lied

    @property
    def friend_has(self) -> bool:
        """Whether another member has had this unit."""
        return bool(self.gang.had[self.unit.seed] - {self.member.number})

    def honest(self) -> Floats:
        """Return the right delta [numbers]."""
        return self.gang.deltas.honest(self.unit, self.member.determinism_class)


Lie = Callable[[Moment], Floats | bytes]
Time = Callable[[Moment], Choice]


@dataclass(frozen=True)
class Attack:
    """A strategy of hostile hosts."""

    summary: str
    time: Time
    lie: Lie
    together: bool = False
    """All members send the same bytes for a unit."""
    made_class: float = 0.0
    """Above 0: members share a made-up determinism class that far from the honest ones, as a
    multiple of the ceiling of the tolerance."""
    returns_after: float = 900.0
    """Seconds after a ban until the person is back under a new name."""
    subtle: bool = False
    """Its lies look much like honest deltas: suspicion cannot be expected to see them."""
    computes: bool = False
    """Who sends it has computed the unit, so it cannot come at once."""
    knows: bool = False
    """Members know for certain which units are first tries: more than any manifest can show."""


# What is sent


def _zero(moment: Moment) -> Floats:
    return np.zeros_like(moment.honest())


def _random(moment: Moment) -> Floats:
    size = np.float32(np.linalg.norm(moment.honest()))
    return unit_vector(moment.gang.generator) * size


def _sign(moment: Moment) -> Floats:
    return -moment.honest()


def _scaled(moment: Moment) -> Floats:
    return 10 * moment.honest()


def _half_steps(moment: Moment) -> Floats:
    """Half of the way, in a direction that more steps would have changed a little."""
    honest = moment.honest()
    size = np.float32(np.linalg.norm(honest))
    seeded = np.random.default_rng((moment.unit.seed, 1))
    return np.asarray(0.5 * honest + 0.15 * size * unit_vector(seeded), np.float32)


def _skipped_step(moment: Moment) -> Floats:
    honest = moment.honest()
    size = np.float32(np.linalg.norm(honest))
    seeded = np.random.default_rng((moment.unit.seed, 2))
    return np.asarray(0.99 * honest + 0.08 * size * unit_vector(seeded), np.float32)


def _other_shard(moment: Moment) -> Floats:
    unit = moment.unit
    other = ShardRange(first=unit.shards.first + 1, count=unit.shards.count)
    return _as_if(moment, msgspec.structs.replace(unit, shards=other, seed=unit.seed ^ 1))


def _stale(moment: Moment) -> Floats:
    """Trained from the version before: the agent did not fetch the new one."""
    unit = moment.unit
    return _as_if(moment, msgspec.structs.replace(unit, version=max(0, unit.version - 1)))


def _as_if(moment: Moment, other: Unit) -> Floats:
    """Return the honest delta [numbers] of another unit."""
    return moment.gang.deltas.of_another(other, moment.member.determinism_class)


def _replay(moment: Moment) -> Floats | bytes:
    """Send the last result again; the first one is honest."""
    return moment.member.last_sent or moment.honest()


def _copied(moment: Moment) -> Floats:
    """Send a friend's delta of another unit of this version."""
    known = moment.gang.known[moment.unit.version]
    return known[0] if known else moment.honest()


def _noise_of(share: float) -> Lie:
    def lie(moment: Moment) -> Floats:
        honest = moment.honest()
        size = np.float32(share * np.linalg.norm(honest))
        return honest + size * unit_vector(moment.gang.generator)

    return lie


def _noise_under(moment: Moment) -> Floats:
    """As much noise as stays just under the tolerance."""
    return _noise_at(moment, 0.9 * moment.gang.tolerance)


def _noise_under_ceiling(moment: Moment) -> Floats:
    return _noise_at(moment, 0.9 * moment.gang.ceiling)


def _noise_at(moment: Moment, distance: float) -> Floats:
    deltas = moment.gang.deltas
    return at_distance(deltas, moment.honest(), unit_vector(moment.gang.generator), distance)


def at_distance(deltas: Deltas, honest: Floats, direction: Floats, distance: float) -> Floats:
    """Return `honest` [numbers] moved so far that the encoded deltas are `distance` apart.

    `direction` has a norm of 1. Codes are coarse: a small change moves many of them by one.
    """
    step = direction * np.float32(np.linalg.norm(honest))
    right = deltas.coded(honest)
    low, high = 0.0, 2 * distance
    for _ in range(8):
        share = (low + high) / 2
        sent = deltas.coded(honest + np.float32(share) * step)
        apart = max(distances(right, sent, deltas.encoding).values())
        low, high = (share, high) if apart < distance else (low, share)
    return honest + np.float32(low) * step


def _nan(moment: Moment) -> bytes:
    return b"\xff" * len(moment.gang.deltas.encode(moment.unit, moment.honest()))


def _oversized(moment: Moment) -> bytes:
    return moment.gang.deltas.encode(moment.unit, moment.honest()) + b"\0"


def _backdoor(moment: Moment) -> Floats:
    """Add a fixed direction, always the same, that is a third as long as the delta."""
    honest = moment.honest()
    size = np.float32(0.33 * np.linalg.norm(honest))
    return honest + size * moment.gang.deltas.direction("backdoor", 0)


def _alie(moment: Moment) -> Floats:
    """Stay within the spread of honest deltas, each number on the harmful side.

    "A little is enough" (Baruch et al. 2019): mean - z * deviation.
    """
    known = moment.gang.known[moment.unit.version]
    if len(known) < _FEW_DELTAS:
        return moment.honest()
    stacked = np.stack(known)
    return np.asarray(stacked.mean(axis=0) - 1.0 * stacked.std(axis=0), np.float32)


def _ipm(moment: Moment) -> Floats:
    """Inner-product manipulation (Xie et al. 2020): against the mean, but not longer than it."""
    known = moment.gang.known[moment.unit.version]
    if len(known) < _FEW_DELTAS:
        return moment.honest()
    return np.asarray(-1.1 * np.stack(known).mean(axis=0), np.float32)


# When it is sent


def _always(_: Moment) -> Choice:
    return Choice.LIE


def _vanish(_: Moment) -> Choice:
    return Choice.VANISH


def _when_new(moment: Moment) -> Choice:
    """Lie until ten results in a row have counted."""
    return Choice.HONEST if moment.member.valid >= 10 and not moment.friend_lied else Choice.LIE


def _after(units: int, share: float = 1.0) -> Time:
    def time(moment: Moment) -> Choice:
        asleep = moment.member.made < units
        if moment.friend_lied:
            return Choice.LIE
        lies = not asleep and moment.gang.generator.random() < share
        return Choice.LIE if lies else Choice.HONEST

    return time


def _first_tries(moment: Moment) -> Choice:
    lies = moment.friend_lied or (moment.first_try and moment.member.made >= 20)
    return Choice.LIE if lies else Choice.HONEST


def _on_its_shards(moment: Moment) -> Choice:
    lies = moment.friend_lied or (moment.had_shards and moment.member.made >= 20)
    return Choice.LIE if lies else Choice.HONEST


def _shop(moment: Moment) -> Choice:
    """Lie on first tries, confirm friends' lies, and give all else back."""
    if moment.friend_lied or moment.first_try:
        return Choice.LIE
    return Choice.GIVE_BACK


def _give_back(moment: Moment) -> Choice:
    """Lie only beside a friend; after ten honest results give all else back."""
    if moment.friend_has:
        return Choice.LIE
    return Choice.HONEST if moment.member.made < 10 else Choice.GIVE_BACK


def _frame(moment: Moment) -> Choice:
    """Honest on first tries, so that lies as a checker weigh; and friends say the same."""
    if moment.friend_lied:
        return Choice.LIE
    lies = moment.member.valid >= 10 and not moment.first_try
    return Choice.LIE if lies else Choice.HONEST


def _turn(moment: Moment) -> Choice:
    return Choice.LIE if moment.now >= moment.gang.turn_at else Choice.HONEST


ATTACKS: Final[dict[str, Attack]] = {
    "zero": Attack("a delta of zeros", _always, _zero),
    "random": Attack("random numbers of the right norm", _always, _random),
    "sign": Attack("the delta with the opposite sign", _always, _sign),
    "scaled": Attack("ten times the delta", _always, _scaled),
    "half_steps": Attack("half of the steps", _always, _half_steps, subtle=True),
    "skipped_step": Attack("a step left out", _always, _skipped_step, subtle=True),
    "other_shard": Attack("trained on another shard", _always, _other_shard, subtle=True),
    "replay": Attack("the host's last delta again", _always, _replay, subtle=True),
    "stale": Attack("trained from the version before", _always, _stale, subtle=True),
    "copied": Attack("a friend's delta of another unit", _always, _copied, subtle=True),
    "noise_1pct": Attack("one percent of noise", _always, _noise_of(0.01), subtle=True),
    "noise_under": Attack(
        "noise just under the tolerance", _always, _noise_under, subtle=True, computes=True
    ),
    "nan": Attack("numbers that are not finite", _always, _nan),
    "oversized": Attack("a byte too many", _always, _oversized),
    "same_lie": Attack("all the same lie for a unit", _always, _random, together=True),
    "when_new": Attack("lie only while new", _when_new, _random, together=True),
    "first_tries": Attack(
        "after 20 honest units, lie on what manifests show to be first tries",
        *(_first_tries, _random),
        together=True,
    ),
    "knows_checks": Attack(
        "after 20 honest units, a backdoor in first tries, which an oracle tells from checks",
        *(_first_tries, _backdoor),
        together=True,
        subtle=True,
        knows=True,
    ),
    "own_shards": Attack(
        "after 20 honest units, a backdoor in units whose shards it has: few of them are checks",
        *(_on_its_shards, _backdoor),
        together=True,
        subtle=True,
    ),
    "shop_checks": Attack(
        "lie on first tries and confirm friends; give the rest back", _shop, _random, together=True
    ),
    "give_back": Attack(
        "lie only beside a friend; give the rest back", _give_back, _random, together=True
    ),
    "vanish": Attack("take units and never answer", _vanish, _zero),
    "sleepers_20": Attack("lie after 20 honest units", _after(20), _random, together=True),
    "sleepers_50": Attack("lie after 50 honest units", _after(50), _random, together=True),
    "sleepers_200": Attack("lie after 200 honest units", _after(200), _random, together=True),
    "one_in_ten": Attack(
        "lie on one unit in ten, after 20 honest ones", _after(20, 0.1), _random, together=True
    ),
    "turn_at_once": Attack("long honest, then all lie at once", _turn, _random, together=True),
    "framing": Attack("honest on first tries, lie as a checker", _frame, _random, together=True),
    "return_at_once": Attack(
        "the same lie together; back under a new name at once",
        *(_always, _random),
        together=True,
        returns_after=15.0,
    ),
    "made_class": Attack(
        "the same lie from a made-up determinism class",
        *(_always, _random),
        together=True,
        made_class=4.0,
    ),
    "crafted_calibration": Attack(
        "calibrations that widen the tolerance, then noise within it",
        *(_always, _noise_under_ceiling),
        together=True,
        made_class=0.9,
        subtle=True,
    ),
    "backdoor": Attack(
        "honest deltas plus a small fixed direction, after 20 units",
        *(_after(20), _backdoor),
        together=True,
        subtle=True,
    ),
    "alie": Attack(
        "a little is enough: within the spread of honest deltas, after 20 units",
        *(_after(20), _alie),
        together=True,
        subtle=True,
    ),
    "ipm": Attack(
        "inner-product manipulation, after 20 units",
        *(_after(20), _ipm),
        together=True,
    ),
}
"""By name."""
