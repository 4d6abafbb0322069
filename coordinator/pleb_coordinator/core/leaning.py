"""Results that lean like a lie that was proven, or like one another.

A subtle lie looks like an honest result: it changes the length and the angle less than honest ones
differ. But whoever wants to move the model has to push the same way again and again. So a few
results that are equally wrong have something in common that no honest ones have.

A *residual* is what a result's sketch has beyond the mean of the other results of its version,
shortened to the length 1. Honest residuals are nearly at right angles, whichever units and versions
they are of. What is wrong about a proven lie, its sketch less that of the right result, is kept
(`Lie`): a result whose residual has an outlying cosine with it *leans* like it. Before anything is
proven, the direction that most residuals of the newest versions share (their first principal
component; Tran et al. 2018, "Spectral signatures in backdoor attacks") tells those who lie alike.

Like `core.suspicion`, this proves nothing: what leans is computed again before it counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from pleb_coordinator.core.records import Record
from pleb_coordinator.core.suspicion import (
    MAD_TO_DEVIATION,
    Features,
    Signal,
    SignalKind,
    Sketches,
    Traits,
    outlying,
    sketch_of,
    sketches_of,
)
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.reasons import ReasonCode, because

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "KEPT_LIES",
    "KEPT_RESULTS",
    "LIE_VERSIONS",
    "Lie",
    "as_a_lie",
    "as_one_another",
    "lie_of",
]

KEPT_RESULTS: Final = 512
"""Of how many of a project's newest results that count looks are kept; 8 KiB each."""
KEPT_LIES: Final = 16
"""How many of the newest proven lies results are compared with."""
LIE_VERSIONS: Final = 256
"""Results are compared with lies about so many of the newest versions."""

_FEWEST: Final = 8
"""Among fewer results none can be told to be an outlier."""
_FEWEST_FELLOWS: Final = 3
"""A version's mean is taken from at least this many other results."""
_LEAN_LIMIT: Final = 5.0
"""An outlier's cosine with a lie is this many robust standard deviations above the median."""
_LENGTH_LIMIT: Final = 3.5
"""The same for its length, if it is nearer to the lie's than to the usual one."""
_LEAST_LENGTH: Final = 0.2
"""Logarithm: a lie that is hardly shorter or longer than the right result is not known by it."""
_ALIKE_LIMIT: Final = 5.0
"""The same for the common direction, which is drawn from honest results, too."""
_FEWEST_ALIKE: Final = 2
"""One result alone is alike to nobody, however unusual it is."""
_WINDOWS: Final = (48, 96)
"""Results of whole versions in which a common direction is looked for: few show soon what many lie
about together, more show what few do."""
_STEPS: Final = 30
"""Of the power iteration that finds it."""
_LEAST_DEVIATION: Final = 1 / 64
"""Of a cosine of two sketches of 4,096 numbers, whatever they are of."""


class Lie(Record, frozen=True):
    """What is wrong about a result that was proven wrong."""

    unit: int
    version: int
    length: float
    """Logarithm of its norm over the right result's."""
    sketch: bytes
    """float16 [4096]: the lie's sketch less the right result's, divided by its length."""
    chunk: str = FULL


def lie_of(
    unit: int, version: int, wrong: Features, right: Features, chunk: str = FULL
) -> Lie | None:
    """Return what is wrong about a result; None: it has no direction (zeros, not finite)."""
    if not (0 < wrong.norm < math.inf and 0 < right.norm < math.inf):
        return None
    apart = wrong.norm * sketch_of(wrong.sketch) - right.norm * sketch_of(right.sketch)
    size = float(np.linalg.norm(apart))
    if not 0 < size < math.inf:
        return None
    sketch = (apart / size).astype("<f2").tobytes()
    return Lie(unit, version, math.log(wrong.norm / right.norm), sketch, chunk)


def as_a_lie(
    judged: Sequence[Traits], others: Sequence[Traits], lies: Sequence[Lie]
) -> dict[int, Signal]:
    """Return by unit what leans like a proven lie of its chunk, or is as short or as long as one.

    Args:
        judged: the results in question.
        others: results that count, of the same epoch, in any order.
        lies: what was proven wrong.
    """
    found: dict[int, Signal] = {}
    for chunk in {lie.chunk for lie in lies}:
        own = [lie for lie in lies if lie.chunk == chunk]
        found |= _as_a_lie(_of_chunk(judged, chunk), _of_chunk(others, chunk), own)
    return found


def _of_chunk(results: Sequence[Traits], chunk: str) -> list[Traits]:
    return [result for result in results if result.chunk == chunk]


def _as_a_lie(
    judged: Sequence[Traits], others: Sequence[Traits], lies: Sequence[Lie]
) -> dict[int, Signal]:
    known = {found.unit: found for found in [*others, *judged]}
    if len(known) < _FEWEST:
        return {}
    results, rows = list(known.values()), {unit: row for row, unit in enumerate(known)}
    directions = sketches_of([lie.sketch for lie in lies])
    leans = _deviations(_residuals(results) @ directions.T)  # [results, lies]
    lengths = _lengths(results)
    found = {}
    for unit in (result.unit for result in judged):
        for number, lie in enumerate(lies):
            lean, length = float(leans[rows[unit], number]), lengths[rows[unit]]
            reason = because(ReasonCode.SUSPECT_LIE, unit=lie.unit)
            if lean > _LEAN_LIMIT:
                found[unit] = Signal(SignalKind.LIE, lean, _LEAN_LIMIT, reason)
            elif _as_long(length, lie):
                limit = math.copysign(_LENGTH_LIMIT, length[1])
                found[unit] = Signal(SignalKind.LIE, length[1], limit, reason)
    return found


