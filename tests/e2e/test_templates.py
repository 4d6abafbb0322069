"""Every template of `new`, from the commands that a researcher types to a model that loads."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from pleb_project.check.researcher_code import load_code
from pleb_project.cli import main
from pleb_project.definition.load import load_definition
from pleb_project.template import TEMPLATES
from tests.e2e.world import World, wait_until
from tests.gpt2_folder import write_gpt2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

VERSIONS = 2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One coordinator and the same two agents for all templates: each attaches to each project."""
    world = World(tmp_path_factory.mktemp("templates"))
    try:
        world.serve()
        yield world
    finally:
        world.close()


class Researcher:
    """Types commands; each must succeed."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.capsys = home, capsys

    def run(self, *arguments: object) -> tuple[Any, str]:
        """Return the JSON of a command, and what it told on the way."""
        self.capsys.readouterr()
        code = main([*map(str, arguments), "--home", str(self.home), "--json"])
        said = self.capsys.readouterr()
        assert code == 0, said.out + said.err
        return json.loads(said.out.splitlines()[-1]), said.err


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_becomes_a_trained_model(
    template: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    researcher = Researcher(tmp_path / "researcher", capsys)
    folder, short = tmp_path / template, ("--set", f"training.versions={VERSIONS}")
    began = time.monotonic()
    researcher.run("new", folder, "--template", template)
    if template == "lora":  # the one thing that its researcher must bring
        write_gpt2(folder / "base")
    researcher.run("check", folder, *short)
    tried, _ = researcher.run("try", folder, "--versions", 1, *short)
    assert tried["versions"] >= 1

    to = ("--to", world.url, "--invite", world.invite("publisher"), "--no-passphrase")
    published, said = researcher.run("publish", folder, *to, *short)
    assert "as the last check measured" in said, "nothing is measured twice"
    link = published["attach_link"]
    for name in ("trusted", "volunteer"):
        world.attach(name, link, trusted=name == "trusted")
        if name not in world.agents:
            world.start_agent(name)
    world.wait_for_version(template, 1)
    seconds = time.monotonic() - began
    print(f"{template}: {seconds:.0f} s from `new` to the first verified version")  # pytest -s

    wait_until("the last version, measured", lambda: ended(world, template), seconds=180)
    file = tmp_path / "model.safetensors"
    researcher.run("export", link, file)
    model = load_code(load_definition(folder).model, folder).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(load_file(file), strict=True)
    changed = {n for n, t in model.state_dict().items() if not torch.equal(before[n], t)}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert changed == trained
    status, _ = researcher.run("status", link)
    target = load_definition(folder).target
    assert target is not None
    assert target.metric in status["metrics"]


def ended(world: World, project: str) -> bool:
    world.check_alive()
    return "reached its last version" in world.admin("project", "show", project)["waiting"]
