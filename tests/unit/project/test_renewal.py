"""Renewing in time: what is said and when, and what the system is asked to run."""

from __future__ import annotations

import configparser
import plistlib
import shlex
import subprocess

import pytest

from pleb_project.cli import main
from pleb_project.keys import key_file
from pleb_project.renewal import warnings_of
from pleb_project.schedule import Schedule
from pleb_project.server.records import Home, ProjectRecord
from pleb_shared.errors import InputError
from pleb_shared.protocol.permission import ends_soon, is_due
from pleb_shared.protocol.signing import SigningKey

DAY = 24 * 3600
NOW = 1_800_000_000


def test_what_is_due_is_due_before_anybody_is_warned():
    for days in (9, 11, 19, 21, 30):
        ends = NOW + days * DAY
        assert ends_soon(ends, NOW) == (days < 10)
        assert is_due(ends, NOW) == (days < 20)


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (11, None),
        (9, "ends on"),
        (0.1, "ends on"),
        (-1, "ended on"),
        (-29, "ended on"),
        (-31, None),
    ],
)
def test_warnings_begin_ten_days_before_the_end(tmp_path, days, said):
    home = Home(tmp_path)
    ends = int(NOW + days * DAY)
    home.remember(
        ProjectRecord("words", "http://h/join/words#" + "0" * 64, permission_ends_at=ends)
    )
    home.remember(ProjectRecord("old", "http://h/join/old#" + "0" * 64))
    sentences = list(warnings_of(home, NOW))
    assert len(sentences) == (said is not None)
    assert said is None or (said in sentences[0] and "pleb-project renew words" in sentences[0])


class System:
    """Records what it is asked to run; `complaint` is its answer."""

    def __init__(self, complaint=""):
        self.complaint = complaint
        self.asked = []

    def __call__(self, command):
        self.asked.append(list(command))
        return self.complaint


COMMAND = ["/opt/a b/python", "-m", "pleb_project.cli", "renew", "--due", "--home", '/x%y"z$']


def schedule(folder, platform, system=None):
    return Schedule(platform, folder, COMMAND, system or System())


def test_a_timer_of_systemd(tmp_path):
    system = System()
    made = schedule(tmp_path, "linux", system)
    made.turn_on()
    assert made.is_on()
    assert system.asked[-1][-1] == "pleb-project-renew.timer"
    service, timer = configparser.RawConfigParser(), configparser.RawConfigParser()
    service.optionxform = timer.optionxform = str  # type: ignore[assignment]
    service.read(tmp_path / "pleb-project-renew.service")
    timer.read(tmp_path / "pleb-project-renew.timer")
    line = service["Service"]["ExecStart"].replace("%%", "%").replace("$$", "$")
    assert shlex.split(line) == COMMAND
    assert timer["Timer"]["Persistent"] == "true"
    made.turn_off()
    assert not made.is_on()
    assert list(tmp_path.iterdir()) == []


def test_an_agent_of_launchd(tmp_path):
    made = schedule(tmp_path, "darwin")
    made.turn_on()
    (file,) = tmp_path.iterdir()
    value = plistlib.loads(file.read_bytes())
    assert value["ProgramArguments"] == COMMAND
    assert value["StartCalendarInterval"] == {"Hour": 12, "Minute": 0}
    made.turn_off()
    assert not made.is_on()


def test_a_task_of_windows(tmp_path):
    system = System()
    schedule(tmp_path, "win32", system).turn_on()
    assert system.asked[0][:5] == ["schtasks", "/Create", "/F", "/SC", "DAILY"]
    assert '"/opt/a b/python"' in system.asked[0][-1]


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_a_system_that_refuses_is_said_with_what_to_do_instead(tmp_path, platform):
    made = schedule(tmp_path, platform, System("no bus"))
    with pytest.raises(InputError, match=r"no bus.*renew --watch"):
        made.turn_on()
    assert not made.is_on()
    assert list(tmp_path.iterdir()) == []


def test_the_command_has_systemd_run_a_renewal_that_works(tmp_path, monkeypatch, capsys):
    """From `autorenew on` to what the timer starts, with a systemctl that only records."""
    programs = tmp_path / "bin"
    programs.mkdir()
    record = tmp_path / "asked"
    systemctl = programs / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {record}\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home = ("--home", str(tmp_path / "re searcher"))
    assert main(["autorenew", "on", *home]) == 0
    assert "enable --now pleb-project-renew.timer" in record.read_text()
    assert main(["autorenew", "show", *home, "--json"]) == 0
    assert '"on":true' in capsys.readouterr().out
    service = tmp_path / "config/systemd/user/pleb-project-renew.service"
    line = service.read_text().partition("ExecStart=")[2]
    ran = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "Nothing was due.\n"
    assert main(["autorenew", "off", *home]) == 0
    assert not service.exists()


def test_autorenew_is_refused_while_a_key_needs_a_person(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(key_file, "_SCRYPT_N", 2**10)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home = Home(tmp_path / "home")
    home.remember(ProjectRecord("words", "http://h/join/words#" + "0" * 64))
    key_file.create_key(home.root_key_file("words"), SigningKey.generate(), "correct horse")
    assert main(["autorenew", "on", "--home", str(home.path)]) == 2
    assert "--passphrase-file" in capsys.readouterr().err
    assert not (tmp_path / "config").exists()
