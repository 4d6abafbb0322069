"""A VAE, a diffusion model and a U-Net, whose losses draw: three agents, one of which lies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pleb_project.check.researcher_code import load_code
from pleb_project.definition.load import load_definition
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import ShardList
from pleb_shared.tensors.layout import load_tensors
from tests.e2e.recompute import recompute
from tests.e2e.world import PROJECTS, Running, World, checked, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
LIAR = Path(__file__).parents[2] / "examples" / "liar" / "liar.py"


@pytest.mark.parametrize("name", ["vae", "diffusion", "unet"])
def test_a_liar_beside_honest_agents_is_caught(
    name: str, shared_world: World, tmp_path: Path
) -> None:
    world = shared_world
    link = world.publish(PROJECTS / name)
    liar = start_liar(world, name, link)
    wait_until("the liar to ask for units", lambda: is_measured(world, name))
    world.join(link)
    world.wait_for_end(name, seconds=400)
    liar.kill()

    hosts = {host["display_name"]: host for host in world.admin("host", "list", name)}
    assert hosts["liar"]["refused"] > 0
    assert (hosts["liar"]["units_valid"], hosts["liar"]["credit"]) == (0, 0.0)
    assert (hosts["trusted"]["refused"], hosts["volunteer"]["refused"]) == (0, 0)
    versions, wrong = recompute(world.home, name)
    assert (versions, wrong) == (7, [])

    file = tmp_path / "model.safetensors"
    world.admin("model", "export", name, file)
    first, last = (page(world, name, version) for version in (0, 6))
    assert scores(name, load_file(file)) == pytest.approx(last, rel=1e-4)
    assert last["loss"] < 0.95 * first["loss"]


def start_liar(world: World, project: str, link: str) -> Running:
    command = [sys.executable, str(LIAR), link, "--name", "liar", "--threads", "1"]
    return Running(f"liar of {project}", command, world.root / f"liar-{project}.log").start()


def is_measured(world: World, project: str) -> bool:
    """Whether the only host so far has calibrated; otherwise it may come too late to lie."""
    return any(host["determinism_class"] for host in world.admin("host", "list", project))


def page(world: World, project: str, version: int) -> dict[str, float]:
    """The metrics of a version that the project's page shows."""
    series = world.admin("project", "show", project)["series"]
    return next(point["metrics"] for point in series if point["version"] == version)


def scores(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """What the researcher's own code says of the exported model on the whole holdout."""
    definition = load_definition(PROJECTS / name)
    code = load_code(definition.model, definition.folder)
    code.model.load_state_dict(tensors, strict=True)
    code.model.eval()
    metadata, blobs = checked(PROJECTS / name)
    listed = blobs.get(metadata.data.shards.digest)
    shards = strict_json.decode(listed, ShardList, most_bytes=LIMITS.shard_list_bytes)
    arrays: list[Any] = [load_tensors(blobs.get(shard.digest))["x"] for shard in shards.holdout]
    with torch.no_grad():
        found = code.evaluate(code.model, {"x": torch.from_numpy(np.concatenate(arrays))})
    return {metric: float(value) for metric, value in found.items()}
