"""Says which layers of the sandbox hold on this PC, by trying to break out for real."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pleb_agent.program.command import module_command
from pleb_agent.worker.job import LayerState, WorkerSettings
from pleb_agent.worker.launch import child_environment
from pleb_agent.worker.sandbox.attempts import OUTSIDE_FILE, Outcome

__all__ = ["Probe", "probe_sandbox"]

_SECONDS: Final = 60.0
_ELSEWHERE: Final = {
    "darwin": "macOS: sandbox-exec profiles are not used yet and untried",
    "win32": "Windows: job object and low integrity are not used yet and untried",
}


@dataclass(frozen=True)
class Probe:
    """One layer: what it must prevent, whether it does, and a sentence for the volunteer."""

    layer: str
    holds: bool
    sentence: str


class _Report(msgspec.Struct, frozen=True):
    outcomes: list[Outcome]
    layers: list[LayerState]


def probe_sandbox() -> list[Probe]:
    """Return what a process can still do after the worker's sandbox has closed around it.

    The attempts are made in a child that restricts itself exactly as a worker does.
    """
    if sys.platform in _ELSEWHERE:
        return [Probe("sandbox", holds=False, sentence=_ELSEWHERE[sys.platform])]
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory() as outside:
        Path(outside, OUTSIDE_FILE).write_bytes(b"outside")
        return _probe(Path(work).resolve(), Path(outside).resolve())


def _probe(work_dir: Path, outside: Path) -> list[Probe]:
    settings = WorkerSettings(threads=1, memory_bytes=2**20)
    module = "pleb_agent.worker.sandbox.attempts"
    try:
        child = subprocess.run(
            [*module_command(module, "-P", "-B"), str(work_dir), str(outside)],
            capture_output=True,
            check=True,
            cwd=work_dir,
            env=child_environment(os.environ, work_dir, settings),
            timeout=_SECONDS,
        )
        report = msgspec.json.decode(child.stdout, type=_Report)
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        return [Probe("sandbox", holds=False, sentence=f"The probe failed: {words[-1]}")]
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
        return [Probe("sandbox", holds=False, sentence=f"The probe failed: {error}")]
    return [_of_layer(layer) for layer in report.layers] + [
        _of_attempt(outcome) for outcome in report.outcomes
    ]


def _of_layer(state: LayerState) -> Probe:
    return Probe(state.layer, state.holds, state.sentence)


def _of_attempt(outcome: Outcome) -> Probe:
    if outcome.after:
        return Probe(outcome.attempt, holds=False, sentence="a worker could do this")
    if not outcome.before:
        sentence = f"could not be tried here, even without a sandbox: {outcome.reason}"
        return Probe(outcome.attempt, holds=False, sentence=sentence)
    return Probe(outcome.attempt, holds=True, sentence=f"denied: {outcome.reason}")
