"""A worker that was taken over where no layer of the sandbox holds: it takes what it is told to.

Started as `python greedy_worker.py WHAT`, in the place of `pleb_agent.worker.main`.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from pleb_agent.worker.channel import encode_frame, read_frame
from pleb_agent.worker.job import Closed, Command, Hello, Ready, Run
from pleb_shared.protocol.messages import Runtime


def main() -> None:
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    read_frame(commands, Hello)
    runtime = Runtime(torch="0", device="cpu", threads=1, capability="none", system="played")
    answers.write(encode_frame(Ready(runtime=runtime)))
    answers.flush()
    command = read_frame(commands, Command)
    assert isinstance(command, Run)
    answers.write(encode_frame(Closed(layers=[])))
    answers.flush()
    time.sleep(1.0)  # it is looked at once before
    match sys.argv[1]:
        case "threads":
            for _ in range(60):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        case "memory":
            kept = bytearray(os.urandom(2**20) * 600)
            assert kept
        case "files":
            for number in range(40):
                (command.job.output_dir / f"more-{number}").write_bytes(bytes(2**20))
        case _:
            raise AssertionError
    time.sleep(60)


if __name__ == "__main__":
    main()
