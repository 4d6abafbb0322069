"""The public workflow: it can be read, and names only what is there."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/packages.yml").read_text("utf-8"))
STEPS = [(job, step) for job, value in WORKFLOW["jobs"].items() for step in value["steps"]]
RUNS = [step["run"] for _, step in STEPS if "run" in step]


def test_every_system_is_built():
    assert set(WORKFLOW["jobs"]) == {"linux", "windows", "macos"}


def test_every_file_that_a_step_runs_exists():
    named = {name for run in RUNS for name in re.findall(r"installers/[\w/.-]+\.\w+", run)}
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_module_that_a_step_runs_exists():
    modules = {name for run in RUNS for name in re.findall(r"python -m (installers[\w.]+)", run)}
    assert len(modules) >= 3
    missing = [m for m in modules if not (ROOT / m.replace(".", "/")).with_suffix(".py").is_file()]
    assert missing == []


@pytest.mark.parametrize("job", ["linux", "windows", "macos"])
def test_what_is_not_signed_is_named_so(job):
    value = WORKFLOW["jobs"][job]
    assert re.fullmatch(
        r"\$\{\{ secrets\.\w+ == '' && '-unsigned' \|\| '' \}\}", value["env"]["SUFFIX"]
    )
    upload = value["steps"][-1]
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["with"]["name"].endswith("${{ env.SUFFIX }}")
    assert any("mark_unsigned.sh" in step.get("run", "") for step in value["steps"])


def test_secrets_reach_only_the_steps_that_sign():
    for job, step in STEPS:
        for name, value in step.get("env", {}).items():
            assert "secrets." in value, (job, name)
            assert "sign" in step["name"].lower(), (job, step["name"])


def test_the_workflow_may_only_read():
    assert WORKFLOW["permissions"] == {"contents": "read"}


SCRIPTS = sorted((ROOT / "installers").rglob("*.sh")) + sorted(
    (ROOT / "installers/macos/scripts").iterdir()
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shell_scripts_are_well_formed_and_stop_at_errors(script):
    subprocess.run(["sh", "-n", script], check=True)
    assert "set -eu" in script.read_text("utf-8")


@pytest.mark.parametrize("script", ["preinstall", "postinstall"])
def test_package_scripts_of_macos_may_be_executed(script):
    path = ROOT / "installers/macos/scripts" / script
    assert path.stat().st_mode & stat.S_IXUSR


def test_unsigned_packages_get_names_that_say_so(tmp_path):
    names = ["a.deb", "b-1.rpm", "c.exe", "d.pkg", "e-1.pkg.tar.zst", "f.tar.xz", "f.tar.xz.json"]
    for name in names:
        (tmp_path / name).touch()
    for _ in range(2):
        subprocess.run(["sh", ROOT / "installers/build/mark_unsigned.sh", tmp_path], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a-unsigned.deb", "b-1-unsigned.rpm", "c-unsigned.exe", "d-unsigned.pkg",
        "e-1-unsigned.pkg.tar.zst", "f.tar.xz", "f.tar.xz.json",
    ]  # fmt: skip
