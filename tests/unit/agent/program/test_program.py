"""How an installation starts its own processes, and what it says of itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pleb_agent.program import frozen
from pleb_agent.program.command import (
    cli_command,
    fresh_environment,
    module_command,
    restore_library_path,
    stable_program,
)
from pleb_agent.program.installed import (
    BrokenInstallationError,
    InstallKind,
    read_build,
    read_installation,
)
from pleb_agent.worker.child import worker_command


@pytest.fixture
def frozen_program(monkeypatch, tmp_path):
    """Pretend to be the binary of a build in this folder."""
    folder = tmp_path / "app" / "versions" / "0.1.0"
    folder.mkdir(parents=True)
    program = folder / "pleb-agent"
    program.touch()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(program))
    return program


# -- command lines ------------------------------------------------------------------------------


def test_from_source_python_runs_the_module():
    command = module_command("pleb_agent.worker.main", "-P", packages=Path("ignored"))
    assert command == [sys.executable, "-P", "-m", "pleb_agent.worker.main"]
    assert cli_command("open") == [sys.executable, "-m", "pleb_agent.cli", "open"]


def test_a_frozen_build_runs_itself(frozen_program):
    command = worker_command(Path("/runtimes/cpu"))
    assert command == [
        str(frozen_program), "--run-module", "pleb_agent.worker.main", "--packages", "/runtimes/cpu"
    ]  # fmt: skip
    assert worker_command() == command[:3]


def test_entries_of_the_session_hold_after_an_update(frozen_program):
    assert stable_program() == [str(frozen_program)]
    stable = frozen_program.parents[2] / "pleb-agent"
    stable.touch()
    assert cli_command("start") == [str(stable), "start"]


def test_entries_go_through_the_junction_where_there_is_no_link(frozen_program):
    current = frozen_program.parents[2] / "current"
    current.symlink_to(frozen_program.parent)
    assert stable_program() == [str(current / "pleb-agent")]


# -- the frozen build's beginning ---------------------------------------------------------------


@pytest.fixture
def ran(monkeypatch):
    """What `frozen.main` would run: (module, arguments)."""
    seen = []
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("faulthandler.enable", lambda: None)
    monkeypatch.setattr("runpy.run_module", lambda name, **_: seen.append((name, sys.argv[1:])))
    return seen


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["status", "--json"], ("pleb_agent.cli", ["status", "--json"])),
        ([], ("pleb_agent.cli", [])),
        (["pleb://h/p#f"], ("pleb_agent.cli", ["open", "pleb://h/p#f"])),
        (["pleb+http://h/p#f"], ("pleb_agent.cli", ["open", "pleb+http://h/p#f"])),
        (["--run-module", "pleb_agent.tray.main", "x"], ("pleb_agent.tray.main", ["x"])),
    ],
)
def test_the_command_line_says_what_runs(ran, words, expected):
    frozen.main(["pleb-agent", *words])
    assert ran == [expected]


def test_packages_are_importable_after_our_own(ran, tmp_path):
    frozen.main(
        ["pleb-agent", "--run-module", "pleb_agent.worker.main", "--packages", str(tmp_path)]
    )
    assert ran == [("pleb_agent.worker.main", [])]
    assert sys.path[-1] == str(tmp_path.resolve())


def test_the_icon_of_the_app_starts_the_agent(ran, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    frozen.main(["pleb-agent"])
    assert ran == [("pleb_agent.cli", ["start"])]


@pytest.mark.parametrize("words", [["http.server"], [], ["pleb_agent.app"]])
def test_nothing_else_can_be_run(ran, words):
    with pytest.raises(SystemExit, match="takes one of"):
        frozen.main(["pleb-agent", "--run-module", *words])
    assert ran == []


# -- the environment ----------------------------------------------------------------------------


def test_the_users_library_path_is_given_back():
    environment = {"LD_LIBRARY_PATH": "/build/_internal:/mine", "LD_LIBRARY_PATH_ORIG": "/mine"}
    restore_library_path(environment)
    assert environment == {"LD_LIBRARY_PATH": "/mine"}


def test_the_loaders_library_path_is_taken_away():
    environment = {"LD_LIBRARY_PATH": "/build/_internal", "_PYI_ARCHIVE_FILE": "/build/x"}
    restore_library_path(environment)
    assert "LD_LIBRARY_PATH" not in environment


def test_without_a_loader_the_users_path_stays():
    environment = {"LD_LIBRARY_PATH": "/mine"}
    restore_library_path(environment)
    assert environment == {"LD_LIBRARY_PATH": "/mine"}


def test_another_build_starts_from_nothing():
    environment = fresh_environment({"_PYI_ARCHIVE_FILE": "x", "HOME": "/h"})
    assert environment == {"HOME": "/h", "PYINSTALLER_RESET_ENVIRONMENT": "1"}


# -- what is installed --------------------------------------------------------------------------


def write_build(folder: Path, facts: str, kind: str) -> None:
    described = folder / "pleb-build"
    described.mkdir()
    (described / "build.json").write_text(facts)
    (described / "packaged-by").write_text(kind)


def test_from_source_the_distribution_is_asked():
    installation = read_installation()
    assert installation.kind is InstallKind.SOURCE
    assert installation.version[0].isdigit()
    assert not installation.has_updates


def test_a_build_says_its_version_and_address(tmp_path):
    write_build(tmp_path, '{"version": "0.2.0", "update_url": "https://u.example"}', "rpm\n")
    (tmp_path / "pleb-build" / "root.json").write_bytes(b"root")
    installation = read_build(tmp_path, tmp_path)
    assert (installation.kind, installation.version) == (InstallKind.RPM, "0.2.0")
    assert installation.has_updates
    assert installation.root == b"root"


def test_a_build_without_an_address_needs_no_root(tmp_path):
    write_build(tmp_path, '{"version": "0.2.0"}', "deb")
    assert not read_build(tmp_path, tmp_path).has_updates


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ('{"version": "1"}', "snap"),
        ("{", "deb"),
        ("{}", "deb"),
        ('{"version": "1", "update_url": "https://u.example"}', "deb"),
    ],
)
def test_a_damaged_build_says_what_to_do(tmp_path, facts, kind):
    write_build(tmp_path, facts, kind)
    with pytest.raises(BrokenInstallationError, match="install it again"):
        read_build(tmp_path, tmp_path)
