"""`try` and `demo` with real processes: they train, tell the truth, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pleb_project.cli import main

pytestmark = pytest.mark.e2e
EXAMPLES = Path(__file__).parents[2] / "examples"
DEMO = [sys.executable, "-m", "pleb_project.cli", "demo"]


def test_try_trains_versions_and_removes_everything(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["try", str(EXAMPLES / "digits"), "--versions", "2", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["versions"] >= 2
    assert result["metrics"]["accuracy"] > 0.8
    assert "version   1" in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(960)
def test_the_demo_keeps_its_promise(tmp_path):
    done = subprocess.run(
        [*DEMO, "--home", str(tmp_path / "home")],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines[0].startswith("Watch it live: http://127.0.0.1:")
    outcome = json.loads(lines[-1])
    assert outcome["test_accuracy"] >= outcome["target"] == 0.969
    assert outcome["liar_refused"] > 0
    assert outcome["honest_refused"] == 0
    assert outcome["liar_results_in_model"] == 0
    assert not list(tmp_path.glob("pleb-demo-*"))


@pytest.fixture
def heeded_interrupts():
    """What a shell starts in the background ignores SIGINT, and so would what we start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_interrupts")
def test_interrupting_the_demo_leaves_nothing(tmp_path):
    with subprocess.Popen(
        [*DEMO, "--home", str(tmp_path / "home")],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline().startswith(b"Watch it live")
        (folder,) = tmp_path.glob("pleb-demo-*")
        time.sleep(1)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 130
    assert not folder.exists()
    assert not _processes_naming(str(folder))


def _processes_naming(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found
