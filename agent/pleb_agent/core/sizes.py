"""Sizes as people write and read them. 1 GB is 2**30 bytes here, as in most task lists."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["UNITS", "format_bytes", "parse_bytes"]

UNITS: Final = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_MOST_BYTES: Final = 2**62
_SIZE: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


def format_bytes(number: int) -> str:
    """Return a size with the unit that suits it: `512 B`, `1.5 GB`, `10 GB`."""
    for unit, size in reversed(UNITS.items()):
        if number >= size:
            value = number / size
            # Two decimals below ten, one below a hundred, and no zeros at the end.
            digits = 2 if value < 10 else 1 if value < 100 else 0
            text = f"{value:.{digits}f}"
            return f"{text.rstrip('0').rstrip('.') if digits else text} {unit}"
    return f"{number} B"


def parse_bytes(text: str) -> int:
    """Return the bytes that `4GB`, `500 KB`, `1.5 GiB` or `1000000` spell.

    Raises:
        ValueError: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text.strip()!r} is not a size")
    letter = match[2].upper()
    size = float(match[1]) * (UNITS[f"{letter}B"] if letter else 1)
    if size > _MOST_BYTES:
        raise ValueError(f"{text.strip()[:20]!r} is more than any PC has")
    return round(size)
