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
from tests.gpt2_folder import write_gpt2

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SHORT = ("--set", "training.versions=2")
FEW_STEPS = ("--set", "training.local_steps=5")
NEEDS_STEPS = {"diffusion"}
"""Templates whose loss is too noisy to fall in a few steps, which `check` demands."""
TRIED = "lora"
"""`try` does with one agent what the rest does with two: once is enough, with the most parts."""


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
    template: str, shared_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, researcher = shared_world, Researcher(tmp_path / "researcher", capsys)
    name, folder = f"my-{template}", tmp_path / f"my-{template}"
    short = SHORT if template in NEEDS_STEPS else SHORT + FEW_STEPS
    began = time.monotonic()
    researcher.run("new", folder, "--template", template)
    if template == "lora":  # the one thing that its researcher must bring
        write_gpt2(folder / "base")
    researcher.run("check", folder, *short)
    if template == TRIED:
        tried, _ = researcher.run("try", folder, "--versions", 1, *short)
        assert tried["versions"] >= 1

    to = ("--to", world.url, "--invite", world.invite("publisher"), "--no-passphrase")
    contact = ("--set", "project.contact=anna@example.org")
    published, said = researcher.run("publish", folder, *to, *short, *contact)
    assert "as the last check measured" in said, "nothing is measured twice"
    link = published["attach_link"]
    world.join(link)
    world.wait_for_version(name, 1)
    seconds = time.monotonic() - began
    print(f"{template}: {seconds:.0f} s from `new` to the first verified version")  # pytest -s

    world.wait_for_end(name)
    file = tmp_path / "model.safetensors"
    researcher.run("export", link, file)
    model = load_code(load_definition(folder).model, folder).model
    before = {n: tensor.clone() for n, tensor in model.state_dict().items()}
    model.load_state_dict(load_file(file), strict=True)
    changed = {n for n, t in model.state_dict().items() if not torch.equal(before[n], t)}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert changed == trained
    status, _ = researcher.run("status", link)
    target = load_definition(folder).target
    assert target is not None
    assert target.metric in status["metrics"]
