"""The coordinator's record of what went into the model: nothing here is assumed."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pleb_project.processes import Fleet

__all__ = ["contributions", "count_contributions"]

_AT_ONCE: Final = 2


def contributions(fleet: Fleet, project: str) -> dict[str, int]:
    """Return how many results of each host are in the project's versions, by the host's name.

    Every version's inputs are assignments; each of their units says which host had which.

    Raises:
        PlebError: the record does not name the host of an input.
    """

    def show_version(number: int) -> Any:
        return fleet.ask("model", "show", project, "--version", str(number))

    def show_unit(unit: int) -> Any:
        return fleet.ask("unit", "show", str(unit))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        listed = fleet.ask("model", "list", project)
        versions = list(pool.map(show_version, [row["version"] for row in listed if row["deltas"]]))
        inputs = [row for version in versions for row in version["inputs"]]
        units = list(pool.map(show_unit, sorted({row["unit"] for row in inputs})))
    return count_contributions(inputs, units)


def count_contributions(
    inputs: Sequence[Mapping[str, Any]], units: Iterable[Mapping[str, Any]]
) -> dict[str, int]:
    """Return the number of `inputs` that each host gave; `units` name each assignment's host.

    Raises:
        PlebError: an input's assignment is in none of the units.
    """
    hosts = {
        row["assignment"]: row.get("host_name") or row["host"]
        for unit in units
        for row in unit["assignments"]
        if row.get("host")
    }
    missing = [row["assignment"] for row in inputs if row["assignment"] not in hosts]
    if missing:
        raise PlebError(
            f"The coordinator's record does not say who gave results {missing[:5]}: run "
            "`pleb-coordinator doctor`."
        )
    return dict(Counter(str(hosts[row["assignment"]]) for row in inputs))
