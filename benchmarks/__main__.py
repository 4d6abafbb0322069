"""Runs one benchmark: a table for people, then one line of JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

MODULES: Final[dict[str, str]] = {
    "aggregate": "benchmarks.aggregate",
    "chunks": "benchmarks.chunks",
    "churn": "benchmarks.churn",
    "codec": "benchmarks.codec",
    "cycle": "benchmarks.cycle",
    "dispatch": "benchmarks.dispatch",
    "ensemble": "benchmarks.ensemble",
    "fleet": "benchmarks.fleet",
    "flood": "benchmarks.flood",
    "interpreter": "benchmarks.interpreter",
    "learning": "benchmarks.learning",
    "lengths": "benchmarks.lengths",
    "lora": "benchmarks.lora",
    "manners": "benchmarks.manners",
    "numerics": "benchmarks.numerics",
    "own_data": "benchmarks.own_data",
    "peers": "benchmarks.peers",
    "privacy": "benchmarks.privacy",
    "robustness": "benchmarks.robustness",
    "sweep": "benchmarks.sweep",
    "staleness": "benchmarks.staleness",
    "suspicion": "benchmarks.suspicion",
    "trust": "benchmarks.trust",
    "zoo": "benchmarks.zoo.main",
}
"""Module by the benchmark's name, imported when asked for.

Each has `main(quick) -> dict`, but `trust`: it has options of its own and prints its own table.
"""


STORE_HELP: Final = "sqlite, postgresql (a server of its own), or postgresql://... (an empty one)"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark that the command line names."""
    from benchmarks import trust

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure one thing. The last line is a JSON object.",
        epilog="example: python -m benchmarks interpreter --quick",
    )
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name in sorted(MODULES):
        command = names.add_parser(name)
        command.add_argument(
            "--quick", action="store_true", help="the same on less, about a minute"
        )
        if name == "trust":
            trust.add_options(command)
        if name in {"cycle", "dispatch"}:
            command.add_argument("--store", default="sqlite", help=STORE_HELP)
        if name == "dispatch":
            command.add_argument(
                "--units", type=int, default=0, help="in the store, by 100,000; requests as quick"
            )
            command.add_argument(
                "--projects", type=int, default=1, help="of these --units; each has 100,000 queued"
            )
        if name == "cycle":
            command.add_argument("--recorded", action="store_true", help="replay recorded deltas")
    options = parser.parse_args(arguments)
    if options.name == "trust":
        print(json.dumps(trust.main(options)))
        return 0
    module = importlib.import_module(MODULES[options.name])
    own = ("store", "recorded", "units", "projects")
    given = {name: getattr(options, name) for name in own if hasattr(options, name)}
    result: dict[str, Any] = module.main(options.quick, **given)
    for key, value in flat(result).items():
        print(f"{key:40} {value:.4g}" if isinstance(value, float) else f"{key:40} {value}")
    print(json.dumps(result))
    return 0


def flat(result: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys joined by dots."""
    rows: dict[str, Any] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            rows |= flat(value, f"{prefix}{key}.")
        else:
            rows[prefix + key] = value
    return rows


if __name__ == "__main__":
    sys.exit(main())
