"""From `new` to a model that loads: what a researcher types, with two agents."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from pleb_project.check.researcher_code import load_code
from pleb_project.cli import main
from pleb_project.definition.load import load_definition
from tests.e2e.world import World, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    try:
        world.serve()
        yield world
    finally:
        world.close()


def test_a_template_becomes_a_trained_model_in_minutes(world, tmp_path, capsys):
    """`try` runs the same with processes of its own (test_project_try)."""
    began = time.monotonic()
    folder, home = tmp_path / "tables", ["--home", str(tmp_path / "researcher"), "--json"]
    assert main(["new", str(folder), "--template", "tabular", *home]) == 0
    assert main(["check", str(folder), *home]) == 0
    capsys.readouterr()
    options = ["--to", world.url, "--invite", world.invite("publisher"), "--no-passphrase"]
    assert main(["publish", str(folder), *options, *home]) == 0
    captured = capsys.readouterr()
    assert "as the last check measured" in captured.err, "nothing is measured twice"
    link = json.loads(captured.out.splitlines()[-1])["attach_link"]
    for name in ("trusted", "honest"):
        world.attach(name, link, trusted=name == "trusted")
        world.start_agent(name)
    world.wait_for_version("tables", 1)
    print(f"from `new` to the first version: {time.monotonic() - began:.0f} s")

    file = tmp_path / "model.safetensors"
    wait_until("a version to export", lambda: world.version("tables") >= 2, seconds=90)
    assert main(["export", link, str(file), *home]) == 0
    model = load_code(load_definition(folder).model, folder).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(load_file(file), strict=True)
    assert any(not torch.equal(before[n], t) for n, t in model.state_dict().items())
