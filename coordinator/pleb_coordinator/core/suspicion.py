"""Signals that a result may be wrong, from what it looks like beside recent honest ones.

A signal proves nothing and convicts no host: it makes the coordinator have the unit computed
again before the result counts. So a false alarm costs one more copy of a unit. `docs/trust.md` says
what each signal costs on real training and which attacks it catches.

The coordinator decodes every delta anyway. `features_of` keeps what is compared: the norm, how
it is spread over the model's tensors, and a *sketch*, a random projection to 4,096 numbers that
keeps angles (a count sketch, Charikar et al. 2002). Two deltas' sketches have the deltas' cosine
within about .016. The projection is drawn from a secret, so that nobody can make a delta whose
sketch looks right but whose content is not.
"""

from __future__ import annotations

import functools
import hmac
import math
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pleb_coordinator.core.records import Record
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.reasons import Reason, ReasonCode, because

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_shared.protocol.project import ModelSpec
    from pleb_shared.tensors.layout import Tensors

__all__ = [
    "MAD_TO_DEVIATION",
    "RECENT_RESULTS",
    "Features",
    "Signal",
    "SignalKind",
    "Sketches",
    "Timing",
    "Traits",
    "features_of",
    "outlying",
    "scaled",
    "shown",
    "signals",
    "sketch_key",
    "sketch_of",
    "sketches_of",
]

Sketches = NDArray[np.float32]
"""[4096], or [results, 4096]."""

RECENT_RESULTS: Final = 64
"""How many of a project's newest confirmed results are kept to compare with."""

_SKETCH: Final = 4096
_GROUPS: Final = 64
"""The norm's spread is kept for at most this many groups of consecutive tensors."""
_CHUNK: Final = 16 * _SKETCH
"""Numbers that are projected at a time; a multiple of 64, since a word has the signs of 64."""

_FEWEST: Final = 8
"""With fewer results to compare with, an outlier cannot be told from the ordinary."""
_NEAREST: Final = 32
"""Results are compared with those of the nearest versions, since training changes them."""
_LIMIT: Final = 6.0
"""An outlier lies this many robust standard deviations from the median."""
_DIRECTION_LIMIT: Final = 4.0
"""Less for cosines, which are bounded and whose tail is thin."""
_FELLOWS: Final = 8
"""A cosine is with the mean of at most this many results of the same version..."""
_FEWEST_FELLOWS: Final = 3
"""...and of at least this many: with fewer, an honest result's is hardly more than chance."""
MAD_TO_DEVIATION: Final = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_LEAST_SHARE: Final = 1e-4
"""A group of tensors with a smaller share of the norm is as good as unchanged."""
_COPY_ANGLE: Final = 0.1
"""Another unit's result this many times closer than the closest honest ones is a copy."""
_FASTEST: Final = 0.5
"""No PC computes a unit in less than this share of its usual time."""
_CLOCK_SECONDS: Final = 5.0
"""By how much a host's count of seconds may exceed the coordinator's."""


class SignalKind(StrEnum):
    """What is unusual."""

    NORM = "norm"
    PROFILE = "profile"
    DIRECTION = "direction"
    COPY = "copy"
    LOSS_FIRST = "loss_first"
    LOSS_LAST = "loss_last"
    HASTE = "haste"
    TIME_CLAIMED = "time_claimed"
    LIE = "lie"
    ALIKE = "alike"
    """Both of `core.leaning`."""


class Signal(Record, frozen=True):
    """Something unusual about a result."""

    kind: SignalKind
    value: float
    """What was measured."""
    limit: float
    """What it should not have crossed."""
    reason: Reason


class Features(Record, frozen=True):
    """What a decoded delta looks like."""

    norm: float
    """L2 norm over all parameters."""
    profile: tuple[float, ...]
    """Norms of up to 64 groups of consecutive parameters."""
    sketch: bytes
    """float16 [4096]: the sketch, divided by its length."""


