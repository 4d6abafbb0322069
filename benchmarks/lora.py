"""Fine-tuning with LoRA: the `lora` template in rounds against the same samples in one place.

A small GPT-2 over bytes first reads Python's help texts (that is the checkpoint a researcher would
bring); its adapters then learn another text, with the template's settings.
`gap_percent` is the loss on the holdout after all versions over that of central training with the
same optimizer, learning rate, schedule, batch and number of samples, step after step;
`gap_percent_longer` is what is left of it with half as many versions more. Several hosts share
these samples, so that even then the project takes less time than one PC.

The text is the file that the environment variable TINYSHAKESPEARE names (1.1 MB, 65 symbols), else
the source of some of Python's own modules.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from benchmarks.in_process import changed, on_holdout, samples_of, train_in_rounds
from pleb_project.check.draft import make_draft
from pleb_project.check.learning import train_centrally
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_project.template import write_template

if TYPE_CHECKING:
    from types import ModuleType

    from torch import nn

WIDTH: Final = 64
LAYERS: Final = 4
PLACES: Final = 64
CHARACTERS: Final = 400_000
SEEDS: Final = (1, 2, 3)
LONGER: Final = 1.5
"""Versions, as a multiple of the usual ones."""


def main(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="pleb-lora-") as name:
        folder = Path(name) / "lora"
        write_template(folder, "lora")
        write_base(folder, steps=300 if quick else 2500)
        put_text(folder, text_to_learn())
        return compare(folder, seeds=SEEDS[:1] if quick else SEEDS)


def compare(folder: Path, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Return the losses of the project in `folder` on the holdout, by rounds and centrally."""
    blobs = BlobFolder(folder / "blobs")
    draft = make_draft(load_definition(folder), blobs)
    training = draft.metadata.training
    samples = samples_of(draft.metadata)
    steps = samples // training.batch_examples
    central = [train_centrally(draft, blobs, steps, seed)["loss"] for seed in seeds]
    longer_versions = round(LONGER * training.versions)

    def rounds(versions: int) -> list[float]:
        project = changed(draft, training={"versions": versions})
        trained = [train_in_rounds(project, blobs, seed) for seed in seeds]
        return [on_holdout(project, blobs, version)["loss"] for version in trained]

    def gaps(losses: list[float]) -> list[float]:
        return [100 * (r / c - 1) for r, c in zip(losses, central, strict=True)]

    usual, longer = rounds(training.versions), rounds(longer_versions)
    return {
        "base_loss": rounds(0)[0],
        "central_loss": mean(central),
        "rounds_loss": mean(usual),
        "gap_percent": mean(gaps(usual)),
        "gaps_percent": gaps(usual),
        "gap_percent_longer": mean(gaps(longer)),
        "gaps_percent_longer": gaps(longer),
        "samples": samples,
        "versions": training.versions,
        "seeds": len(seeds),
    }


def text_to_learn() -> str:
    named = os.environ.get("TINYSHAKESPEARE")
    files = [Path(named)] if named else sorted(Path(os.__file__).parent.glob("*.py"))
    text = ""
    for file in files:
        text += file.read_text("utf-8")
        if len(text) >= CHARACTERS:
            break
    return text[:CHARACTERS]


def put_text(folder: Path, text: str) -> None:
    """Let the template's data.py read this text instead of the built-in one."""
    (folder / "text.txt").write_text(text, "utf-8")
    file = folder / "data.py"
    code = file.read_text("utf-8")
    before = '"\\n\\n".join(topics[name] for name in sorted(topics))[:200_000]'
    assert before in code
    after = '(HERE / "text.txt").read_text("utf-8")'
    file.write_text(code.replace(before, after), "utf-8")


def write_base(folder: Path, steps: int) -> None:
    """Train a GPT-2 with the template's code, and write it as a Hugging Face folder."""
    code = template_code(folder / "model.py")
    torch.manual_seed(0)
    model: nn.Module = code.Gpt2(256, PLACES, WIDTH, LAYERS, 4)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.02)
    text = "\n\n".join(topics[name] for name in sorted(topics)).encode()
    numbers = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        starts = torch.randint(len(numbers) - PLACES - 1, (16,), generator=generator)
        windows = torch.stack([numbers[start : start + PLACES + 1] for start in starts])
        scores = model(windows[:, :-1]).flatten(0, 1)
        optimizer.zero_grad()
        cross_entropy(scores, windows[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rates.step()
    base = folder / "base"
    base.mkdir()
    config = {"vocab_size": 256, "n_positions": PLACES, "n_embd": WIDTH}
    config |= {"n_layer": LAYERS, "n_head": 4}
    (base / "config.json").write_text(json.dumps(config))
    tensors = dict(hugging_face_name(n, t) for n, t in model.state_dict().items())
    save_file(tensors, base / "model.safetensors")


def hugging_face_name(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Return a tensor of the template's GPT-2 as `save_pretrained` would, matrices [in, out]."""
    turned = name.endswith("weight") and ".c_" in name
    for short, long in (("c_attn", "attn.c_attn"), ("c_proj", "attn.c_proj"), ("c_fc", "mlp.c_fc")):
        name = name.replace(f".{short}", f".{long}")
    name = name.replace(".c_out", ".mlp.c_proj")
    return name, (tensor.t() if turned else tensor).contiguous().clone()


def template_code(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("lora_template", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
