"""The sandbox is tried for real: what a worker cannot do, and that it still trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pleb_agent.doctor.checks import check_worker
from tests.unit.worker.stories import WarmWorkers, digest_from, new_job, undisturbed_digest

if TYPE_CHECKING:
    import pytest

    from pleb_agent.worker.process import WorkerProcess

INSIDE = """
import sys
from pathlib import Path
from pleb_agent.worker.runtime import pin, warm_up
from pleb_agent.worker.sandbox.confine import confine
warm_up()
layers = confine(Path(sys.argv[1]), 2**29)
assert all(layer.holds for layer in layers), layers
pin(2)
import ctypes, os, threading, torch
def fails(action):
    try:
        action()
    except OSError:
        return
    raise SystemExit(f"{action} was not denied")
libc = ctypes.CDLL(None, use_errno=True)
def raw(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "denied")
attempts = [
    lambda: open("/etc/passwd").read(),
    lambda: open("/proc/self/root/etc/passwd").read(),
    lambda: os.listdir("/"),
    lambda: open("/tmp/pleb-outside", "w"),
    lambda: os.link(sys.executable, sys.argv[1] + "/linked"),
    lambda: os.symlink("/etc/passwd", sys.argv[1] + "/link") or open(sys.argv[1] + "/link").read(),
    lambda: os.execv(sys.executable, ["python", "-c", ""]),
    lambda: os.posix_spawn(sys.executable, ["python", "-c", ""], {}),
    lambda: os.kill(os.getppid(), 0),
    lambda: raw(425, 1, ctypes.create_string_buffer(256)),  # io_uring_setup, which needs no socket
    lambda: os.memfd_create("program"),
    lambda: os.setpriority(os.PRIO_PROCESS, 0, 0),
]
for attempt in attempts:
    fails(attempt)
failures = []
def in_thread():
    try:
        for attempt in attempts:
            fails(attempt)
    except SystemExit as error:
        failures.append(error)
thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
assert not failures, failures
x = torch.randn(600, 600, requires_grad=True)
(x @ x).sum().backward()
Path(sys.argv[1], "result").write_text(str(len(os.listdir("/proc/self/task"))))
"""


WITHOUT_FILTER = """
from pleb_agent.worker.sandbox import seccomp
def restrict_calls(pid):
    raise OSError("no seccomp here")
seccomp.restrict_calls = restrict_calls
"""


def test_every_layer_holds_and_every_attempt_is_denied() -> None:
    findings = {finding.name: finding for finding in check_worker()}
    assert [finding for finding in findings.values() if not finding.is_well] == []
    assert {
        "open a TCP connection",
        "send UDP datagrams",
        "read files outside",
        "write files outside",
        "start programs",
    } <= findings.keys()


def test_an_attempt_that_works_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The doctor is no decoration: without the filter it says what a worker could do."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_FILTER)
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(tmp_path), *([inherited] if inherited else [])])
    monkeypatch.setenv("PYTHONPATH", path)
    findings = {finding.name: finding for finding in check_worker()}
    assert not findings["calls"].is_well
    assert "no seccomp here" in findings["calls"].sentence
    assert not findings["send UDP datagrams"].is_well
    assert findings["read files outside"].is_well


def test_a_probe_that_breaks_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    (finding,) = check_worker()
    assert not finding.is_well
    assert "failed" in finding.sentence


def test_torch_trains_where_nothing_else_is_possible(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", INSIDE, str(tmp_path)], check=True, timeout=120)
    assert int((tmp_path / "result").read_text()) >= 2  # it did start threads
    assert not Path("/tmp/pleb-outside").exists()


def test_a_sandboxed_worker_gives_the_bits_of_a_free_process(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        assert [layer.layer for layer in worker.layers if not layer.holds] == []
        assert {layer.layer for layer in worker.layers} >= {"parent", "memory", "files", "calls"}
        job = new_job(worker, version=3)
        assert await digest_from(worker, job) == undisturbed_digest(job)

    workers.run(story)