class Traits(Features, frozen=True):
    """What is known of a result: of the one in question, and of those it is compared with."""

    unit: int
    version: int
    digest: str
    loss_first: float | None = None
    loss_last: float | None = None
    chunk: str = FULL
    """Only results of one chunk are alike."""


class Timing(Record, frozen=True):
    """How long a result took."""

    steps: float
    """Of the whole model, or as many as its chunk's are worth."""
    elapsed_seconds: float
    """From the unit's issue to the report, on the coordinator's clock."""
    claimed_seconds: float | None
    """What the host reports as its computing time."""
    usual_step_seconds: float | None
    """Least of its confirmed results, by the coordinator's clock; None: not known."""


def sketch_key(secret: bytes, project: int, epoch: int) -> int:
    """Return the key (128 bits) under which features of the project's epoch are comparable."""
    digest = hmac.digest(secret, f"sketch/{project}/{epoch}".encode(), "sha256")
    return int.from_bytes(digest[:16], "big")


def features_of(tensors: Tensors, model: ModelSpec, key: int) -> Features:
    """Return the features of a decoded delta, in one pass over its numbers.

    `tensors` have the shapes of the model's specs; buffers are left out. `key` (128 bits, secret)
    draws the projection, so features are comparable only under one key. It takes about half as
    long as decoding an int4 delta.
    """
    squares = [0.0] * min(_GROUPS, len(model.parameters))
    sketch = np.zeros(_SKETCH)
    words = np.random.Philox(key=key)
    small: list[NDArray[Any]] = []  # are projected together: a call costs more than their numbers
    with np.errstate(over="ignore", invalid="ignore"):
        for number, spec in enumerate(model.parameters):
            flat = tensors[spec.name].reshape(-1)
            group = number * len(squares) // len(model.parameters)
            for start in range(0, flat.size, _CHUNK):
                part = flat[start : start + _CHUNK]
                squares[group] += float(np.square(part, dtype=np.float64).sum())
                if part.size <= _SKETCH:
                    small.append(part)
                else:
                    _add_small(sketch, small, words)
                    sketch += _projected(part, words)
            if sum(part.size for part in small) > _CHUNK:
                _add_small(sketch, small, words)
        _add_small(sketch, small, words)
        norm = math.sqrt(sum(squares))
        length = float(np.linalg.norm(sketch))
        unit = sketch / length if 0 < length < math.inf else np.zeros(_SKETCH)
    return Features(
        norm=norm,
        profile=tuple(math.sqrt(square) for square in squares),
        sketch=unit.astype("<f2").tobytes(),
    )


def scaled(features: Features, factor: float) -> Features:
    """Return the features of a delta that is `factor` times longer."""
    profile = tuple(factor * group for group in features.profile)
    return Features(factor * features.norm, profile, features.sketch)


def signals(
    result: Traits, recent: Sequence[Traits], timing: Timing | None = None
) -> tuple[Signal, ...]:
    """Return what is unusual about `result`, most telling first; empty: nothing is.

    Args:
        result: the result in question.
        recent: confirmed results of the same epoch, in any order; those of the same unit, and of
            other chunks, are ignored.
        timing: how long it took, if that is known.
    """
    others = sorted(
        (found for found in recent if found.unit != result.unit and found.chunk == result.chunk),
        key=lambda found: abs(found.version - result.version),
    )[:_NEAREST]
    sketches = sketches_of([found.sketch for found in [result, *others]])
    alike = (sketches @ sketches.T).astype(np.float64)
    found = [_norm(result, others), _copy(result, others, alike)]
    found += [_direction(result, others, alike)]
    found += [_profile(result, others), *_losses(result, others)]
    if timing is not None:
        found += [_haste(timing), _time_claimed(timing)]
    return tuple(signal for signal in found if signal is not None)


