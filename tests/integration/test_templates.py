"""Every template of `pleb-project new`: it can be exported as it is, learns, and loads strictly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load

from pleb_project.check.draft import make_draft
from pleb_project.check.learning import dry_run
from pleb_project.check.researcher_code import load_code
from pleb_project.cli import main
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_project.template import TEMPLATES
from pleb_shared.protocol.project import elements
from tests.gpt2_folder import write_gpt2


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
        write_gpt2(folder / "base")
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
