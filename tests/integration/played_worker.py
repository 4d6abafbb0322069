"""A worker without torch: the real pipes, flag page and control, and steps that burn time.

Started as `python played_worker.py`, in the place of `pleb_agent.worker.main`. Its steps take 1 to
60 ms, its warm-up and the loading of a job some more; a job's steps are counted in a file.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from pleb_agent.worker.channel import FlagPage, encode_frame, flag_file, read_frame
from pleb_agent.worker.control import CommandReader, Throttle
from pleb_agent.worker.errors import JobStopped
from pleb_agent.worker.job import (
    EvaluationOutcome,
    Failed,
    FailureKind,
    Hello,
    Job,
    JobResult,
    Progress,
    Ready,
)
from pleb_shared.protocol.messages import Runtime

STEPS = 30
COUNT = "steps"


def main() -> None:
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    hello: Hello = read_frame(commands, Hello)
    draw = random.Random()
    burn(0.05)
    page = FlagPage(flag_file(Path(hello.work_dir)))
    control = CommandReader(commands, page, Throttle(hello.settings.threads))
    control.start()

    def send(message: object) -> None:
        answers.write(encode_frame(message))
        answers.flush()

    send(Ready(runtime=runtime()))
    while True:
        job = control.next_job()
        try:
            control.between_steps()
            burn(0.03)
            steps(job, control, draw, send)
        except JobStopped as error:
            send(Failed(kind=FailureKind.STOPPED, message=str(error)))
        else:
            send(
                JobResult(
                    outcome=EvaluationOutcome(metrics={}, examples=STEPS),
                    compute_seconds=1.0,
                    seconds_per_step=0.01,
                    peak_bytes=1,
                )
            )


def steps(job: Job, control: CommandReader, draw: random.Random, send) -> None:
    count = job.output_dir / COUNT
    done = int(count.read_text()) if count.exists() else 0
    while done < STEPS:
        control.between_steps()
        burn(draw.choice([0.001, 0.01, 0.06]))
        done += 1
        part = count.with_suffix(".part")
        part.write_text(str(done))
        part.replace(count)
        send(Progress(steps_done=done, steps_total=STEPS, loss=None, compute_seconds=0.1))


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def runtime() -> Runtime:
    return Runtime(torch="0", device="cpu", threads=1, capability="none", system="played")


if __name__ == "__main__":
    main()
