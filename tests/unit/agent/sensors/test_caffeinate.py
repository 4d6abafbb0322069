"""macOS's `caffeinate`, played by a script of the shell."""

from __future__ import annotations

import os

import psutil

from pleb_agent.sensors.keep_awake import Caffeinate


def test_caffeinate_runs_only_while_wanted(tmp_path):
    script = tmp_path / "caffeinate"
    script.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nexec sleep 600\n')
    script.chmod(0o755)
    awake = Caffeinate((str(script), "-i", "-w"))
    others = set(psutil.Process().children())  # started by other tests of this process
    awake.hold()
    (process,) = set(psutil.Process().children()) - others
    while not (tmp_path / "said").exists() or not (tmp_path / "said").read_text():
        assert process.is_running()
    assert (tmp_path / "said").read_text() == f"-i -w {os.getpid()}\n"
    awake.release()
    assert not process.is_running()
    awake.release()
