"""The numbers by which hosts know their assignments.

Rows are numbered in the order in which they are made, and a second result of a unit is always made
later than its first. A host that saw those numbers could tell a check from a first try, and be
honest only where it is looked at. So what leaves the coordinator is a keyed permutation of the
row's number: a Feistel network of four rounds over two halves of 26 bits (Luby and Rackoff, 1988),
with keyed BLAKE2b as the round function. Nothing is stored for it, and rows keep their order.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

__all__ = ["AssignmentNumbers"]

_HALF_BITS: Final = 26
_HALF: Final = 2**_HALF_BITS - 1
_BITS: Final = 2 * _HALF_BITS
"""JSON numbers are exact up to 2^53."""
_ROUNDS: Final = range(4)
_MOST_KNOWN: Final = 20_000


class AssignmentNumbers:
    """A permutation of the numbers below 2^52 that only the holder of `secret` can compute."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = [
            blake2b(key=secret, person=b"assignment", salt=bytes([number]), digest_size=4)
            for number in _ROUNDS
        ]
        # a number is needed a few times within minutes: when it is given, held and reported
        self._shown: dict[int, int] = {}
        self._rows: dict[int, int] = {}

    def shown(self, row: int) -> int:
        """Return what hosts call the assignment of that row."""
        if (known := self._shown.get(row)) is not None:
            return known
        left, right = row >> _HALF_BITS, row & _HALF
        for number in _ROUNDS:
            left, right = right, left ^ self._mixed(number, right)
        return self._remember(row, left << _HALF_BITS | right)[1]

    def row(self, shown: int) -> int:
        """Return the row of what hosts call `shown`; a number that no assignment has stays."""
        if (known := self._rows.get(shown)) is not None:
            return known
        if shown >> _BITS:
            return shown
        left, right = shown >> _HALF_BITS, shown & _HALF
        for number in reversed(_ROUNDS):
            left, right = right ^ self._mixed(number, left), left
        return self._remember(left << _HALF_BITS | right, shown)[0]

    def _mixed(self, number: int, half: int) -> int:
        keyed = self._keyed[number].copy()
        keyed.update(half.to_bytes(4, "big"))
        return int.from_bytes(keyed.digest(), "big") & _HALF

    def _remember(self, row: int, shown: int) -> tuple[int, int]:
        if len(self._rows) >= _MOST_KNOWN:
            self._rows.clear()
            self._shown.clear()
        self._rows[shown], self._shown[row] = row, shown
        return row, shown
