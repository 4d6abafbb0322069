"""Which examples are for the holdout, and which shard an example's group makes it part of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_shared.errors import InputError
from pleb_system.reading.source import GROUP, Chunk, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pleb_project.definition.sections import DataSection

__all__ = ["Groups", "group_columns", "holdout_quotas", "take_column"]

_MOST: Final = 1_000_000


class Groups:
    """The values of a column, numbered as they first appear, and how many examples each has."""

    def __init__(self, column: str, names: list[str] | None = None) -> None:
        self.column = column
        self.names = names or []
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def numbers(self, values: NDArray[Any], place: str) -> NDArray[np.uint32]:
        """Return the number of the group of each of `values` [n].

        Raises:
            InputError: there are too many groups, or no plain value.
        """
        if values.ndim != 1:
            raise InputError(
                f"{place}: {self.column!r} has the shape {list(values.shape[1:])} in an example; "
                "examples are grouped by single values."
            )
        found = np.empty(len(values), np.uint32)
        for row, value in enumerate(values.tolist()):
            name = str(value)
            number = self._numbers.get(name)
            if number is None:
                number = self._numbers[name] = len(self.names)
                self.names.append(name)
            found[row] = number
        if len(self.names) > _MOST:
            raise InputError(
                f"{place}: {self.column!r} has more than {_MOST} different values: group by a "
                "column with fewer."
            )
        return found


def group_columns(data: DataSection) -> list[str]:
    """Return the columns that a reader must give besides the inputs, each once."""
    return sorted({data.split_by, data.stratify_by, data.shard_by} - {""})


def take_column(chunk: Chunk, column: str, *, keep: bool) -> NDArray[Any]:
    """Return a column by which examples are grouped; `keep`: it may also stay as an input.

    Raises:
        InputError: the chunk does not have it.
    """
    rows: Rows = chunk.rows
    for name in (GROUP + column, column):
        if name in rows:
            return rows[name] if keep and name == column else rows.pop(name)
    there = ", ".join(name.removeprefix(GROUP) for name in rows)
    raise InputError(f"{chunk.place}: there is no {column!r} to group by; there are {there}.")


def holdout_quotas(counts: NDArray[np.int64], names: list[str], data: DataSection) -> list[int]:
    """Return how many of the first examples of each stratum are for the holdout.

    `counts` [strata] are their examples. With `split_by` a stratum is a group, which is taken
    whole: the named ones, else as many as give the wanted share, in a seeded order. Otherwise every
    stratum gives the same share.

    Raises:
        InputError: one of the two parts would be empty, or a named group does not exist.
    """
    total = int(counts.sum())
    if data.split_by:
        quotas = np.zeros_like(counts)
        if missing := [name for name in data.holdout_groups if name not in names]:
            raise InputError(
                f"holdout_groups in [data] names {missing[0]!r}, but no example has it as "
                f"{data.split_by!r}; there are {', '.join(names[:8])}."
            )
        order = np.random.Generator(np.random.Philox(data.seed)).permutation(len(counts))
        for number in order.tolist():
            wanted = names[number] in data.holdout_groups
            if not data.holdout_groups:
                wanted = quotas.sum() + counts[number] / 2 <= total * data.holdout
            if wanted:
                quotas[number] = counts[number]
        if not data.holdout_groups and not quotas.any() and len(counts) > 1:
            smallest = int(np.argmin(counts))
            quotas[smallest] = counts[smallest]
    else:
        ends = np.floor(np.cumsum(counts) * data.holdout + 0.5).astype(np.int64)
        quotas = np.diff(ends, prepend=0)
    kept = int(quotas.sum())
    if kept < 1 or total - kept < 1:
        raise InputError(
            f"{total} examples cannot be split with holdout = {data.holdout:g}: add data, or "
            "change holdout in [data]."
            if not data.split_by
            else f"The groups of {data.split_by!r} ({', '.join(names[:8])}) cannot be split: at "
            "least one must be for training and one for the holdout."
        )
    return [int(quota) for quota in quotas]