def _norm(result: Traits, others: Sequence[Traits]) -> Signal | None:
    """The norm's logarithm is an outlier; a delta of zeros always is."""
    norm = result.norm

    def usual() -> float:
        return shown(float(np.median([other.norm for other in others] or [0.0])))

    if not (0 < norm < math.inf):
        reason = because(ReasonCode.SUSPECT_NORM, norm=shown(norm), usual=usual())
        return Signal(SignalKind.NORM, math.inf, _LIMIT, reason)
    known = [other for other in others if other.norm > 0]
    logs = np.log([[other.norm] for other in known]).reshape(-1, 1)
    trend = _without_trend(result, known, logs)
    far = float(outlying(np.log([norm]), trend, least=0.05)[0])
    if abs(far) <= _LIMIT:
        return None
    reason = because(ReasonCode.SUSPECT_NORM, norm=shown(norm), usual=usual())
    return Signal(SignalKind.NORM, far, _LIMIT, reason)


def _profile(result: Traits, others: Sequence[Traits]) -> Signal | None:
    """A group of tensors has an unusual share of the norm."""
    mine = _log_shares([result])[0]
    theirs = _log_shares(others)
    if len(others) < _FEWEST or theirs.shape[1] != mine.size:
        return None
    theirs = _without_trend(result, others, theirs)
    far = outlying(mine, theirs, least=0.1)
    worst = max(far.tolist(), key=abs, default=0.0)
    limit = _LIMIT + math.log(max(1, mine.size))  # the most unusual of many is more unusual
    if abs(worst) <= limit:
        return None
    return Signal(SignalKind.PROFILE, worst, limit, because(ReasonCode.SUSPECT_PROFILE))


def _direction(
    result: Traits, others: Sequence[Traits], alike: NDArray[np.float64]
) -> Signal | None:
    """The cosine with results of the same version is an outlier, on either side.

    Results of one version have a part in common, those of different versions hardly any. A lie that
    leans against the others has too small a cosine; one that is made of the others', too large a
    one. Every cosine is with the mean of equally many, since it grows with their number.

    `alike` [1 + others, 1 + others]: the products of all sketches, the result's first.
    """
    versions = np.array([result.version, *(other.version for other in others)])
    fellows = np.flatnonzero(versions == result.version)[1:]
    count = min(len(fellows), _FELLOWS)
    if count < _FEWEST_FELLOWS:
        return None
    cosine = float(_with_sum(alike, np.array([0]), fellows[:count])[0])
    usual = [np.empty(0)]
    for version in dict.fromkeys(versions[1:].tolist()):
        group = np.flatnonzero(versions[1:] == version) + 1
        if len(group) > (_FEWEST_FELLOWS if version == result.version else count):
            # of each one with the sum of `count` others: one of the first is left out
            usual.append(_with_others(alike, group[: count + 1])[:count])
            usual.append(_with_sum(alike, group[count:], group[:count]))
    all_usual = np.concatenate(usual)
    far = float(outlying(cosine, all_usual, least=1 / math.sqrt(_SKETCH)))
    if abs(far) <= _DIRECTION_LIMIT:
        return None
    reason = because(
        ReasonCode.SUSPECT_DIRECTION,
        cosine=shown(cosine),
        usual=shown(float(np.median(all_usual))),
    )
    return Signal(SignalKind.DIRECTION, far, math.copysign(_DIRECTION_LIMIT, far), reason)


