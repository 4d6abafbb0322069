"""Images with noise: the image, how far it is on the way to pure noise, and the noise itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.datasets import load_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAWS = 4
"""How often each image is used, with other noise each time."""
STEPS = 100


def examples() -> Iterator[dict[str, Any]]:
    """Yield `x` float32 [64] from -1 to 1, `t` int64 below STEPS, and `noise` float32 [64]."""
    generator = np.random.default_rng(0)
    images = load_digits().images.reshape(-1, 64) / 8 - 1
    for _ in range(DRAWS):
        for image in images:
            yield {
                "x": image.astype(np.float32),
                "t": generator.integers(STEPS),
                "noise": generator.standard_normal(64, np.float32),
            }
