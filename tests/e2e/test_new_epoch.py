"""A researcher changes the model of a running project; its agents follow by themselves."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from pleb_shared.tensors.layout import load_tensors
from tests.e2e.world import PROJECTS, run_cli, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.world import World

pytestmark = pytest.mark.e2e


def test_a_new_epoch_from_the_command_to_the_agents(world: World, tmp_path: Path) -> None:
    world.serve()
    folder = tmp_path / "tiny"
    shutil.copytree(PROJECTS / "tiny", folder)
    link = world.publish(PROJECTS / "tiny")
    for name in ("trusted", "volunteer"):
        world.attach(name, link, trusted=name == "trusted")
        world.start_agent(name)
    world.wait_for_version("tiny", 2)
    wait_until("the volunteer to count", lambda: verified(world, "volunteer"))

    # Another model and other steps start again from version 0.
    change(folder / "model.py", "32", "24")
    change(folder / "project.toml", "local_steps = 5", "local_steps = 8")
    researcher = ("--home", world.root / "researcher")
    run_cli("pleb_project", "publish", folder, "--new-epoch", "--to", world.url, *researcher)
    assert shown(world)["epoch"] == 1

    # Nobody touches the agents: they take the new metadata, calibrate again and train.
    before = verified(world, "volunteer")
    world.wait_for_version("tiny", 2)
    assert shown(world)["epoch"] == 1
    wait_until("the volunteer to count again", lambda: verified(world, "volunteer") > before)
    assert refusals(world) == 0

    # Both epochs stay readable, and every version comes out of the log again.
    versions = world.admin("model", "list", "tiny")
    assert {version["epoch"] for version in versions} == {0, 1}
    assert world.admin("model", "verify", "tiny")["verified"]
    assert hidden_units(world, tmp_path / "old.safetensors", "--epoch", 0) == 32
    assert hidden_units(world, tmp_path / "new.safetensors") == 24
    latest = tmp_path / "latest.safetensors"
    run_cli("pleb_project", "export", "tiny", latest, *researcher)
    assert load_tensors(latest.read_bytes())["1.weight"].shape == (24, 64)


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, after), "utf-8")


def shown(world: World):
    return world.admin("project", "show", "tiny")


def verified(world: World, name: str) -> int:
    hosts = world.admin("host", "list", "tiny")
    return next(int(host["units_valid"]) for host in hosts if host["display_name"] == name)


def refusals(world: World) -> int:
    return sum(host["refused"] for host in world.admin("host", "list", "tiny"))


def hidden_units(world: World, file: Path, *options: object) -> int:
    world.admin("model", "export", "tiny", file, *options)
    return int(load_tensors(file.read_bytes())["1.weight"].shape[0])
