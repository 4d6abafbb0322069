"""One training unit in a process of its own, with pinned threads.

`python -m pleb_project.check.unit_process REQUEST`: REQUEST is a JSON file (`UnitRequest`);
the exact delta goes to a safetensors file, the seconds of a step to the standard output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pleb_project.readers.blobs import BlobFolder
from pleb_shared.errors import InputError
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Configuration", "UnitRequest", "measure_unit"]


class UnitRequest(msgspec.Struct, frozen=True):
    """What the process does: `steps` local steps of one unit on the shards `digests`."""

    version: str
    """A safetensors file with the version that the unit starts from."""
    number: int
    """The version's number, by which the learning rate goes."""

    metadata: ProjectMetadata
    blobs: str
    digests: list[str]
    steps: int
    threads: int
    delta: str
    """The file for the delta, not encoded, as safetensors."""


@dataclass(frozen=True)
class Configuration:
    """A way to compute: `threads`, and variables that steer torch's choice of instructions."""

    name: str
    threads: int
    variables: tuple[tuple[str, str], ...] = ()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the process's environment."""
        threads = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        return {**base, **threads, **dict(self.variables)}


def measure_unit(request: UnitRequest, configuration: Configuration, folder: Path) -> float:
    """Run the unit in a process under `configuration` and return the median seconds of a step.

    Raises:
        InputError: the process failed; the message has its last line.
    """
    file = folder / f"{configuration.name}.json"
    file.write_bytes(msgspec.json.encode(request))
    done = subprocess.run(
        [sys.executable, "-m", "pleb_project.check.unit_process", str(file)],
        env=configuration.environment(os.environ),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise InputError(f"The unit failed on {configuration.name}: {lines[-1]}")
    return msgspec.json.decode(done.stdout, type=float)


def _run(request: UnitRequest) -> float:
    import torch

    from pleb_shared.protocol.graph import parse_graph
    from pleb_shared.tensors.layout import load_tensors, save_tensors
    from pleb_shared.tensors.version import load_base
    from pleb_shared.training.graph import CompiledGraph, base_tensors
    from pleb_shared.training.local_sgd import UnitRun

    torch.set_num_threads(request.threads)
    blobs, metadata = BlobFolder(Path(request.blobs)), request.metadata
    base = base_tensors(load_base(metadata.model, blobs.get).items())
    graph = CompiledGraph(parse_graph(blobs.get(metadata.training_graph.digest))).with_base(base)
    version = load_tensors(Path(request.version).read_bytes())
    shards = [load_tensors(blobs.get(digest)) for digest in request.digests]
    unit = Unit(
        kind=UnitKind.TRAIN,
        epoch=0,
        version=request.number,
        shards=ShardRange(first=0, count=len(shards)),
        seed=1,
        local_steps=request.steps,
    )
    run = UnitRun(graph, metadata, unit, version, None, shards)
    durations = []
    for _ in range(request.steps):
        start = time.perf_counter()
        run.step()
        durations.append(time.perf_counter() - start)
    Path(request.delta).write_bytes(save_tensors(run.exact_delta()))
    later = sorted(durations[1:] or durations)
    return later[len(later) // 2]


if __name__ == "__main__":
    from pleb_shared.errors import PlebError

    try:
        text = Path(sys.argv[1]).read_bytes()
        result = _run(msgspec.json.decode(text, type=UnitRequest))
    except PlebError as problem:
        sys.exit(str(problem))
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
