"""The worker's process: `python -m pleb_agent.worker.main`, started by `WorkerProcess` only.

Commands come on standard input, answers go to standard output, all else to standard error. The
order of the first steps matters: ties to the parent, priority, then the long import of torch. The
first job says for which folder, a project's or a family's; the sandbox closes around it, and only
then come threads and strangers' data. So a process never sees the projects of two researchers.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from pleb_agent.worker.channel import FlagPage, State, encode_frame, flag_file, read_frame
from pleb_agent.worker.control import CommandReader, Throttle
from pleb_agent.worker.job import (
    EXPECTED,
    NO_DEVICE_EXIT,
    Bounds,
    Closed,
    Command,
    Hello,
    Job,
    LayerState,
    Ready,
    Reply,
    Run,
    failure_of,
)
from pleb_agent.worker.priority import give_way, system_ways
from pleb_agent.worker.sandbox.confine import confine, tie_to
from pleb_agent.worker.sandbox.driver import driver_of
from pleb_system.start_up import loading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pleb_agent.worker.devices.device import Device
    from pleb_agent.worker.execute import Executor


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
        from pleb_agent.worker.devices.choice import choose_device
        from pleb_agent.worker.execute import Executor

        device = choose_device(hello.device)
        with _last_words():
            device.warm_up(hello.numerics)
    gc.freeze()  # it all stays: a full collection would look through it between two steps

    def send(reply: Reply) -> None:
        answers.write(encode_frame(reply))
        answers.flush()

    settings, numerics = hello.settings, hello.numerics
    page = FlagPage(flag_file(Path(hello.work_dir)))
    page.release_file()
    page.state = State.IDLE
    send(Ready(runtime=device.runtime(settings.threads).under(numerics)))

    first = _first_job(commands)
    page.state = State.COMPUTING
    bounds = Bounds.of(settings, first.file_bytes, hello.device)
    layers += confine(Path(first.folder), bounds, driver=driver_of(hello.device, hello.nodes))
    with _last_words():
        device.pin(settings.threads)  # a card's driver starts here, inside the sandbox
    throttle = Throttle(device.lanes, busy_clock=device.busy_seconds)
    control = CommandReader(commands, page, throttle, device.resumed)
    deadline = Deadline(lambda seconds: end_late(send, seconds), device.busy_seconds)
    executor = Executor(settings, numerics, device, control, send, deadline)
    control.start(first)
    send(Closed(layers=layers))
    _serve(control, executor, device, send)


def _serve(
    control: CommandReader, executor: Executor, device: Device, send: Callable[[Reply], None]
) -> NoReturn:
    """Compute one job after the other; the command reader ends the process with the agent."""
    while True:
        job = control.next_job()
        try:
            send(executor.execute(job))
        except EXPECTED as error:
            traceback.print_exc()
            send(failure_of(error))
        device.give_back()


@contextmanager
def _last_words() -> Iterator[None]:
    """End the process with a sentence if its device cannot be used: the agent reads the last line.

    Called after torch is loaded.
    """
    from pleb_agent.worker.devices.device import DeviceUnusable

    try:
        yield
    except DeviceUnusable as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(NO_DEVICE_EXIT)  # at once: torch takes seconds to clear up on a busy PC


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
        return tie_to(parent)
    except ProcessLookupError:
        sys.exit(0)


if __name__ == "__main__":
    main()
