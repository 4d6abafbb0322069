"""Every template of `pleb-project new`: it can be exported as it is, learns, and loads strictly."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file

from pleb_project.check.draft import make_draft
from pleb_project.check.learning import dry_run
from pleb_project.check.researcher_code import load_code
from pleb_project.cli import main
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_project.template import TEMPLATES
from pleb_shared.protocol.project import elements


def hugging_face_folder(folder, *, width=32, layers=2):
    """A GPT-2 over bytes, as `save_pretrained` writes one."""
    folder.mkdir()
    config = {"vocab_size": 256, "n_positions": 64, "n_embd": width, "n_layer": layers, "n_head": 4}
    (folder / "config.json").write_text(json.dumps(config))
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (256, width), "wpe.weight": (64, width)}
    for place in ["ln_f", *(f"h.{i}.ln_{n}" for i in range(layers) for n in (1, 2))]:
        shapes |= {f"{place}.weight": (width,), f"{place}.bias": (width,)}
    for i in range(layers):
        for name, wide in (("attn.c_attn", 3), ("attn.c_proj", 1), ("mlp.c_fc", 4)):
            shapes[f"h.{i}.{name}.weight"] = (width, wide * width)  # Conv1D: [in, out]
            shapes[f"h.{i}.{name}.bias"] = (wide * width,)
        shapes[f"h.{i}.mlp.c_proj.weight"] = (4 * width, width)
        shapes[f"h.{i}.mlp.c_proj.bias"] = (width,)
        shapes[f"h.{i}.attn.bias"] = (1, 1, 64, 64)  # a mask, in files of older versions
    random = torch.Generator().manual_seed(0)
    tensors = {name: 0.1 * torch.randn(shape, generator=random) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")


def test_the_templates_are_listed(capsys):
    assert main(["new", "--list"]) == 0
    assert capsys.readouterr().out.split()[0] == "classifier"
    assert main(["new", "x", "--template", "clasifier"]) == 2
    assert "did you mean 'classifier'" in capsys.readouterr().err
    assert main(["new"]) == 2


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_exported_learns_and_loads_strictly(template, tmp_path, capsys):
    folder = tmp_path / f"My {template}"
    assert main(["new", str(folder), "--template", template]) == 0
    if template == "lora":
        hugging_face_folder(folder / "base")
    definition = load_definition(folder)
    assert definition.project.name == f"my-{template}"
    blobs = BlobFolder(tmp_path / "blobs")
    draft = make_draft(definition, blobs)
    assert definition.target is not None

    learning, version = dry_run(draft, blobs, min(10, draft.metadata.training.local_steps))
    assert learning.falls
    assert definition.target.metric in learning.metrics_after

    model = load_code(definition.model, folder).model
    tensors = {name: torch.from_numpy(np.array(a)) for name, a in version.items()}
    base = load(draft.exported.base) if draft.exported.base else {}
    names = tensors | base
    for name, first in draft.exported.shared.items():
        names[name] = names[first]
    model.load_state_dict(names, strict=True)
    if template == "lora":
        trained = sum(elements(spec) for spec in draft.exported.model.parameters)
        assert trained < 0.1 * sum(p.numel() for p in model.parameters())
        assert all(".up." in n or ".down." in n for n in tensors)
