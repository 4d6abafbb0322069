"""Changes inputs: bytes anywhere, and values of a JSON document, so that they stay readable."""

from __future__ import annotations

import copy
import json
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBERS: Final = (
    *(0, 1, -1, 2, 3, 7, 255, 256, 65_535, 65_536),
    *(2**31 - 1, 2**31, -(2**31), 2**32, 2**53, 2**62, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30),
    *(0.5, -0.0, 1e-320, 1e308, 3.5e38),
)
"""Where whole numbers, sizes and floats change their form."""
_TEXTS: Final = ("", "a", "\0", "\u202e", "..", "/", "é", "0" * 64, "-1", "nan")
_BYTES: Final = (b"\0", b"\xff", b'"', b"{", b"}", b"[", b"]", b",", b"\\u0000", b"1e999", b"-")


class Mutator:
    """Changes inputs as its seed says."""

    def __init__(self, seed: int, words: Sequence[str] = (), *, json: bool = False) -> None:
        self._words = tuple(words)
        self._json = json
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start the draws again from `seed`."""
        self._random = np.random.default_rng(seed)

    def draw(self, below: int) -> int:
        """Return a whole number from 0 to `below` - 1."""
        return int(self._random.integers(below))

    def changed(self, pool: Sequence[bytes], most_bytes: int) -> bytes:
        """Return one of `pool`, changed one to three times, no longer than `most_bytes`."""
        data = pool[self.draw(len(pool))] if pool else b""
        for _ in range(1 + self.draw(3)):
            if self._json and self.draw(8):
                data = self._changed_document(data)
            else:
                data = self._changed_bytes(data, pool)
        return data[:most_bytes]

    def _changed_bytes(self, data: bytes, pool: Sequence[bytes]) -> bytes:
        """Return `data` with a place overwritten, removed, doubled or taken from another input."""
        start = self.draw(len(data) + 1)
        end = min(len(data), start + 1 + self.draw(8))
        match self.draw(6):
            case 0 if start < len(data):
                flipped = data[start] ^ (1 << self.draw(8))
                return data[:start] + bytes([flipped]) + data[start + 1 :]
            case 1:
                return data[:start] + data[end:]
            case 2:
                return data[:end] + data[start:]
            case 3 if pool:
                other = pool[self.draw(len(pool))]
                place = self.draw(len(other) + 1)
                return data[:start] + other[place : place + 1 + self.draw(64)] + data[end:]
            case 4 if self._words:
                word = self._words[self.draw(len(self._words))].encode()
                return data[:start] + word + data[end:]
            case _:
                return data[:start] + _BYTES[self.draw(len(_BYTES))] + data[end:]

    def _changed_document(self, data: bytes) -> bytes:
        """Return `data` with one value of its JSON changed; unchanged if it is no JSON.

        A safetensors blob starts with the length of its header, in 8 bytes, which is kept right.
        """
        header = _safetensors_header(data)
        try:
            document = json.loads(data if header is None else header)
        except (ValueError, RecursionError):
            return data
        holders = list(_holders(document))
        if not holders:
            return data
        holder, key = holders[self.draw(len(holders))]
        like = [h[k] for h, k in holders if k == key and type(h[k]) is type(holder[key])]
        match self.draw(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 1:
                holder[self._word()] = holder[key]
            case 2 | 3:
                holder[key] = copy.deepcopy(like[self.draw(len(like))])
            case 4 if isinstance(holder[key], int):
                holder[key] += self.draw(5) - 2
            case 5 | 6:
                holder[key] = self._like(holder[key])
            case _:
                holder[key] = self._like((None, True, 0, "", [], {})[self.draw(6)])
        text = json.dumps(document).encode()
        if header is None:
            return text
        return struct.pack("<Q", len(text)) + text + data[8 + len(header) :]

    def _like(self, value: Any) -> Any:
        """Return another value of the type of `value`."""
        match value:
            case bool():
                return not value
            case int() | float():
                return _NUMBERS[self.draw(len(_NUMBERS))]
            case str():
                return self._word()
            case list() if value:
                return value[: self.draw(len(value))]
            case _:
                return value

    def _word(self) -> str:
        texts = self._words if self._words and self.draw(4) else _TEXTS
        return texts[self.draw(len(texts))]


def _safetensors_header(data: bytes) -> bytes | None:
    """Return the JSON header of a safetensors blob, or None if `data` is none."""
    if len(data) < 10 or data[:1] == b"{":
        return None
    (length,) = struct.unpack("<Q", data[:8])
    return data[8 : 8 + length] if length <= len(data) - 8 else None


def _holders(document: Any) -> Any:
    """Yield (list or dictionary, key) of every value inside `document`."""
    stack = [document]
    while stack:
        holder = stack.pop()
        pairs: Any = ()
        if isinstance(holder, dict):
            pairs = list(holder.items())
        elif isinstance(holder, list):
            pairs = list(enumerate(holder))
        for key, value in pairs:
            yield holder, key
            stack.append(value)
