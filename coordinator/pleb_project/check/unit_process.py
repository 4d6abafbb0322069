"""Training units in processes of their own, with pinned threads.

`python -m pleb_project.check.unit_process` reads names of JSON files (`UnitRequest`), one a line;
the exact delta goes to a safetensors file, the seconds of a step to the standard output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import msgspec

from pleb_project.readers.blobs import BlobFolder
from pleb_shared.errors import InputError
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind
from pleb_system.leash import leashed

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Configuration", "UnitProcesses", "UnitRequest"]


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
    chunk: str = FULL


_MOST_THREADS: Final = 2
"""What a process may use; each unit sets its own number."""


@dataclass(frozen=True)
class Configuration:
    """A way to compute: `threads`, and variables that steer torch's choice of instructions."""

    name: str
    threads: int
    variables: tuple[tuple[str, str], ...] = ()
    process: int = 0
    """Tells processes with the same variables apart."""

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the process's environment."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(_MOST_THREADS))
        return {**base, **threads, **dict(self.variables)}


class UnitProcesses:
    """A process for each set of variables and number, which runs one unit after another.

    A context manager. One process runs all numbers of threads, since loading torch takes longer
    than a small unit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """For what goes to the processes and comes back."""
        self._children: dict[tuple[object, int], subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.kill()
            child.communicate()

    def measure(self, request: UnitRequest, configuration: Configuration) -> float:
        """Run the unit under `configuration` and return the median seconds of a step.

        Raises:
            InputError: it failed; the message has its last line.
        """
        file = self.folder / f"{configuration.name}.json"
        file.write_bytes(msgspec.json.encode(request))
        errors = self.folder / f"{configuration.name}.errors"
        key = configuration.variables, configuration.process
        child = self._children.get(key)
        if child is None:
            with errors.open("wb") as output:
                child = subprocess.Popen(
                    leashed([sys.executable, "-m", "pleb_project.check.unit_process"]),
                    env=configuration.environment(os.environ),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                )
            self._children[key] = child
        if child.stdin is None or child.stdout is None:
            raise AssertionError
        try:
            child.stdin.write(f"{file}\n".encode())
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            logs = sorted(self.folder.glob("*.errors"))
            lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
            reason = lines[-1] if lines else f"it ended with {child.wait()}"
            raise InputError(f"The unit failed on {configuration.name}: {reason}")
        reply = msgspec.json.decode(answer, type=float | str)
        if isinstance(reply, str):
            raise InputError(f"The unit failed on {configuration.name}: {reply}")
        return reply


def _run(request: UnitRequest) -> float:
    import torch

    from pleb_shared.protocol.graph import parse_graph
    from pleb_shared.tensors.layout import load_tensors, save_tensors
    from pleb_shared.tensors.version import load_base
    from pleb_shared.training.graph import CompiledGraph, base_tensors
    from pleb_shared.training.local_sgd import UnitRun
    from pleb_shared.training.numerics import compute_strictly

    torch.set_num_threads(request.threads)
    blobs, metadata = BlobFolder(Path(request.blobs)), request.metadata
    if metadata.verification.numerics == "strict":
        compute_strictly(os.environ)
    base = base_tensors(load_base(metadata.model, blobs.get).items())
    blob = metadata.graph_of(request.chunk) or metadata.training_graph
    graph = CompiledGraph(parse_graph(blobs.get(blob.digest)))
    graph = graph.with_base(base, partly=request.chunk != FULL)
    version = load_tensors(Path(request.version).read_bytes())
    shards = [load_tensors(blobs.get(digest)) for digest in request.digests]
    unit = Unit(
        kind=UnitKind.TRAIN,
        epoch=0,
        version=request.number,
        shards=ShardRange(first=0, count=len(shards)),
        seed=1,
        chunk=request.chunk,
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


def _serve() -> None:
    """Run the unit of each file that a line of the standard input names; answer with a line."""
    from pleb_shared.errors import PlebError
    from pleb_system.start_up import loading

    with loading():
        import pleb_shared.training.local_sgd  # noqa: F401 (torch, while the first unit is made)
    answers = sys.stdout.buffer
    for line in sys.stdin:
        try:
            text = Path(line.rstrip("\n")).read_bytes()
            reply: float | str = _run(msgspec.json.decode(text, type=UnitRequest))
        except PlebError as problem:
            reply = str(problem)
        answers.write(msgspec.json.encode(reply) + b"\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