def _with_sum(
    alike: NDArray[np.float64], rows: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the cosine of each of `rows` [n] with the sum of `others`, none of them in it: [n]."""
    length = alike[np.ix_(others, others)].sum()
    return _quotients(alike[np.ix_(rows, others)].sum(axis=1), alike[rows, rows] * length)


def _with_others(alike: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cosine of each of `rows` [n] with the sum of all others of them: [n]."""
    own = alike[rows, rows]
    sums = alike[np.ix_(rows, rows)].sum(axis=1)
    return _quotients(sums - own, own * (sums.sum() - 2 * sums + own))


def _quotients(products: NDArray[np.float64], squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosines of vectors by their products and squared lengths; 0 where one is zero."""
    return np.asarray(products / np.sqrt(np.where(squared > 0, squared, np.inf)))


def _copy(result: Traits, others: Sequence[Traits], alike: NDArray[np.float64]) -> Signal | None:
    """Another unit's result is the same, or closer than results of two units ever are."""
    same = next((other for other in others if other.digest == result.digest), None)
    if same is not None:
        reason = because(ReasonCode.SUSPECT_COPY, unit=same.unit)
        return Signal(SignalKind.COPY, 1.0, 1.0, reason)
    if len(others) < _FEWEST:
        return None
    closest = int(alike[0, 1:].argmax())
    cosine = float(alike[0, 1 + closest])
    between = alike[1:, 1:].copy()
    np.fill_diagonal(between, -1.0)
    limit = _copy_limit(float(between.max()))
    if cosine <= limit:
        return None
    reason = because(ReasonCode.SUSPECT_COPY, unit=others[closest].unit)
    return Signal(SignalKind.COPY, cosine, limit, reason)


def _copy_limit(closest: float) -> float:
    """Return the cosine beyond which a result is a copy, if honest ones have one of `closest`."""
    return 1 - _COPY_ANGLE * (1 - min(1.0, closest))


def _losses(result: Traits, others: Sequence[Traits]) -> list[Signal | None]:
    return [
        _loss(SignalKind.LOSS_FIRST, result.loss_first, [o.loss_first for o in others]),
        _loss(SignalKind.LOSS_LAST, result.loss_last, [o.loss_last for o in others]),
    ]


def _loss(kind: SignalKind, loss: float | None, others: list[float | None]) -> Signal | None:
    """The loss that the host claims is an outlier."""
    known = [other for other in others if other is not None]
    if loss is None or not known:
        return None
    least, most = min(known), max(known)
    # a model that has learnt its data by heart has losses of many orders of magnitude
    if not max(least - loss, loss - most) > 0.5 * (most - least):
        return None
    middle = float(np.median(known))
    far = float(outlying(loss, np.array(known), least=0.05 * abs(middle) + 1e-6))
    if abs(far) <= _LIMIT:
        return None
    reason = because(ReasonCode.SUSPECT_LOSS, loss=shown(loss), usual=shown(middle))
    return Signal(kind, far, _LIMIT, reason)


def _haste(timing: Timing) -> Signal | None:
    """The result came sooner than this PC can have computed it."""
    if timing.usual_step_seconds is None:
        return None
    usual = timing.usual_step_seconds * timing.steps
    if timing.elapsed_seconds >= _FASTEST * usual:
        return None
    reason = because(
        ReasonCode.SUSPECT_HASTE, seconds=shown(timing.elapsed_seconds), usual=shown(usual)
    )
    return Signal(SignalKind.HASTE, timing.elapsed_seconds, _FASTEST * usual, reason)


def _time_claimed(timing: Timing) -> Signal | None:
    """The host claims to have computed for longer than it had the unit."""
    limit = timing.elapsed_seconds + _CLOCK_SECONDS
    if timing.claimed_seconds is None or timing.claimed_seconds <= limit:
        return None
    reason = because(
        ReasonCode.SUSPECT_TIME,
        claimed=shown(timing.claimed_seconds),
        elapsed=shown(timing.elapsed_seconds),
    )
    return Signal(SignalKind.TIME_CLAIMED, timing.claimed_seconds, limit, reason)


def shown(value: float) -> float:
    """Return the value to three digits, as people read it."""
    return float(f"{value:.3g}")


def outlying(
    value: float | NDArray[Any], others: NDArray[Any], least: float
) -> NDArray[np.float64]:
    """Return by how many robust standard deviations `value` [...] lies above the others' median.

    `others` is [k, ...]; 0 if there are too few of them. `least` bounds the deviation from below:
    others that are equal by chance would make everything an outlier.
    """
    if len(others) < _FEWEST:
        return np.zeros(np.shape(value))
    middle = _median(others)
    deviation = MAD_TO_DEVIATION * _median(np.abs(others - middle))
    return np.asarray((value - middle) / np.maximum(deviation, least))


def _without_trend(
    result: Traits, others: Sequence[Traits], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the others' values [others, n] as they would be at the result's version.

    The learning rate falls from version to version, and what results look like follows it. The
    trend is the median slope between two versions (Theil and Sen).
    """
    away = np.array([other.version - result.version for other in others], np.float64)
    first, second = _pairs(away.size)
    apart = away[second] - away[first]
    first, second, apart = first[apart != 0], second[apart != 0], apart[apart != 0]
    if not apart.size:
        return values
    slopes = _median((values[second] - values[first]) / apart[:, None])
    return np.asarray(values - away[:, None] * slopes)


@functools.cache
def _pairs(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of both of every two of `count`."""
    return np.triu_indices(count, 1)


def _log_shares(results: Sequence[Traits]) -> NDArray[np.float64]:
    """Return the logarithms of each group's share of the norm: [results, groups]."""
    rows = [[group / (found.norm or 1.0) for group in found.profile] for found in results]
    return np.log(np.maximum(np.array(rows, np.float64, ndmin=2), _LEAST_SHARE))


def _median(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the medians [...] of `values` [k, ...], as `np.median` does for one axis.

    That spends ten times as long on a few dozen numbers as it takes to sort them.
    """
    ordered = np.sort(values, axis=0)
    half = len(ordered) // 2
    middle = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return np.where(np.isnan(ordered[-1]), np.nan, middle)  # those that are no numbers come last


@functools.lru_cache(maxsize=4 * RECENT_RESULTS)
def sketch_of(stored: bytes) -> Sketches:
    """Return a sketch [4096] as `Features.sketch` keeps it, of length 1 or 0; it is read only."""
    sketch = np.frombuffer(stored, "<f2").astype(np.float32)
    sketch.flags.writeable = False
    return sketch


def sketches_of(stored: Sequence[bytes]) -> Sketches:
    """Return sketches [results, 4096], each as `sketch_of`."""
    return np.array([sketch_of(one) for one in stored], np.float32).reshape(-1, _SKETCH)


def _add_small(
    sketch: NDArray[np.float64], small: list[NDArray[Any]], words: np.random.Philox
) -> None:
    """Add to `sketch` [4096] what `_projected` returns of each of `small` [n], and empty that.

    No part has more than 4,096 numbers; each has the words of its own that it would have alone.
    """
    starts = np.cumsum([0, *(-(-part.size // 64) * 64 for part in small)]).tolist()
    numbers = np.zeros(starts[-1], np.float32)
    for part, start in zip(small, starts, strict=False):
        numbers[start : start + part.size] = part
    signed = _signed(numbers, words)
    for part, start in zip(small, starts, strict=False):
        sketch[: part.size] += signed[start : start + part.size]
    small.clear()


def _signed(part: NDArray[Any], words: np.random.Philox) -> NDArray[np.float32]:
    """Return `part` [n], each number with a random sign."""
    drawn = words.random_raw(-(-part.size // 64)).astype("<u8", copy=False)
    minus = np.unpackbits(drawn.view(np.uint8), count=part.size).astype(np.uint32)
    bits = np.ascontiguousarray(part, np.float32).view(np.uint32)
    return (bits ^ (minus << np.uint32(31))).view(np.float32)  # much faster than a choice


def _projected(part: NDArray[Any], words: np.random.Philox) -> NDArray[np.float64]:
    """Return the sum [4096] of `part` [n], n at most `_CHUNK`, each number with a random sign."""
    signed = _signed(part, words)
    if part.size % _SKETCH:
        signed = np.pad(signed, (0, -part.size % _SKETCH))
    # at most 16 numbers are added up in float32, all further ones in float64
    return np.asarray(signed.reshape(-1, _SKETCH).sum(axis=0).astype(np.float64))
