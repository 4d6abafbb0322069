"""Processes that a test kills or floods, forked from one that has imported what they need.

Importing takes longer than most of what they do. `python -m tests.forks MODULE` reads lists of
words, one a line of JSON; for each it forks, calls the module's `main` with them, and answers with
the exit code.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from pleb_system.start_up import end_fast, loading

ROOT = Path(__file__).parents[1]


class Forks:
    """The process of a module; a context manager. All its forks end with it."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks", module],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        assert self._process.returncode == 0

    async def run(self, *words: object, seconds: float = 30) -> int:
        """Run `main` in a fork to its end; return its exit code, below 0 if a signal ended it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(word) for word in words]).encode() + b"\n")
        self._process.stdin.flush()
        answer = asyncio.create_task(asyncio.to_thread(self._process.stdout.readline))
        done, _ = await asyncio.wait([answer], timeout=seconds)
        if not done:
            os.killpg(self._process.pid, signal.SIGKILL)  # which ends the line, too
        return int(await answer)


def serve(module: str) -> None:
    """Fork for each line."""
    with loading():
        main = importlib.import_module(module).main
    end_fast()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            main(*json.loads(line))
            return
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
