"""Tries to break out of a sandbox: starts `break_out`, which closes one around itself."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.devices import PROCESSOR
from pleb_agent.program.command import module_command
from pleb_agent.worker.child import child_environment
from pleb_agent.worker.job import WorkerSettings
from pleb_agent.worker.sandbox.attempts import OUTPUT, OUTSIDE_FILE, Report, Trial
from pleb_agent.worker.sandbox.confine import LAYERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.core.devices import FoundDevice

__all__ = ["TrialFailed", "try_sandbox"]

_SECONDS: Final = 60.0
_NEWEST: Final = 99


class TrialFailed(Exception):
    """The process did not report; the message has its last words."""


def try_sandbox(
    layers: Sequence[str] = LAYERS,
    landlock_version: int = _NEWEST,
    *,
    device: FoundDevice = PROCESSOR,
    starts: bool = False,
) -> Report:
    """Return what a process can do before and after these layers are closed around it.

    `device`: on which its worker computes; `starts`: the device's driver is started inside.

    Raises:
        TrialFailed: it does not start, or ends without a report.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as outside:
        output = Path(folder, OUTPUT)
        output.parent.mkdir(parents=True)
        output.touch()
        Path(outside, OUTSIDE_FILE).write_bytes(b"outside")
        trial = Trial(
            folder=str(Path(folder).resolve()),
            outside=str(Path(outside).resolve()),
            layers=tuple(layers),
            landlock_version=landlock_version,
            device=device.name,
            nodes=list(device.nodes),
            starts=starts,
        )
        settings = WorkerSettings(threads=1, memory_bytes=2**20)
        try:
            child = subprocess.run(
                module_command("pleb_agent.worker.break_out", "-P", "-B"),
                input=msgspec.json.encode(trial),
                capture_output=True,
                check=True,
                cwd=folder,
                env=child_environment(os.environ, Path(folder), settings, device=device),
                timeout=_SECONDS,
            )
            return msgspec.json.decode(child.stdout, type=Report)
        except subprocess.CalledProcessError as error:
            words = error.stderr.decode(errors="replace").strip().splitlines()
            raise TrialFailed(words[-1] if words else "no reason given") from error
        except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
            raise TrialFailed(str(error)) from error
