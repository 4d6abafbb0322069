"""Gaussian noise from a secret: unpredictable without it, equal to the bit where it is known.

The seed of a version's noise follows from the coordinator's secret and from all that decides the
sum which the noise hides. So one seed never hides two sums, whose difference would be bare; a
process that was killed draws the same noise again; and whoever has the secret recomputes versions.
The log keeps the digest of the seed, by which a seed that is shown later is known to be the one.

Numbers are the words of a ChaCha20 stream, each made normal by Wichura's AS 241 (PPND16): no
rejection, no library's logarithm. 52 bits of a word decide, so none lies beyond 8.2.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.tensors.elementary import logarithm, polynomial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pleb_coordinator.core.records import VersionInput, VersionRow
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["NoiseKey", "Normals"]

_SEED_BYTES: Final = 32
_BLOCK: Final = 2**15
"""Numbers computed at a time, so that the steps of a formula stay in the processor's cache."""
_HALF: Final = 2.0**51
_MIDDLE: Final = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
_TAIL: Final = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
_FAR_TAIL: Final = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)
"""Coefficients of PPND16, highest power first: numerator, then denominator."""


class NoiseKey:
    """What only this coordinator has, and the noise of all its projects follows from."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seed(
        self, metadata: ProjectMetadata, number: int, inputs: Sequence[VersionInput]
    ) -> bytes | None:
        """Return 32 bytes for the version `number` that is made of `inputs`; None: no noise."""
        if metadata.privacy is None:
            return None
        decides = {
            "project": metadata.project,
            "epoch": metadata.epoch,
            "number": number,
            "privacy": metadata.privacy,
            "units": metadata.round.units,
            "samples": metadata.training.batch_examples * metadata.training.local_steps,
            "inputs": [(entry.assignment, entry.digest, entry.weight) for entry in inputs],
        }
        keyed = blake2b(key=self._secret, person=b"noise", digest_size=_SEED_BYTES)
        keyed.update(strict_json.encode(decides))
        return keyed.digest()

    def recorded_seed(self, metadata: ProjectMetadata, row: VersionRow) -> bytes | None:
        """Return the seed whose digest the log has; None: no noise, or another secret's."""
        seed = self.seed(metadata, row.number, row.inputs)
        return seed if seed is not None and digest_of(seed) == row.noise else None


class Normals:
    """A stream of standard normal numbers."""

    def __init__(self, seed: bytes) -> None:
        # a seed is used for one stream alone, so the nonce need not differ
        self._words = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor()

    def next(self, count: int) -> NDArray[np.float64]:
        """Return the next numbers of the stream [count]."""
        found = np.empty(count)
        for start in range(0, count, _BLOCK):
            block = found[start : start + _BLOCK]
            words = np.frombuffer(self._words.update(bytes(8 * len(block))), "<u8")
            block[:] = _quantile(words >> np.uint64(12))
        return found


def _quantile(h: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the standard normal quantiles at (h + 1/2) / 2^52 of numbers h below 2^52."""
    whole = h.astype(np.float64)
    whole += 0.5
    q = (whole - _HALF) / (2 * _HALF)
    r = 0.180625 - q * q
    found = q * polynomial(_MIDDLE[0], r)
    found /= polynomial(_MIDDLE[1], r)
    outer = np.flatnonzero(r < 0)
    p = np.minimum(whole[outer], 2 * _HALF - whole[outer]) / (2 * _HALF)
    s = np.sqrt(-logarithm(p))
    near, far = s - 1.6, s - 5
    tail = np.where(
        far <= 0,
        polynomial(_TAIL[0], near) / polynomial(_TAIL[1], near),
        polynomial(_FAR_TAIL[0], far) / polynomial(_FAR_TAIL[1], far),
    )
    found[outer] = np.copysign(tail, q[outer])
    return found
