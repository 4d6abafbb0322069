"""What `pleb-project new` writes: a commented project that runs at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_template"]

_PROJECT: Final = """\
# A project of Pleb-Cluster. Every key and its default: docs/project-file.md.
#   pleb-project check .     export the model, measure a unit
#   pleb-project try .       train some versions on this PC
#   pleb-project publish . --to https://HOST

[project]
name = "{name}"
title = "{name}"
description = "What it is for, in a few sentences."
data_licence = "The licence of the data: volunteers can read the shards."

[data]
source = "sklearn:wine"        # or csv, text, idx, npz, python
holdout = 0.2                  # share kept for evaluation

[training]
optimizer = "adamw"
learning_rate = 0.01
batch = 16
local_steps = 20               # steps in a unit of work
versions = 10                  # the project is finished at this version
shards_per_unit = 2

[round]
units = 2                      # units that make the next version

[target]
metric = "accuracy"            # a name that evaluate() returns
value = 0.95
"""

_MODEL: Final = '''\
"""The model: three functions, which pleb-project exports as graphs."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy


def model() -> nn.Module:
    """Return the untrained model.

    Smooth activations (SiLU, GELU) and no bias before a norm keep honest results close to one
    another on all kinds of PCs, so that wrong ones stand out.
    """
    return nn.Sequential(nn.Linear(13, 32), nn.SiLU(), nn.Linear(32, 3))


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss of a batch, a dict of inputs with the names that the data reader gives."""
    return cross_entropy(model(batch["x"]), batch["y"])


def evaluate(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return means over the batch: the loss and any other metrics."""
    scores = model(batch["x"])
    right = scores.argmax(dim=1) == batch["y"]
    return {"loss": cross_entropy(scores, batch["y"]), "accuracy": right.float().mean()}
'''


def write_template(folder: Path) -> list[Path]:
    """Write project.toml and model.py into `folder` and return their paths.

    Raises:
        InputError: one of them exists already, or the folder cannot be made.
    """
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in folder.resolve().name.lower())
    name = name.strip("-")[:40].strip("-") or "my-project"
    files = {folder / "project.toml": _PROJECT.format(name=name), folder / "model.py": _MODEL}
    for file in files:
        if file.exists():
            raise InputError(f"{file} already exists: choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    return list(files)
