"""The worker's process: `python -m pleb_agent.worker.main`, started by `WorkerProcess` only.

Commands come on standard input, answers go to standard output, all else to standard error. The
order of the first steps matters: ties to the parent, priority, then the long import of torch. The
first job says for which project; the sandbox closes around its folder, and only then come threads
and strangers' data. So a process never sees two projects.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from pathlib import Path
from typing import IO

from pleb_agent.worker.channel import FlagPage, State, encode_frame, flag_file, read_frame
from pleb_agent.worker.control import CommandReader, Throttle
from pleb_agent.worker.job import Bounds, Closed, Command, Hello, Job, LayerState, Ready, Reply, Run
from pleb_agent.worker.priority import give_way, system_ways
from pleb_agent.worker.sandbox.confine import confine
from pleb_agent.worker.sandbox.limits import die_with_parent
from pleb_system.start_up import loading


def main() -> None:
    """Serve the agent until it closes the pipe."""
    commands, answers = _agents_pipes()
    hello: Hello = read_frame(commands, Hello)
    layers = [_tie_to_parent(hello.parent)]
    if hello.settings.low_priority:
        for name, outcome in give_way(system_ways()).items():
            sys.stderr.write(f"priority: {name}: {outcome}\n")

    with loading():
        from pleb_agent.worker.deadline import Deadline, end_late
        from pleb_agent.worker.device import choose_device
        from pleb_agent.worker.execute import Executor
        from pleb_agent.worker.job import EXPECTED, failure_of

        device = choose_device()
        device.warm_up(hello.numerics)
    gc.freeze()  # it all stays: a full collection would look through it between two steps

    def send(reply: Reply) -> None:
        answers.write(encode_frame(reply))
        answers.flush()

    settings, numerics = hello.settings, hello.numerics
    runtime = device.runtime(settings.threads).under(numerics)
    page = FlagPage(flag_file(Path(hello.work_dir)))
    page.release_file()
    page.state = State.IDLE
    send(Ready(runtime=runtime))

    first = _first_job(commands)
    page.state = State.COMPUTING
    layers += confine(Path(first.folder), Bounds.of(settings, first.file_bytes))
    device.pin(settings.threads)
    control = CommandReader(commands, page, Throttle(settings.threads))
    deadline = Deadline(lambda seconds: end_late(send, seconds))
    executor = Executor(settings, numerics, device, control, send, deadline)
    control.start(first)
    send(Closed(layers=layers))
    while True:
        job = control.next_job()
        try:
            send(executor.execute(job))
        except EXPECTED as error:
            traceback.print_exc()
            send(failure_of(error))
        device.give_back()


def _agents_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Return the two pipes; what is printed to standard output goes to the log from here on."""
    pipes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return pipes


def _first_job(commands: IO[bytes]) -> Job:
    """Wait for it; the end of the agent is the end of this process."""
    try:
        while not isinstance(command := read_frame(commands, Command), Run):
            pass  # nothing runs that could be woken
    except EOFError:
        sys.exit(0)
    return command.job


def _tie_to_parent(parent: int) -> LayerState:
    try:
        die_with_parent(parent)
    except ProcessLookupError:
        sys.exit(0)
    except OSError as error:
        return LayerState(layer="parent", holds=False, sentence=f"does not hold: {error}")
    return LayerState(layer="parent", holds=True, sentence="dies together with the agent")


if __name__ == "__main__":
    main()
