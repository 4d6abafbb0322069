"""Autostart, launcher and links on each system, over folders and fakes."""

from __future__ import annotations

import plistlib
import subprocess
from pathlib import Path

import pytest

from pleb_agent.control.controller import Autostart
from pleb_agent.desktop.browser import NoBrowserError, open_page
from pleb_agent.desktop.entries import RUN, SCHEMES, MacEntries, WindowsEntries
from pleb_agent.desktop.linux_entries import SystemdEntries, XdgEntries, exec_line

COMMAND = ["/opt/my pleb/pleb-agent", "start", "--home", '/home/ann/100% "$mine"']


def xdg(tmp_path):
    home = tmp_path / "my agent"
    return XdgEntries(tmp_path / "config", tmp_path / "data", ["/opt/my pleb/pleb-agent"], home)


def test_nothing_is_left_after_remove(tmp_path):
    entries = xdg(tmp_path)
    entries.remove()
    assert entries.state()[0] is False
    entries.make()
    entries.make()
    assert entries.state()[0] is True
    assert entries.launcher.exists()
    entries.remove()
    assert entries.state()[0] is False
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("headless", [True, False])
def test_off_is_off_however_it_was_switched_on(tmp_path, monkeypatch, headless):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    mine = Autostart(tmp_path / "home", environment, headless=headless)
    other = Autostart(tmp_path / "home", environment, headless=not headless)
    assert mine.turn(on=True).on
    assert other.view().sentence == mine.view().sentence
    assert not other.turn(on=False).on
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_a_screen_the_address_is_told(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(NoBrowserError, match=r"no desktop here.*tunnel.*http://127\.0\.0\.1:1/x"):
        open_page("http://127.0.0.1:1/x")


def test_the_entries_start_this_agent_in_this_home(tmp_path):
    entries = xdg(tmp_path)
    entries.make()
    ours, home = '"/opt/my pleb/pleb-agent"', f'--home "{tmp_path}/my agent"'
    launcher = entries.launcher.read_text()
    assert f"Exec={ours} open %u {home}\n" in launcher
    assert f"Exec={ours} pause {home}\n" in launcher
    assert launcher.count("Exec=") == 4
    icon = next(line for line in launcher.splitlines() if line.startswith("Icon="))
    assert Path(icon.partition("=")[2]).is_file()
    started = entries.autostart.read_text()
    assert f"Exec={ours} start --if-needed {home}\n" in started
    assert "MimeType" not in started
    assert "Action" not in started


@pytest.mark.parametrize(
    ("key", "value"), [("Hidden", "true"), ("X-GNOME-Autostart-enabled", "false")]
)
def test_a_desktop_that_switched_it_off_is_believed(tmp_path, key, value):
    entries = xdg(tmp_path)
    entries.make()
    text = entries.autostart.read_text().replace("X-GNOME-Autostart-enabled=true\n", "")
    entries.autostart.write_text(f"{text}{key}={value}\n")
    on, sentence = entries.state()
    assert not on
    assert "settings" in sentence


def test_other_peoples_links_are_left_alone(tmp_path):
    entries = xdg(tmp_path)
    listed = tmp_path / "config" / "mimeapps.list"
    listed.parent.mkdir()
    listed.write_text("[Default Applications]\ntext/html=firefox.desktop\n\n[Added Associations]\n")
    entries.make()
    assert "x-scheme-handler/pleb+http=pleb-agent.desktop\ntext/html" in listed.read_text()
    entries.remove()
    assert "pleb" not in listed.read_text()
    assert "text/html=firefox.desktop" in listed.read_text()
    listed.write_text("[Default Applications]\nx-scheme-handler/pleb=other.desktop\n")
    entries.make()
    assert "pleb-agent" not in listed.read_text()


def test_exec_lines_are_read_back_by_a_shell_like_parser():
    line = exec_line(["a b", 'say "hi"', "100%", "$HOME", "back\\slash", "plain"], "%u")
    assert line.endswith(" plain %u")
    # What the key file's string rules, then the Exec quoting rules make of it.
    unescaped = line.replace("\\\\", "\\").replace("%%", "%")
    words = subprocess.run(
        ["/bin/sh", "-c", f'for word in {unescaped}; do echo "$word"; done'],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.splitlines()
    assert words == ["a b", 'say "hi"', "100%", "$HOME", "back\\slash", "plain", "%u"]


def test_a_newline_does_not_end_the_line():
    assert exec_line(["a\nExec=evil"]) == '"a\\nExec=evil"'


def test_systemd_wants_the_unit_until_it_is_removed(tmp_path):
    entries = SystemdEntries(tmp_path / "systemd" / "user", [*COMMAND, "--headless"])
    assert entries.state()[0] is False
    entries.make()
    entries.make()
    assert entries.state()[0] is True
    text = entries.unit.read_text()
    assert '"/home/ann/100%% \\"$$mine\\""' in text
    assert 'ExecStart="/opt/my pleb/pleb-agent" "start"' in text
    entries.remove()
    assert entries.state()[0] is False
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]


def test_launchd_gets_a_property_list(tmp_path):
    entries = MacEntries(tmp_path / "LaunchAgents", COMMAND, tmp_path)
    assert entries.state()[0] is False
    entries.make()
    assert plistlib.loads(entries.plist.read_bytes())["ProgramArguments"] == COMMAND
    assert entries.state()[0] is True
    entries.remove()
    entries.remove()
    assert entries.state()[0] is False


class FakeRegistry:
    def __init__(self):
        self.values = {}

    def get(self, key, name):
        return self.values.get((key, name))

    def set(self, key, name, value):
        self.values[key, name] = value

    def delete_value(self, key, name):
        self.values.pop((key, name), None)

    def delete_tree(self, key):
        self.values = {
            place: value
            for place, value in self.values.items()
            if not f"{place[0]}\\".startswith(f"{key}\\")
        }


def test_windows_gets_values_that_it_can_split_again():
    registry = FakeRegistry()
    entries = WindowsEntries(registry, [r"C:\Program Files\pleb\pleb-agent.exe", "start"], ["p"])
    assert entries.state()[0] is False
    entries.make()
    assert entries.state()[0] is True
    run = registry.get(RUN, "Pleb-Cluster")
    assert run == r'"C:\Program Files\pleb\pleb-agent.exe" start'
    for scheme in SCHEMES:
        assert registry.get(scheme + r"\shell\open\command", "") == 'p "%1"'
        assert registry.get(scheme, "URL Protocol") == ""
    entries.remove()
    assert registry.values == {}
