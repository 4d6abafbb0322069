"""Fuzzing: what a stranger sends is changed over and over and given to the code that reads it.

A target is a function of bytes that may raise typed errors only. Each target runs in a process of
its own, under a ceiling of memory above what its imports took and a limit of seconds for one
input, so a crash, a hang or a flood of memory is a finding with its input kept.

Two engines give the inputs: `guided` is libFuzzer through atheris, which prefers inputs that
reach new lines, and `plain` changes the corpus blindly but repeatably, for every test run and
for systems that atheris does not support.
"""

from __future__ import annotations

import faulthandler
import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pleb_shared.errors import PlebError
from tests.soak.mutate import Mutator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType


CORPUS: Final = Path(__file__).parent / "corpus"
"""What is kept: for each target a folder of inputs, one a file."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader of strangers' bytes, and the inputs that its fuzzing starts from."""

    name: str
    """Of the folder in the corpus, too."""
    run: Callable[[bytes], object]
    """Raises nothing but `allowed`."""
    allowed: tuple[type[Exception], ...] = (PlebError,)
    seeds: Callable[[], Sequence[bytes]] = tuple
    """Well-formed inputs, beside those of the corpus."""
    shares_seeds: bool = False
    """Whether they take long to make, and a process that forks can make them before it does."""
    json: bool = False
    """Whether inputs are JSON documents, or safetensors, whose header is one."""
    words: tuple[str, ...] = ()
    """Texts that mean something to the reader: keys, operators, units."""
    most_bytes: int = 64 * 1024
    """Length of an input."""
    ceiling_bytes: int = 512 * 2**20
    """Memory beyond what the process has after its imports."""
    seconds: int = 10
    """For one input."""
    short_runs: int = 1_000
    """Inputs in a test run."""
    long_runs: int = 300_000
    """Inputs of a soak."""


class Finding(Exception):
    """A target raised what it must not."""


def try_one(target: Target, data: bytes) -> bool:
    """Return whether `target` accepted `data`; False if it refused it with an allowed error.

    Raises:
        Finding: it raised anything else.
    """
    try:
        target.run(data)
    except target.allowed:
        return False
    except BaseException as error:
        raise Finding(f"{target.name}: {type(error).__name__}: {error}"[:500]) from error
    return True


def starting_inputs(target: Target) -> list[bytes]:
    """Return the seeds and what the corpus keeps, in the same order on every system."""
    kept = sorted(path for path in (CORPUS / target.name).glob("*") if path.is_file())
    found = [*target.seeds(), *(path.read_bytes() for path in kept)]
    return [data for data in dict.fromkeys(found) if len(data) <= target.most_bytes]


def limit_memory(more_bytes: int) -> None:
    """Let this process have at most `more_bytes` beyond what it has now (Linux)."""
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def run_plain(target: Target, runs: int, seed: int, current: Path) -> tuple[int, int]:
    """Try all starting inputs, then changed ones; return how many ran and how many were accepted.

    `current` holds the input in work, so that it is there after a crash.

    Raises:
        Finding: the target raised what it must not.
    """
    pool = starting_inputs(target)
    mutator = Mutator(seed, target.words, json=target.json)
    accepted = 0
    try:
        with current.open("wb", buffering=0) as file:
            for number in range(len(pool) + runs):
                data = (
                    pool[number] if number < len(pool) else mutator.changed(pool, target.most_bytes)
                )
                file.seek(0)
                file.truncate()
                file.write(data)
                faulthandler.dump_traceback_later(target.seconds, exit=True)
                accepted += try_one(target, data)
    finally:  # also after a finding, or the timer would end this process later
        faulthandler.cancel_dump_traceback_later()
    current.unlink()
    return len(pool) + runs, accepted


def lines(target: Target, data: bytes) -> set[tuple[str, int]]:
    """Return the lines of our packages that `target` reaches with `data`: (file, number)."""
    reached = set()

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if "/pleb_" not in frame.f_code.co_filename:
            return None
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        try_one(target, data)
    finally:
        sys.settrace(None)
    return reached


def has_guidance() -> bool:
    """Whether atheris is installed here."""
    return importlib.util.find_spec("atheris") is not None


def run_guided(target: Target, options: list[str], work: Path) -> int:
    """Run libFuzzer with `options`, such as `-runs=1000`, which ends this process.

    `work` gets the inputs that reach something new, and `finding-...` files. The exit status is
    0 without findings; statistics are on standard error.
    """
    import atheris

    found = work / "inputs"
    found.mkdir(parents=True, exist_ok=True)
    for data in starting_inputs(target):
        (found / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    mutator = Mutator(0, target.words, json=target.json)

    def change(data: bytes, most_bytes: int, seed: int) -> bytes:
        mutator.reseed(seed)
        if mutator.draw(2):  # libFuzzer knows which bytes were compared with what
            return bytes(atheris.Mutate(data, most_bytes))
        return mutator.changed([data], most_bytes)

    def run(data: bytes) -> None:
        try:
            try_one(target, data)
        except Finding:  # libFuzzer's own file may not come: its timer can end the process first
            (work / f"finding-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise

    arguments = [
        *(target.name, str(found), *options),
        *(f"-max_len={target.most_bytes}", f"-timeout={target.seconds}"),
        *("-print_final_stats=1", f"-artifact_prefix={work}/finding-", "-rss_limit_mb=0"),
    ]
    atheris.Setup(arguments, run, custom_mutator=change)
    limit_memory(target.ceiling_bytes)
    atheris.Fuzz()
    return 0
