"""The sandbox is tried for real: what a worker cannot do, and that it still trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pleb_agent.core.devices import PROCESSOR, FoundDevice
from pleb_agent.doctor.checks import OPEN_TO_DRIVERS, Finding, check_worker
from pleb_agent.worker.sandbox.confine import LAYERS
from pleb_agent.worker.trial import try_sandbox
from tests.integration import sandbox_matrix
from tests.ordinary_user import as_ordinary_user
from tests.unit.worker.stories import WarmWorkers, digest_from, new_job, undisturbed_digest

if TYPE_CHECKING:
    from pleb_agent.worker.process import WorkerProcess

INSIDE = """
import sys
from pathlib import Path
from pleb_agent.worker.devices.choice import choose_device
from pleb_agent.worker.job import Bounds
from pleb_agent.worker.sandbox.confine import confine
device = choose_device()
device.warm_up("native")
bounds = Bounds(memory_bytes=2**29, file_bytes=2**20, threads=2)
layers = confine(Path(sys.argv[1]), bounds)
assert all(layer.holds for layer in layers if layer.layer != "threads"), layers
device.pin(2)
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
with Path(sys.argv[1], "out", "result").open("r+") as file:
    file.write(str(len(os.listdir("/proc/self/task"))))
"""


CARD = FoundDevice("cuda-0", "A card that is not there", ("/dev/full",))
"""Its driver would be reached by a device file that every Linux has."""
INSIDE_A_CARDS = """
import errno, fcntl, mmap, os, sys
from pathlib import Path
from pleb_agent.worker.job import Bounds
from pleb_agent.worker.sandbox.confine import confine
from pleb_agent.worker.sandbox.driver import driver_of
bounds = Bounds(memory_bytes=2**29, file_bytes=2**20, threads=1, device="cuda-0")
driver = driver_of("cuda-0", ["/dev/full"])
layers = confine(Path(sys.argv[1]), bounds, driver=driver)
assert all(layer.holds for layer in layers if layer.layer != "threads"), layers
def refusal(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0
node = os.open("/dev/full", os.O_RDWR)  # which is refused without the card
assert refusal(lambda: os.write(node, b"x")) == errno.ENOSPC
command = lambda number: refusal(lambda: fcntl.ioctl(node, number, bytes(32)))
assert command(0xC020462A) == errno.ENOTTY, "it reaches the driver, which does not know it"
assert command(0x8901) == errno.EPERM, "FIOSETOWN does not"
denied = {errno.EACCES, errno.ENOENT, errno.EPERM}
for other in ("/dev/zero", "/dev/ptmx", "/dev/tty", "/dev/fuse", "/dev/shm/x"):
    assert refusal(lambda: os.open(other, os.O_RDWR)) in denied, other
assert refusal(lambda: open("/etc/passwd")) in denied
shared = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
assert refusal(lambda: mmap.mmap(-1, 4096, flags=shared)) == errno.EPERM
print("held")
"""


def test_a_cards_worker_has_its_card_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", INSIDE_A_CARDS, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("held\n", 0), done.stderr


def test_what_a_cards_worker_can_do_beyond_the_processors_is_on_the_page() -> None:
    """All else that the doctor tries stays denied; as root, threads are not limited."""

    def possible(device: FoundDevice) -> set[str]:
        report = try_sandbox(device=device)
        assert all(outcome.before for outcome in report.outcomes)
        return {outcome.attempt for outcome in report.outcomes if outcome.after}

    more = possible(CARD) - possible(PROCESSOR)
    assert more == OPEN_TO_DRIVERS == {"take memory by page tables", "take memory by pipes"}
    page = sandbox_matrix.PAGE.read_text()
    assert all(f"- **{attempt}**" in page for attempt in more)


def test_a_driver_that_does_not_start_inside_says_why() -> None:
    report = try_sandbox(device=CARD, starts=True)
    assert "finds no cuda-0" in report.driver
    assert {layer.layer for layer in report.layers} == set(LAYERS)


WITHOUT_FILTER = """
from pleb_agent.worker.sandbox import seccomp
def restrict_calls(pid, driver=None):
    raise OSError("no seccomp here")
seccomp.restrict_calls = restrict_calls
"""


FINDINGS = """
import json
from pleb_agent.doctor.checks import check_worker
print(json.dumps([vars(finding) for finding in check_worker()]))
"""


def findings_of_a_user() -> dict[str, Finding]:
    """What the doctor finds where it is not run by root, whom no limit of processes binds."""
    command = as_ordinary_user([sys.executable, "-c", FINDINGS])
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd="/", timeout=120)
    found = [Finding(**finding) for finding in json.loads(done.stdout)]
    return {finding.name: finding for finding in found}


def test_every_layer_holds_and_every_attempt_is_denied() -> None:
    findings = findings_of_a_user()
    assert [finding for finding in findings.values() if not finding.is_well] == []
    assert {
        "open a TCP connection",
        "send UDP datagrams",
        "read files outside",
        "look at files outside",
        "write files outside",
        "start programs",
        "start a great many threads",
        "take shared memory",
        "outlive the agent",
    } <= findings.keys()


TRAINING = """
import asyncio, json, tempfile
from pathlib import Path
import msgspec
from pleb_agent.worker.process import WorkerProcess
from tests.unit.worker.sample_job import make_job
from tests.unit.worker.stories import SETTINGS, digest_from

async def main():
    with tempfile.TemporaryDirectory() as folder:
        worker = WorkerProcess(Path(folder), msgspec.structs.replace(SETTINGS, threads=3))
        digest = await digest_from(worker, make_job(Path(folder), width=4000, steps=3))
        said = {layer.layer: layer.sentence for layer in worker.layers if not layer.holds}
        print(json.dumps([digest, [layer.layer for layer in worker.layers], said]))
        await worker.close()

asyncio.run(main())
"""


def test_an_ordinary_users_worker_trains_behind_every_layer(tmp_path: Path) -> None:
    """With several threads, whose number is limited exactly there.

    A folder of packages that the user cannot read opens no layer.
    """
    command = as_ordinary_user([sys.executable, "-c", TRAINING])
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    place = os.pathsep.join([str(sandbox_matrix.PAGE.parents[1]), *sys.path, str(closed)])
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        cwd="/",
        env=os.environ | {"PYTHONPATH": place, "HOME": "/"},
        timeout=240,
    )
    digest, layers, not_holding = json.loads(done.stdout)
    assert len(digest) == 64
    assert not_holding == {}
    assert layers == ["parent", *LAYERS]


def test_the_page_says_what_really_happens() -> None:
    """The matrix of attacks and layers; `python -m tests.integration.sandbox_matrix` writes it."""
    table = sandbox_matrix.as_user()
    assert table.faults == []
    for attempt, stopped in table.stopped.items():
        assert stopped == [bool(by) for by in table.by[attempt]], "a layer stops it, or nothing"
        assert stopped[0], f"{attempt} is stopped where every layer holds"
    assert sandbox_matrix.written(table) == sandbox_matrix.on_page()


def test_an_attempt_that_works_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The doctor is no decoration: without the filter it says what a worker could do."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_FILTER)
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(tmp_path), *([inherited] if inherited else [])])
    monkeypatch.setenv("PYTHONPATH", path)
    findings = {finding.name: finding for finding in check_worker()}
    assert not findings["calls"].is_well
    assert "no seccomp here" in findings["calls"].sentence
    assert not findings["outlive the agent"].is_well
    assert findings["read files outside"].is_well


ELSEWHERE = """
import json, sys, sysconfig
sysconfig.get_paths()  # which are those of the real one
sys.platform = sys.argv[1]
from pathlib import Path
from pleb_agent.worker.job import Bounds
from pleb_agent.worker.sandbox.confine import confine
bounds = Bounds(memory_bytes=2**29, file_bytes=2**20, threads=2)
states = confine(Path(sys.argv[2]), bounds)
print(json.dumps({state.layer: state.holds for state in states}))
"""


@pytest.mark.parametrize(
    ("system", "layers"),
    [("darwin", {"dumps", "sizes", "profile"}), ("freebsd14", set(LAYERS))],
)
def test_what_a_system_does_not_have_is_said_and_not_called(
    tmp_path: Path, system: str, layers: set[str]
) -> None:
    """Linux's system calls have other meanings elsewhere. The system is played."""
    command = [sys.executable, "-c", ELSEWHERE, system, str(tmp_path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60)
    states = json.loads(done.stdout)
    assert states.keys() == layers
    assert {layer for layer, holds in states.items() if holds} == {"dumps", "sizes"}


def test_a_probe_that_breaks_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    (finding,) = check_worker()
    assert not finding.is_well
    assert "failed" in finding.sentence


def test_torch_trains_where_nothing_else_is_possible(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result").touch()
    subprocess.run([sys.executable, "-c", INSIDE, str(tmp_path)], check=True, timeout=120)
    assert int((tmp_path / "out" / "result").read_text()) >= 2  # it did start threads
    assert not Path("/tmp/pleb-outside").exists()


def test_a_sandboxed_worker_gives_the_bits_of_a_free_process(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, version=3)
        assert await digest_from(worker, job) == undisturbed_digest(job)
        open_layers = [layer.layer for layer in worker.layers if not layer.holds]
        assert open_layers == (["threads"] if os.geteuid() == 0 else [])
        assert {layer.layer for layer in worker.layers} == {"parent", *LAYERS}

    workers.run(story)
