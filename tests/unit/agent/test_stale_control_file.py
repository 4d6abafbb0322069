"""`agentd.json` of an agentd that was killed: a stranger may listen on its port by now."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from pleb_agent.app.home import Home
from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.tray.agentd import NotRunningError as TrayNotRunningError
from pleb_agent.tray.agentd import read_place
from pleb_system.processes import is_alive


@pytest.fixture
def dead_pid():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def write(home, **place):
    (home / "agentd.json").write_text(json.dumps({"token": "secret"} | place), "utf-8")


def test_neither_commands_nor_the_tray_speak_with_a_stranger(tmp_path, dead_pid):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        write(tmp_path, pid=dead_pid, port=stranger.getsockname()[1])
        stranger.settimeout(0.2)
        with pytest.raises(NotRunningError):
            Remote(Home(tmp_path)).post("attach", link="link", invite="a secret")
        with pytest.raises(TrayNotRunningError):
            read_place(str(tmp_path)).ask("page", {})
        with pytest.raises(TimeoutError):
            stranger.accept()


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"port": 1, "token": "t"}', '{"pid": "x", "port": 1, "token": "t"}']
)
def test_a_damaged_file_is_no_agentd(tmp_path, text):
    (tmp_path / "agentd.json").write_text(text, "utf-8")
    with pytest.raises(NotRunningError):
        Remote(Home(tmp_path))
    with pytest.raises(TrayNotRunningError):
        read_place(str(tmp_path))


def test_who_lives(dead_pid):
    assert is_alive(os.getpid())
    assert not any(map(is_alive, (dead_pid, 0, -1, 2**40)))
