"""The child's environment: what it must have, and nothing that it need not know."""

from __future__ import annotations

from pathlib import Path

from pleb_agent.worker.child import child_environment
from pleb_agent.worker.job import WorkerSettings

SETTINGS = WorkerSettings(threads=3, memory_bytes=2**30)


def test_secrets_and_other_settings_stay_with_the_agent(tmp_path: Path) -> None:
    given = {"API_TOKEN": "x", "OMP_NUM_THREADS": "8", "HTTP_PROXY": "y", "LANG": "C"}
    environment = child_environment(given, tmp_path, SETTINGS)
    assert not {"API_TOKEN", "HTTP_PROXY"} & environment.keys()
    assert environment["LANG"] == "C"


def test_threads_are_set_before_the_libraries_are_loaded(tmp_path: Path) -> None:
    environment = child_environment({}, tmp_path, SETTINGS)
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
    assert [environment[name] for name in names] == ["3", "3", "1"]


def test_relative_import_paths_hold_in_the_work_directory(tmp_path: Path) -> None:
    environment = child_environment({"PYTHONPATH": "agent:shared"}, tmp_path, SETTINGS)
    expected = f"{Path('agent').resolve()}:{Path('shared').resolve()}"
    assert environment["PYTHONPATH"] == expected
