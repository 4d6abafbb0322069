"""What a model says and sees, from the project file to the page: real agents make it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pleb_agent.cli import main as agent_main
from pleb_shared.protocol.sealing import read_reading
from tests.e2e.world import PROJECTS, World, run_here, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXAMPLES = """
[showcase]
examples = 10
classes = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
"""
FUNCTION = """

def showcase(model, batch):
    return model(batch["x"].float() / 16)
"""
TEXT = """
[project]
name = "words"
contact = "tests@example.org"

[data]
source = "text"
files = "words.txt"
window = 16

[training]
optimizer = "adamw"
learning_rate = 0.02
batch = 16
local_steps = 20
versions = 12

[round]
units = 2
quorum = 2
grace_seconds = 0.5

[limits]
lease_seconds = 60

[showcase]
prompt = "to be or "
tokens = 16
temperature = 0
"""
WORDS = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy, silu

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(256, 24)
        self.mix = nn.Conv1d(24, 64, 8)
        self.head = nn.Linear(64, 256)

    def forward(self, x):
        seen = nn.functional.pad(self.embedding(x).transpose(1, 2), (7, 0))
        return self.head(silu(self.mix(seen)).transpose(1, 2))

def model():
    return Words()

def loss(model, batch):
    return cross_entropy(model(batch["x"]).flatten(0, 1), batch["y"].flatten())

def evaluate(model, batch):
    return {"loss": loss(model, batch)}
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path / "world")
    found.root.mkdir()
    try:
        yield found
    finally:
        found.close()


def right(card: dict[str, Any], answer: dict[str, Any]) -> int:
    """Return how many examples a version gets right."""
    truths = [example["truth"][0] for example in card["examples"]]
    rows = answer["shown"]["rows"]
    return sum(row[0][0] == truth for row, truth in zip(rows, truths, strict=True))


def test_the_page_shows_what_the_first_and_the_newest_version_see(
    world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(PROJECTS / "tiny", folder)
    with (folder / "project.toml").open("a") as file:
        file.write(EXAMPLES)
    with (folder / "model.py").open("a") as file:
        file.write(FUNCTION)
    world.serve()
    link = world.publish(folder)
    world.attach("trusted", link, trusted=True)
    world.start_agent("trusted")
    address = f"{world.url}/projects/tiny/showcase"

    def shown(least: int) -> Any:
        world.check_alive()
        found = httpx.get(address).json()
        newest = found["newest"]
        return found if newest and right(found["card"], newest) >= least else None

    first = wait_until("the first version's answer", lambda: shown(0))
    assert first["kind"] == "classes"
    assert first["card"]["classes"][3] == "three"
    assert first["card"]["examples"][0]["inputs"][0]["kind"] == "picture"
    found = wait_until("a version that reads most digits", lambda: shown(7))
    card, before, newest = found["card"], found["before"], found["newest"]
    assert before["version"] == 0
    assert right(card, newest) > right(card, before)
    page = httpx.get(f"{world.url}/projects/tiny").text
    assert f"version 0 got {right(card, before)} right" in page

    [project] = run_here(agent_main, "projects", "--home", world.root / "trusted")["projects"]
    own = httpx.get(project["showcase"].partition("#")[0])
    assert project["showcase"].endswith("#showcase")
    assert project["showcase_since_ours"]
    assert own.is_success
    assert "?from=0" in project["showcase"], "this PC was there from the first version on"


def test_members_alone_read_what_a_private_model_says(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "project.toml").write_text(TEXT)
    (folder / "model.py").write_text(WORDS)
    (folder / "words.txt").write_text("to be or not to be, that is the question. " * 300)
    world.serve()
    link = world.publish(folder, access="invited")
    world.attach("trusted", link, trusted=True)
    world.start_agent("trusted")
    address = f"{world.url}/projects/words/showcase"
    [reading] = (world.root / "trusted" / "keys").glob("*.reading")
    headers = {"Authorization": f"Pleb {read_reading(reading.read_bytes()).reader}"}

    def said() -> Any:
        world.check_alive()
        found = httpx.get(address, headers=headers).json()
        answers = [found["before"], found["newest"]]
        if not all(answers):
            return None
        texts = [bytes(answer["shown"]["tokens"]).decode("latin-1") for answer in answers]
        return texts if texts[1].startswith("not to be") else None

    before, newest = wait_until("the model to know how it goes on", said)
    assert newest == "not to be, that "
    assert not before.startswith("not")
    assert httpx.get(address).status_code == 404
    assert httpx.get(f"{world.url}/projects/words/shown").status_code == 404
