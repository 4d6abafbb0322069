"""Runs targets: `python -m tests.soak [NAME ...] [--runs N] [--seconds S] [--keep]`.

Every target gets a process of its own, two at once. Findings and new inputs go to build/soak/NAME;
`--keep` adds to the corpus what reached new lines.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.soak.frame import (
    CORPUS,
    Target,
    has_guidance,
    limit_memory,
    lines,
    run_guided,
    run_plain,
    starting_inputs,
)

ROOT: Final = Path(__file__).parents[2]
_GUIDING: Final = ["pleb_shared", "pleb_system", "pleb_agent", "pleb_coordinator", "pleb_project"]
"""Packages whose lines guide the search."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("names", nargs="*", help="targets; all if none is named")
    parser.add_argument("--runs", type=int, help="inputs for each target (its own number)")
    parser.add_argument("--seconds", type=int, help="end a target after this long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="without atheris; repeatable")
    parser.add_argument("--keep", action="store_true", help="add what is new to the corpus")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "soak")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--forks", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return _child(options)
    if options.forks:
        return _forks(options.work, options.seed)
    names = options.names or _all_names()
    if not options.plain and not has_guidance():
        sys.stderr.write("atheris is not installed here: inputs are changed without guidance.\n")
    with ThreadPoolExecutor(options.at_once) as pool:
        codes = list(pool.map(lambda name: _parent(name, options), names))
    return 1 if any(codes) else 0


def _all_names() -> list[str]:
    """Return the names of all targets; a process asks, as their imports take memory."""
    code = "from tests.soak.targets import ALL; print(*ALL)"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()


def _parent(name: str, options: argparse.Namespace) -> int:
    """Run one target's process, print a line, return 0 without findings."""
    work = options.work / name
    work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.soak", name, "--child", "--work", str(options.work)]
    command += ["--seed", str(options.seed), *(["--plain"] if options.plain else [])]
    command += [f"--{o}={v}" for o in ("runs", "seconds") if (v := getattr(options, o)) is not None]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pleb-soak-") as folder:  # worlds stay until the end
        process = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        seconds = time.monotonic() - start
        if options.keep and process.returncode == 0:
            environment = os.environ | {"TMPDIR": folder}
            subprocess.run([*command, "--keep"], cwd=ROOT, env=environment, check=True)
    (work / "log").write_text(process.stdout + process.stderr, encoding="utf-8")
    numbers = re.findall(r"(?:stat::number_of_executed_units: *|ran )(\d+)", process.stderr)
    runs = int(numbers[-1]) if numbers else 0
    outcome = "no finding" if process.returncode == 0 else f"FINDING ({process.returncode})"
    print(f"{name}: {runs} inputs, {runs / seconds:.0f} a second, {outcome}", flush=True)
    if process.returncode:
        said = [*process.stdout.splitlines()[-20:], *process.stderr.splitlines()[-20:]]
        print("\n".join(said))
        print(f"see {work}", flush=True)
    return process.returncode


def _keep(target: Target, found: Path) -> None:
    """Add inputs of the folder `found` to the corpus, small ones first, if they reach new lines."""
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    reached = set[tuple[str, int]]().union(*(lines(target, i) for i in starting_inputs(target)))
    added = 0
    for data in sorted((path.read_bytes() for path in found.iterdir()), key=len):
        here = lines(target, data)
        if not here <= reached:
            reached |= here
            added += 1
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    sys.stderr.write(f"{added} inputs added to the corpus\n")


def _child(options: argparse.Namespace) -> int:
    """Run one target here."""
    (name,) = options.names
    work = options.work / name
    work.mkdir(parents=True, exist_ok=True)
    if options.keep:
        _keep(_target(name), work / "inputs")
        return 0
    if options.plain or not has_guidance():
        target = _target(name)
        runs = target.long_runs if options.runs is None else options.runs
        _run_plain(target, runs, options.seed, work)
        return 0
    import atheris

    with atheris.instrument_imports(include=_GUIDING):
        target = _target(name)
    runs = target.long_runs if options.runs is None else options.runs
    flags = [f"-runs={runs}", f"-seed={options.seed}"]
    flags += [f"-max_total_time={options.seconds}"] if options.seconds else []
    return run_guided(target, flags, work)


def _run_plain(target: Target, runs: int, seed: int, work: Path) -> None:
    target.seeds()
    limit_memory(target.ceiling_bytes)
    ran, accepted = run_plain(target, runs, seed, work / "current")
    sys.stderr.write(f"ran {ran} inputs, {accepted} accepted\n")


def _forks(folder: Path, seed: int) -> int:
    """Read names of targets, one a line; run each in a fork of this process; say how it ended.

    A test run has few inputs for each target, and the imports would take three times as long.
    """
    for line in sys.stdin:
        target = _target(line.strip())
        work = folder / target.name
        work.mkdir(parents=True, exist_ok=True)
        if target.shares_seeds:
            target.seeds()
        pid = os.fork()
        if pid == 0:
            with (work / "log").open("w", encoding="utf-8") as log:
                os.dup2(log.fileno(), sys.stderr.fileno())
                _run_plain(target, target.short_runs, seed, work)
            return 0
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return 0


def _target(name: str) -> Target:
    from tests.soak.targets import ALL

    return ALL[name]


if __name__ == "__main__":
    sys.exit(main())
