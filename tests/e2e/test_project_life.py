"""A project's life from the commands that a researcher types, with the same agents throughout."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pleb_project.cli import main as project_main
from pleb_project.server.records import Home
from pleb_shared.tensors.layout import load_tensors
from tests.e2e.world import PROJECTS, checked, run_here, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


class Researcher:
    """Types commands in a copy of the project's folder, with what `check` has measured of it."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.home = world.root / "researcher"
        shutil.copytree(PROJECTS / "tiny", folder)
        build = Home(self.home).build_folder("tiny")
        shutil.copytree(checked(PROJECTS / "tiny")[1].folder, build)

    def run(self, *arguments: object, check: bool = True) -> Any:
        return run_here(project_main, *arguments, "--home", self.home, check=check)

    def publish(self, *arguments: object, check: bool = True) -> Any:
        where = ("--to", self.world.url, "--no-passphrase")
        return self.run("publish", self.folder, *where, *arguments, check=check)

    def reads(self, sentence: str) -> None:
        """Wait until `status` says the sentence: what it says may be half a second old."""

        def said() -> bool:
            return sentence in self.run("status", "tiny")["waiting"]

        wait_until(f"status says {sentence!r}", said, seconds=10)

    def change(self, file: str, before: str, after: str) -> None:
        text = (self.folder / file).read_text("utf-8")
        assert before in text
        (self.folder / file).write_text(text.replace(before, after), "utf-8")

    def export(self, name: str, *which: object) -> dict[str, Any]:
        file = self.folder / f"{name}.safetensors"
        self.run("export", "tiny", file, *which)
        return load_tensors(file.read_bytes())


def test_a_projects_life_with_agents_attached_throughout(world: World, tmp_path: Path) -> None:
    world.serve()
    researcher = Researcher(world, tmp_path / "tiny")
    published_and_finished(world, researcher)
    continued(world, researcher)
    restarted_with_another_model(world, researcher)
    every_version_can_be_read(world, researcher, tmp_path)
    started_from_an_export_and_stopped_at_its_target(world, researcher)
    world.check_alive()


def published_and_finished(world: World, researcher: Researcher) -> None:
    """Without an invite it is refused before anything is computed; with one it finishes."""
    researcher.change("project.toml", "versions = 200", "versions = 3")
    refused = researcher.publish("--invite", "0" * 32, check=False)
    assert "invite" in refused["message"]
    researcher.publish("--invite", world.invite("publisher"))
    link = shown(world)["attach_link"]
    researcher.reads("No PC has joined yet: share the attach link.")
    for name in ("trusted", "volunteer"):
        world.attach(name, link, trusted=name == "trusted")
        world.start_agent(name)
    finished(world, 3)
    researcher.reads("The project has reached its last version, 3.")


def continued(world: World, researcher: Researcher) -> None:
    """With more versions it goes on by itself, from the third, in the same epoch."""
    researcher.change("project.toml", "versions = 3", "versions = 5")
    researcher.publish()
    researcher.run("pause", "tiny", "--because", "Lunch.")
    researcher.reads("The researcher has paused the project: Lunch.")
    researcher.run("resume", "tiny")
    finished(world, 5)
    assert world.admin("model", "verify", "tiny")["verified"]


def restarted_with_another_model(world: World, researcher: Researcher) -> None:
    """Another model and other steps start again from version 0; nobody touches the agents.

    It ends when the number of versions is lowered.
    """
    researcher.change("model.py", "32", "24")
    researcher.change("project.toml", "local_steps = 5", "local_steps = 8")
    refused = researcher.publish(check=False)
    assert "--new-epoch" in refused["message"]
    before = verified(world, "volunteer")
    researcher.publish("--new-epoch", "--set", "training.versions=1000")
    wait_until("the volunteer to count", lambda: verified(world, "volunteer") > before, seconds=180)
    assert (shown(world)["epoch"], refusals(world)) == (1, 0)
    researcher.publish()
    finished(world, 5)


def every_version_can_be_read(world: World, researcher: Researcher, folder: Path) -> None:
    """Both epochs stay readable, and every version comes out of the log again."""
    versions = world.admin("model", "list", "tiny")
    assert {version["epoch"] for version in versions} == {0, 1}
    assert world.admin("model", "verify", "tiny")["verified"]
    assert hidden_units(world, folder / "old.safetensors", "--epoch", 0) == 32
    assert hidden_units(world, folder / "new.safetensors") == 24
    assert researcher.export("latest")["2.weight"].shape == (24, 64)
    best = researcher.run("status", "tiny")["best_version"]
    assert [v["version"] for v in versions if v["best"] and v["epoch"] == 1] == [best]
    by_number = researcher.export("number", "--version", best)["2.weight"]
    assert np.array_equal(researcher.export("best", "--best")["2.weight"], by_number)
    assert not np.array_equal(researcher.export("average", "--ema")["2.weight"], by_number)
    # The operator may end it too; open again it is what it was.
    assert world.admin("project", "archive", "tiny")["state"] == "archived"
    assert world.admin("project", "resume", "tiny")["state"] == "finished"


def started_from_an_export_and_stopped_at_its_target(world: World, researcher: Researcher) -> None:
    """The first model again, from what it had learnt."""
    first = researcher.export("first", "--version", "0/5")
    researcher.change("model.py", "24", "32")
    researcher.change("project.toml", "value = 0.9", "value = 0.1\nstop_at_target = true")
    researcher.change("project.toml", "versions = 5", "versions = 50")
    model = '[model]\ninitial = "first.safetensors"\n\n[training]'
    researcher.change("project.toml", "[training]", model)
    researcher.publish("--new-epoch")
    wait_until("the target", lambda: shown(world)["state"] == "finished", seconds=180)
    assert shown(world)["version"] < 50
    researcher.reads("reached its target with version")
    start = researcher.export("start", "--version", "2/0")
    assert all(np.array_equal(start[name], first[name]) for name in first)

    # An earlier version by its name instead of a file, of a model that does not fit.
    researcher.change("project.toml", "first.safetensors", "tiny@1/best")
    refused = researcher.publish("--new-epoch", check=False)
    assert "float32 [24, 64] there and float32 [32, 64] in the model" in refused["message"]


def finished(world: World, version: int) -> None:
    """Wait until the last version, this one or a later one, is made and measured."""

    def done() -> bool:
        world.check_alive()
        project = shown(world)
        ended = "reached its last version" in project["waiting"]
        return bool(ended and project["version"] >= version)

    try:
        wait_until(f"version {version}, measured", done, seconds=240)
    except AssertionError as error:
        raise AssertionError(f"{error}: {shown(world)['waiting']}\n{world.tails()}") from None


def shown(world: World) -> Any:
    return world.admin("project", "show", "tiny")


def verified(world: World, name: str) -> int:
    hosts = world.admin("host", "list", "tiny")
    return next(int(host["units_valid"]) for host in hosts if host["display_name"] == name)


def refusals(world: World) -> int:
    return sum(host["refused"] for host in world.admin("host", "list", "tiny"))


def hidden_units(world: World, file: Path, *options: object) -> int:
    world.admin("model", "export", "tiny", file, *options)
    return int(load_tensors(file.read_bytes())["2.weight"].shape[0])
