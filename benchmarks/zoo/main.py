"""Runs `check` of every entry and prints a row for each."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.layers import CASES
from benchmarks.zoo.layers_together import groups
from benchmarks.zoo.run import Row, try_entry
from benchmarks.zoo.table import entry, families, layers_name, missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["main", "rows"]

_QUICK: Final = 12
"""With --quick, one of so many entries is checked."""
_WORDS: Final = 110
"""Of a reason that is shown."""


def main(quick: bool) -> dict[str, Any]:
    """Check all entries, or with `quick` a twelfth, and all layers, functions and losses."""
    lacking = missing()
    if lacking:
        print(
            f"{' and '.join(lacking)} not installed: only the models of plain torch are tried. "
            "For the others: pip install -c constraints.txt -e '.[zoo]'"
        )
    print("timm's backbones: by transformers and by hand, since timm imports torchvision.")
    names = [(family, name) for family, zoo in families().items() for name in zoo]
    found: dict[str, list[Row]] = {family: [] for family, _ in names}
    for (family, _), row in zip(
        names[::_QUICK] if quick else names,
        rows(name for _, name in (names[::_QUICK] if quick else names)),
        strict=True,
    ):
        found[family].append(row)
        _show(family, row)
    layers = _layers(quick)
    every = [row for of_family in found.values() for row in of_family]
    trained = [row for row in every if not row.expected]
    return {
        "models": len(every),
        "exported": sum(row.exported for row in every),
        "parity": sum(row.parity for row in every),
        "passed": sum(row.passed for row in every),
        "refused_for_a_true_reason": len(every) - len(trained),
        "share_passed": sum(row.passed for row in trained) / max(1, len(trained)),
        "families": {
            family: f"{sum(row.good for row in of_family)} of {len(of_family)}"
            for family, of_family in found.items()
            if of_family
        },
        "not_passed": {row.name: row.reason for row in every if not row.passed},
        "layers": layers,
    }


def rows(names: Iterable[str]) -> Iterator[Row]:
    """Check the entries of these names, one after the other."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin starve the others
    warnings.simplefilter("ignore")  # about the models' insides
    for name in names:
        with tempfile.TemporaryDirectory(prefix="pleb-zoo-") as folder:
            yield try_entry(name, entry(name), Path(folder))


def _layers(quick: bool) -> dict[str, Any]:
    """Check the cases of `benchmarks.layers`, a dozen at once, or alone where a dozen fails."""
    refused = [name for name, case in CASES.items() if case.refusal]
    together = groups()[:: _QUICK if quick else 1]
    passed: list[str] = []
    not_rows: list[str] = []
    failed: dict[str, str] = {}
    alone: list[str] = [] if quick else list(refused)
    for names in together:
        if len({len(t) for name in names for t in CASES[name].batch.values()}) > 1:
            not_rows += names
            continue
        (row,) = rows([layers_name(names)])
        _show("layers", row)
        if row.passed:
            passed += names
        else:
            alone += names
    true = 0
    for name in alone:
        if len({len(t) for t in CASES[name].batch.values()}) > 1:
            not_rows.append(name)
            continue
        (row,) = rows([layers_name([name])])
        _show("layers", row)
        true += row.expected
        if row.passed:
            passed.append(name)
        elif not row.expected:
            failed[name] = row.reason
    tried = len(passed) + len(failed) + true
    return {
        "tried": tried,
        "passed": len(passed),
        "share_passed": len(passed) / max(1, tried),
        "refused_for_a_true_reason": true,
        "inputs_that_are_no_rows": not_rows,
        "not_passed": failed,
    }


def _show(family: str, row: Row) -> None:
    far = "check" if row.passed else "parity" if row.parity else "graph" if row.exported else "-"
    reason = row.reason if len(row.reason) <= _WORDS else row.reason[:_WORDS] + "..."
    state = "refused" if row.expected else "" if row.passed else "NOT PASSED"
    print(f"{family:24} {row.name:36.36} {far:7} {row.seconds:5.1f} s {state} {reason}", flush=True)
