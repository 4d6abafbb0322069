"""A unit's directories are removed, but for what a worker could still fill unseen."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pleb_agent.journal.rows import ProjectRow
from pleb_agent.loop.files import UnitDirectories, clean_work_dir, remove_units
from tests.unit.agent.test_journal import new_project

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


NEW = new_project()
FIELDS = dataclasses.fields(NEW)


def project(number: int, name: str, family: str = "", root: str = "a", host: str = "x.org") -> Any:
    """A row as the journal has it."""
    values: dict[str, Any] = {field.name: getattr(NEW, field.name) for field in FIELDS}
    values |= {"family": family, "link": f"https://{host}/join/{name}#{root * 64}"}
    more: dict[str, Any] = {"base_url": f"https://{host}", "detaching": False, "attached_at": 0.0}
    return ProjectRow(**values, **more, id=number, name=name)


def attached(*projects: Any, units: Iterable[Any] = ()) -> Any:
    """A journal."""
    return SimpleNamespace(
        hosts=lambda: list(projects),
        projects=lambda _: list(projects),
        open_assignments=lambda: list(units),
    )


def unit(number: int, of: int) -> Any:
    return SimpleNamespace(id=number, project=of)


def made(project: Path, name: str) -> UnitDirectories:
    unit = UnitDirectories(project, name)
    for directory in unit.both:
        directory.mkdir(parents=True)
    (unit.both[0] / "shard-0.safetensors").write_bytes(b"data")
    (unit.both[1] / "delta.bin").write_bytes(b"delta")
    return unit


def test_an_output_that_is_still_open_stays_empty_until_it_is_closed(tmp_path: Path) -> None:
    held, other = made(tmp_path, "1"), made(tmp_path, "2")
    delta = held.both[1] / "delta.bin"
    with delta.open("r+b"):
        held.remove()
        assert not held.both[0].exists()
        assert delta.stat().st_size == 0
    other.remove()
    assert not any(path.exists() for path in (*held.both, *other.both))


def test_a_unit_that_is_computed_keeps_its_files(tmp_path: Path) -> None:
    ended, computed = made(tmp_path, "1"), made(tmp_path, "2")
    ended.remove()
    assert all(any(directory.iterdir()) for directory in computed.both)


def test_a_file_that_is_only_read_is_no_obstacle(tmp_path: Path) -> None:
    unit = made(tmp_path, "1")
    with (unit.both[1] / "delta.bin").open("rb"):
        unit.remove()
    assert not unit.both[1].exists()


def test_links_in_the_place_of_outputs_lead_nowhere(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "mine").write_bytes(b"mine")
    unit = made(tmp_path / "work", "1")
    (unit.both[1].parent / "7").symlink_to(precious, target_is_directory=True)
    (unit.both[1] / "link").symlink_to(precious / "mine")
    unit.remove()
    assert (precious / "mine").read_bytes() == b"mine"
    assert not unit.both[1].exists()


LOOKING = """
import sys, time
from pathlib import Path
from pleb_agent.worker.plain_files import is_being_written
end = time.monotonic() + 0.5
while time.monotonic() < end:
    is_being_written(Path(sys.argv[1]))
"""
OPENING = """
import os, sys
while True:
    os.close(os.open(sys.argv[1], os.O_WRONLY))
"""


def test_a_worker_that_opens_a_file_at_that_moment_signals_nobody_to_death(tmp_path: Path) -> None:
    (tmp_path / "delta.bin").touch()
    path = str(tmp_path / "delta.bin")
    with subprocess.Popen([sys.executable, "-c", OPENING, path]) as opening:
        try:
            subprocess.run([sys.executable, "-c", LOOKING, path], check=True, timeout=60)
        finally:
            opening.kill()


def test_only_what_one_key_signed_as_one_family_at_one_coordinator_shares_a_folder() -> None:
    first = project(1, "grid-1", "grid")
    assert project(2, "grid-2", "grid").work_folder == first.work_folder
    strangers = [
        project(3, "grid-3"),
        project(4, "grid-4", "grid", root="b"),
        project(5, "grid-5", "grid", host="y.org"),
        project(6, "other-1", "other"),
        project(7, "alone"),
    ]
    assert len({row.work_folder for row in (first, *strangers)}) == 6


def test_units_of_members_lie_side_by_side_and_go_one_by_one(tmp_path: Path) -> None:
    one, other, alone = project(1, "g-1", "g"), project(2, "g-2", "g"), project(3, "alone")
    units = [unit(11, of=1), unit(12, of=2), unit(13, of=3)]
    rows = {row.id: row for row in (one, other, alone)}
    places = [UnitDirectories.of(tmp_path, rows[u.project], u) for u in units]
    assert places[0].folder == places[1].folder != places[2].folder
    for place in places:
        made(place.folder, place.name)

    def there() -> list[bool]:
        return [all(directory.exists() for directory in place.both) for place in places]

    clean_work_dir(tmp_path, attached(one, other, alone, units=units))
    assert there() == [True] * 3
    assert not list(tmp_path.rglob("shard-*")), "none lies there in the clear"
    remove_units(tmp_path, one, units[:1], attached(other, alone))
    assert there() == [False, True, True]
    remove_units(tmp_path, other, units[1:2], attached(alone))
    assert there() == [False, False, True]
    assert not places[1].folder.exists()


def test_what_families_left_is_cleaned_when_the_agent_starts(tmp_path: Path) -> None:
    member, units = project(1, "g-1", "g"), [unit(11, of=1)]
    kept, ended = (UnitDirectories.of(tmp_path, member, unit(n, of=1)) for n in (11, 12))
    gone = UnitDirectories.of(tmp_path, project(2, "h-1", "h"), unit(13, of=2))
    for place in (kept, ended, gone):
        made(place.folder, place.name)
    clean_work_dir(tmp_path, attached(member, units=units))
    assert kept.both[1].exists()
    assert not any(path.exists() for path in (*ended.both, gone.folder))
