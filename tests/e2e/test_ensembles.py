"""An ensemble from its project file to the average of what its members have learnt."""

from __future__ import annotations

import importlib.util
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pleb_agent.cli import main as agent_main
from pleb_project.check.researcher_code import load_code
from pleb_project.cli import main as project_main
from pleb_project.definition.load import load_definition
from pleb_project.server.records import Home
from tests.e2e.world import PROJECTS, checked, run_here

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
MEMBERS = ["pair-1", "pair-2"]


def test_an_ensemble_is_published_trained_and_averaged(world: World, tmp_path: Path) -> None:
    world.serve()
    folder, home = tmp_path / "pair", world.root / "researcher"
    shutil.copytree(PROJECTS / "tiny", folder)
    file = folder / "project.toml"
    text = file.read_text("utf-8").replace('name = "tiny"', 'name = "pair"')
    text = text.replace("versions = 200", "versions = 2")
    file.write_text(f"{text}\n[ensemble]\nmembers = 2\n", "utf-8")
    build = Home(home).build_folder("pair")
    shutil.copytree(checked(PROJECTS / "tiny")[1].folder, build)

    def run(*arguments: object) -> Any:
        return run_here(project_main, *arguments, "--home", home)

    # One invite publishes all members, with one root key, and each has its own beginning.
    where = ("--to", world.url, "--invite", world.invite("publisher"), "--no-passphrase")
    published = run("publish", folder, *where)
    assert (published["family"], published["members"]) == ("pair", MEMBERS)
    link = published["attach_link"]
    keys = {Home(home).root_key_file(name).read_bytes() for name in MEMBERS}
    assert len(keys) == 1
    first, second = (world.admin("project", "show", name) for name in MEMBERS)
    assert first["source"]["digest"] != second["source"]["digest"]

    # A PC joins all of them by one link, as one host, and one invite makes it trusted in all.
    world.attach("trusted", link, trusted=True)
    world.attach("volunteer", link)
    attached = agent_projects(world, "trusted")
    assert [one["project"] for one in attached] == MEMBERS
    assert {(one["role"], one["family"], one["share"]) for one in attached} == {
        ("trusted", "pair", 50)
    }
    assert len({one["host"] for one in attached}) == 1
    # Who adopts a member joins that one alone.
    run_here(agent_main, "attach", link, "--only", "--home", world.root / "adopter")
    assert [one["project"] for one in agent_projects(world, "adopter")] == MEMBERS[:1]

    for name in ("trusted", "volunteer"):
        world.start_agent(name)
    for name in MEMBERS:
        world.wait_for_end(name)

    statuses = run("status", "pair")
    assert [(one["project"], one["version"]) for one in statuses] == [(n, 2) for n in MEMBERS]
    family = world.admin("project", "show", "pair")
    assert [one["metrics"]["loss"] for one in family["members"]] == [
        one["metrics"]["loss"] for one in statuses
    ]
    averaged_is_what_was_evaluated(run, folder, tmp_path / "exported")
    written = run("distill", folder)["files"]
    assert [str(folder / "members" / f"{name}.safetensors") for name in MEMBERS] == written[2:]
    for name in ("trusted", "volunteer"):
        world.agents.pop(name).stop()
    run_here(agent_main, "detach", "pair", "--home", world.root / "volunteer")
    assert agent_projects(world, "volunteer") == []
    assert not list((world.root / "volunteer" / "keys").glob("*.key"))


def averaged_is_what_was_evaluated(run: Any, folder: Path, exported: Path) -> None:
    """The members' exported average is the module whose metrics `evaluate` has shown."""
    found = run("evaluate", folder)
    losses = [one["metrics"]["loss"] for one in found["members"]]
    assert found["average"]["loss"] < max(losses)
    members = run("export", "pair", exported)["members"]
    assert [(one["project"], one["version"]) for one in members] == [(n, 2) for n in MEMBERS]
    spec = importlib.util.spec_from_file_location("averaged", exported / "averaged.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    section = load_definition(folder).model
    averaged = module.load(exported, lambda: load_code(section, folder).model)
    one = load_code(section, folder).model
    x = torch.randn(5, *shape_of_input(one))
    with torch.no_grad():
        each = [member(x) for member in averaged.members]
        assert torch.allclose(averaged(x), torch.stack(each).mean(0))
        assert not torch.allclose(each[0], each[1])


def shape_of_input(model: torch.nn.Module) -> tuple[int, ...]:
    """Return the shape of one example, by the model's first layer."""
    layer = next(one for one in model.modules() if isinstance(one, torch.nn.Linear))
    return (layer.in_features,)


def agent_projects(world: World, name: str) -> list[dict[str, Any]]:
    found = run_here(agent_main, "projects", "--home", world.root / name)["projects"]
    return list(found)
