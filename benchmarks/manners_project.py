"""A project whose steps take a wished time, published to a real coordinator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_agent.program.clock import system_clock
from pleb_project.check.draft import make_draft
from pleb_project.definition.load import load_definition
from pleb_project.publish import Publisher
from pleb_project.readers.blobs import BlobFolder
from pleb_project.server.client import Address, Coordinator
from pleb_project.server.records import Home

if TYPE_CHECKING:
    from pleb_project.processes import Fleet

__all__ = ["publish_project"]

UNIT_SECONDS: Final = 240.0

PROJECT: Final = """
[project]
name = "manners-{milliseconds}"
[data]
source = "sklearn:digits"
[training]
optimizer = "adamw"
batch = 256
local_steps = {steps}
versions = 1000
[round]
units = 64
quorum = 64
"""

MODEL: Final = """
import torch
from torch import nn
from torch.nn import functional

class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.layer = nn.Linear(64, 256), nn.Linear(256, 256)

    def forward(self, x):
        x = self.first(x.flatten(1))
        for _ in range({layers}):
            x = torch.tanh(self.layer(x))
        return x

def model():
    return Repeated()

def loss(model, batch):
    return functional.cross_entropy(model(batch["x"]), batch["y"])

def evaluate(model, batch):
    return {{"loss": loss(model, batch)}}
"""


def publish_project(fleet: Fleet, url: str, milliseconds: int, layers: int) -> str:
    """Publish as `pleb-project publish` does, but for the check, which would take minutes.

    Returns the attach link.
    """
    folder = fleet.folder / f"project-{milliseconds}"
    folder.mkdir()
    steps = min(100_000, round(UNIT_SECONDS * 1000 / milliseconds))
    project = PROJECT.format(milliseconds=milliseconds, steps=steps)
    (folder / "project.toml").write_text(project, encoding="utf-8")
    (folder / "model.py").write_text(MODEL.format(layers=layers), encoding="utf-8")
    blobs = BlobFolder(folder / "blobs")
    draft = make_draft(load_definition(folder), blobs)
    with Coordinator(Address(url)) as coordinator:
        publisher = Publisher(coordinator, Home(folder / "home"), system_clock, _hush)
        record = publisher.publish(draft.metadata, blobs, invite=fleet.invite("publisher"))
    return record.attach_link


def _hush(_: str) -> None:
    """The benchmark's output is its table."""
