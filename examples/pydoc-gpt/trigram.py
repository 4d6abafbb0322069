"""The baseline that a model of text must beat: an interpolated trigram of bytes.

    python trigram.py [FILE] [--holdout 0.1]

Prints bits per byte on the last part of the text (the same holdout as project.toml's). Without
FILE it takes the help texts that every Python brings along.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import numpy as np


def main() -> None:
    """Measure the trigram on a text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--holdout", type=float, default=0.1)
    arguments = parser.parse_args()
    data = arguments.file.read_bytes() if arguments.file else builtin_text()
    text = np.frombuffer(data, np.uint8).astype(np.int64)
    start = round(text.size * (1 - arguments.holdout))
    print(f"{bits_per_byte(text[:start], text[start:]):.3f} bits per byte")


def builtin_text() -> bytes:
    """Return the text that the project's reader makes of pydoc_data.topics."""
    topics = importlib.import_module("pydoc_data.topics").topics
    return b"".join(f"{topics[name].strip()}\n\n".encode() for name in sorted(topics))


def bits_per_byte(train: np.ndarray, holdout: np.ndarray) -> float:
    """Return the cross-entropy in bits of a trigram with Witten-Bell smoothing.

    p(c | context) = (count(context, c) + kinds(context) p(c | shorter context))
                     / (count(context) + kinds(context))   (Witten and Bell 1991, method C)
    """
    counts = np.zeros((256, 256, 256))
    np.add.at(counts, (train[:-2], train[1:-1], train[2:]), 1)
    pairs = counts.sum(axis=0)
    single = pairs.sum(axis=0)
    first, second, third = holdout[:-2], holdout[1:-1], holdout[2:]
    chance = (single + 1)[third] / (single.sum() + 256)
    for table, at in ((pairs, (second,)), (counts, (first, second))):
        total, kinds = table.sum(axis=-1)[at], (table > 0).sum(axis=-1)[at]
        seen = np.maximum(total + kinds, 1)
        chance = np.where(total > 0, (table[(*at, third)] + kinds * chance) / seen, chance)
    return float(-np.log2(chance).mean())


if __name__ == "__main__":
    main()
