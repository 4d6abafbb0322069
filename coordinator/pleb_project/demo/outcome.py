"""What the demo found, from the coordinator's status and record, and whether that is a success."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_shared.errors import PlebError
from pleb_shared.protocol.reasons import reason_sentence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pleb_project.processes import Fleet
    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["Outcome", "contributions", "count_contributions", "outcome_of", "refused_results"]

_AT_ONCE: Final = 2


class Outcome(msgspec.Struct, frozen=True):
    """The demo's last line of output: exactly these keys."""

    project: str
    version: int
    test_accuracy: float
    central_accuracy: float
    target: float
    units_verified: int
    results_refused: int
    liar_refused: int
    liar_results_in_model: int
    honest_refused: int
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether the target was reached, and only liars were refused, before anything counted."""
        reached = self.test_accuracy >= self.target
        caught = self.liar_refused > 0 and self.liar_results_in_model == 0
        return reached and caught and self.honest_refused == 0


def outcome_of(
    status: ProjectStatus,
    counted: Mapping[str, int],
    central_accuracy: float,
    seconds: float,
    liars: Collection[str],
) -> Outcome:
    """Return the outcome; `counted` are `contributions`, `liars` the lying hosts' names."""
    return Outcome(
        project=status.project,
        version=status.version,
        test_accuracy=round(status.metrics.get("accuracy", 0.0), 4),
        central_accuracy=round(central_accuracy, 4),
        target=status.target.value if status.target else 0.0,
        units_verified=sum(counted.values()),
        results_refused=status.counts.refused,
        liar_refused=sum(host.refused for host in status.hosts if host.name in liars),
        liar_results_in_model=sum(counted.get(liar, 0) for liar in liars),
        honest_refused=sum(host.refused for host in status.hosts if host.name not in liars),
        seconds=round(seconds, 1),
    )


def refused_results(status: ProjectStatus, hosts: Collection[str]) -> dict[int, tuple[str, str]]:
    """Return which results of hosts were proven wrong: whose, and a sentence why, by the unit.

    A status shows only the newest units, so collect them from every one.
    """
    return {
        unit.unit: (
            result.name,
            reason_sentence(result.reason) if result.reason else "No reason is recorded.",
        )
        for unit in status.units
        for result in unit.results
        if result.name in hosts and result.verdict == "invalid"
    }


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
    """Return how many of `inputs` each host gave; `units` name each assignment's host.

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