def as_one_another(judged: Sequence[Traits], others: Sequence[Traits]) -> dict[int, Signal]:
    """Return by unit what leans, as only few others of its chunk do, in one direction.

    `judged` are results of the newest version, `others` those of versions before.
    """
    found: dict[int, Signal] = {}
    for chunk in {result.chunk for result in judged}:
        found |= _as_one_another(_of_chunk(judged, chunk), _of_chunk(others, chunk))
    return found


def _as_one_another(judged: Sequence[Traits], others: Sequence[Traits]) -> dict[int, Signal]:
    found: dict[int, Signal] = {}
    known = {found.unit: found for found in [*others, *judged]}
    results = sorted(known.values(), key=lambda result: -result.version)
    for fewest in _WINDOWS:
        window = _whole_versions(results, fewest)
        if len(window) < fewest:
            continue
        residuals = np.nan_to_num(_residuals(window))
        rows = {result.unit: row for row, result in enumerate(window)}
        places = [rows[result.unit] for result in judged if result.unit in rows]
        fars = dict(zip(places, _common(residuals, places), strict=True))
        alike = {place: far for place, far in fars.items() if abs(far) > _ALIKE_LIMIT}
        if len(alike) < _FEWEST_ALIKE:
            continue
        for place, far in alike.items():
            reason = because(ReasonCode.SUSPECT_ALIKE)
            signal = Signal(SignalKind.ALIKE, far, math.copysign(_ALIKE_LIMIT, far), reason)
            found.setdefault(window[place].unit, signal)
    return found


def _whole_versions(results: Sequence[Traits], fewest: int) -> list[Traits]:
    """Return results [newest first] of as many versions as have at least `fewest` together."""
    if len(results) <= fewest:
        return list(results)
    oldest = results[fewest - 1].version
    return [result for result in results if result.version >= oldest]


def _residuals(results: Sequence[Traits]) -> Sketches:
    """Return [results, 4096]: what each sketch has beyond the others' mean, of length 1.

    Not a number where a version has too few results: those lean like all that is common to it.
    """
    sketches = sketches_of([result.sketch for result in results])
    versions = np.array([result.version for result in results])
    for version in np.unique(versions):
        rows = versions == version
        others = int(rows.sum()) - 1
        group = sketches[rows]
        known = others >= _FEWEST_FELLOWS
        sketches[rows] = group - (group.sum(axis=0) - group) / others if known else np.nan
    sizes = np.linalg.norm(sketches, axis=1, keepdims=True)
    return np.asarray(sketches / np.where(sizes > 0, sizes, 1.0), np.float32)


def _deviations(values: Sketches) -> NDArray[np.float64]:
    """Return by how many robust standard deviations each of [n, lies] lies above the median.

    The deviation is taken from the values below the median: those above may be a third of liars.
    """
    known = values[~np.isnan(values[:, 0])]
    if len(known) < _FEWEST:
        return np.zeros(values.shape)
    middle = np.median(known, axis=0)
    below = np.sort(np.maximum(middle - known, 0.0), axis=0)[len(known) // 2 :]
    deviation = np.maximum(MAD_TO_DEVIATION * np.median(below, axis=0), _LEAST_DEVIATION)
    return np.asarray(np.nan_to_num((values - middle) / deviation), np.float64)


def _lengths(results: Sequence[Traits]) -> list[tuple[float, float]]:
    """Return each norm's logarithm beyond its version's median, and that in deviations.

    Both are 0 where a version has too few results: norms change from version to version.
    """
    norms = np.array([result.norm for result in results])
    logs = np.log(np.where((norms > 0) & np.isfinite(norms), norms, 1.0))
    versions = np.array([result.version for result in results])
    for version in np.unique(versions):
        rows = versions == version
        logs[rows] -= np.median(logs[rows]) if rows.sum() >= _FEWEST else np.nan
    far = outlying(logs, logs[~np.isnan(logs)], least=0.05)
    return list(zip(np.nan_to_num(logs).tolist(), np.nan_to_num(far).tolist(), strict=True))


def _as_long(length: tuple[float, float], lie: Lie) -> bool:
    """Whether a result is unusually short or long, and nearer to the lie's length than to usual."""
    logarithm, far = length
    return (
        abs(lie.length) > _LEAST_LENGTH
        and abs(far) > _LENGTH_LIMIT
        and 0.5 < logarithm / lie.length < 1.5
    )


def _common(residuals: Sketches, places: Sequence[int]) -> list[float]:
    """Return how far the residuals at `places` lean along what the others have in common.

    In robust standard deviations; the direction is found without the result in question.
    """
    alike = residuals @ residuals.T  # [results, results]
    start = np.random.default_rng(0).standard_normal(len(alike))
    for _ in range(_STEPS):
        start = alike @ start
        start /= np.linalg.norm(start) or 1.0
    found = []
    for place in places:
        weights = start.copy()
        for _ in range(3):
            weights[place] = 0.0
            weights = alike @ weights
            weights[place] = 0.0
            weights /= np.linalg.norm(weights) or 1.0
        leans = alike @ weights
        others = np.delete(leans - weights, place)  # without each one's cosine with itself
        found.append(float(outlying(leans[place], others, least=_LEAST_DEVIATION)))
    return found
