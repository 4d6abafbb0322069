"""What differential privacy a project's noise earns, and where it earns none.

In each round of a project with [privacy], the delta of every unit is cut to the norm C =
`clip_norm`, and Gaussian noise of the standard deviation z C is added to the sum, z =
`noise_multiplier`. Two data sets are neighbours if they differ in what one unit of privacy holds,
whatever it holds instead: the shard exists in both, so no schedule, weight or size tells them
apart. A unit that reads it changes by at most 2 C, since each of its two deltas is no longer than
C; so a round in which m units read it is a Gaussian mechanism with the multiplier z / (2 m). Which
shards a round reads is public, so sampling amplifies nothing. Rounds compose: multipliers z_i are
together one of 1 / sqrt(sum 1 / z_i^2) (Dong, Roth and Su 2022, corollary 2), and those who own k
shards have that over k at worst (theorem 3, group privacy).

The library dp-accounting turns that multiplier into an epsilon (Balle and Wang 2018).
"""

from __future__ import annotations

import math
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "SENTENCES",
    "NoisedRound",
    "Setting",
    "Unearned",
    "effective_multiplier",
    "epsilon_of",
    "unearned_by",
]


class Unearned(StrEnum):
    """Why no epsilon is given."""

    WARM_START = "warm_start"
    CHUNKS = "chunks"
    COMBINATION = "combination"
    BUFFERS = "buffers"
    QUORUM = "quorum"
    FAMILY = "family"
    NO_NOISE = "no_noise"
    OTHER_DATA = "other_data"
    RESTORED = "restored"
    DELTA = "delta"
    NOT_INSTALLED = "not_installed"


SENTENCES: Final = {
    Unearned.WARM_START: (
        "a trusted host's warm start enters a version without clip and noise: set "
        "warm_start_versions = 0 in [training]."
    ),
    Unearned.CHUNKS: (
        "where units train parts of the model, what one of them moves is not bounded by clip_norm: "
        "remove chunks from [limits]."
    ),
    Unearned.COMBINATION: (
        "only the mean bounds what one unit moves: set combination = 'mean' in [outer]."
    ),
    Unearned.BUFFERS: (
        "the model has buffers that training changes, such as running means, and they are averaged "
        "without noise: use a model without them, for example with group instead of batch "
        "normalization."
    ),
    Unearned.QUORUM: (
        "a version that may be made without some of its round's units depends on which of them "
        "were confirmed, and so on the others' data: set quorum to the number of units in [round]."
    ),
    Unearned.FAMILY: (
        "the members of a family train on the same data, and the epsilon of one says nothing about "
        "all of them: publish the project alone."
    ),
    Unearned.NO_NOISE: (
        "some versions of this project were made without noise, and they stay readable: publish "
        "the data under a new project name, and delete this project."
    ),
    Unearned.OTHER_DATA: (
        "an earlier epoch of this project read other shards, and what an owner's data did there is "
        "not known: publish the data under a new project name."
    ),
    Unearned.RESTORED: (
        "this coordinator was restored from a backup, and versions that were made after it are "
        "not in the account: publish the data under a new project name."
    ),
    Unearned.DELTA: (
        "delta is not below one over the number of training shards, so a whole shard could be "
        "given away within it: lower delta in [privacy]."
    ),
    Unearned.NOT_INSTALLED: (
        "the accountant is not installed here: pip install 'pleb-cluster[privacy]'."
    ),
}
"""What to do about each, in half a sentence that follows "No epsilon: "."""


class Setting(NamedTuple):
    """What a project says that decides whether its noise earns an epsilon."""

    warm_start_versions: int
    chunks: int
    combination: str
    buffers: int
    units: int
    quorum: int
    in_family: bool


def unearned_by(setting: Setting) -> Iterator[Unearned]:
    """Yield what in the setting earns no epsilon, whatever the noise is."""
    faults = {
        Unearned.WARM_START: setting.warm_start_versions > 0,
        Unearned.CHUNKS: setting.chunks > 0,
        Unearned.COMBINATION: setting.combination != "mean",
        Unearned.BUFFERS: setting.buffers > 0,
        Unearned.QUORUM: setting.quorum < setting.units,
        Unearned.FAMILY: setting.in_family,
    }
    yield from (reason for reason, applies in faults.items() if applies)


class NoisedRound(NamedTuple):
    """A round whose sum got noise."""

    version: int
    """The one that its units start from."""
    units: int
    shards_per_unit: int
    multiplier: float
    """Standard deviation of the noise over the norm to which deltas are cut."""


def effective_multiplier(
    rounds: Sequence[NoisedRound], train_shards: int, owner_shards: int
) -> float:
    """Return the multiplier of the one Gaussian mechanism that all rounds together are.

    It is that of the worst unit of privacy, which has `owner_shards` of the `train_shards`;
    infinity: nothing read it.
    """
    owner_shards = min(owner_shards, train_shards)
    worst_shard = owner_shards * math.sqrt(_most_read(rounds, train_shards))
    every_unit = math.sqrt(sum(_loss(each, each.units) for each in rounds))
    worst = min(worst_shard, every_unit)
    return 1 / worst if worst else math.inf


def _loss(each: NoisedRound, reading: int) -> float:
    """Return 1 / multiplier^2 of a round in which `reading` units read the unit of privacy."""
    return (2 * reading / each.multiplier) ** 2


def _most_read(rounds: Sequence[NoisedRound], train_shards: int) -> float:
    """Return the largest sum of `_loss` that any shard has.

    Units of all rounds, counted through, take the shards in turn (`core/planning.py`), as long as
    every round has as many units; otherwise each shard counts as read by as many as could be.
    """
    if len({(each.units, each.shards_per_unit) for each in rounds}) > 1:
        return sum(_loss(each, _most_units(each, train_shards)) for each in rounds)
    turned = 0.0
    steps = [0.0] * (train_shards + 1)  # of the sum, from one shard to the next
    for each in rounds:
        turns, more = divmod(each.units * each.shards_per_unit, train_shards)
        first = each.version * each.units * each.shards_per_unit % train_shards
        turned += _loss(each, turns)
        extra = _loss(each, turns + 1) - _loss(each, turns)
        for start, stop in _parts(first, more, train_shards):
            steps[start] += extra
            steps[stop] -= extra
    return turned + max(accumulate(steps), default=0.0)


def _parts(first: int, count: int, train_shards: int) -> Iterable[tuple[int, int]]:
    """Return the shards from `first` on, one or two ranges of numbers below `train_shards`."""
    stop = first + count
    if stop <= train_shards:
        return [(first, stop)]
    return [(first, train_shards), (0, stop - train_shards)]


def _most_units(each: NoisedRound, train_shards: int) -> int:
    return min(each.units, -(-each.units * each.shards_per_unit // train_shards))


def epsilon_of(multiplier: float, delta: float) -> float:
    """Return the epsilon of a Gaussian mechanism, as dp-accounting computes it.

    Raises:
        InputError: the library is not installed.
    """
    try:  # with scipy it takes 80 MB, which only projects with noise need
        from dp_accounting import get_epsilon_gaussian
    except ImportError as error:
        raise InputError(f"No epsilon: {SENTENCES[Unearned.NOT_INSTALLED]}") from error
    import numpy as np

    with np.errstate(divide="ignore"):  # of log(0), whose infinity the search expects
        return float(get_epsilon_gaussian(multiplier, delta))
