"""A small GPT-2 over bytes in Hugging Face's format, as `save_pretrained` writes one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path


def write_gpt2(folder: Path, *, width: int = 32, layers: int = 2) -> None:
    """Write config.json and model.safetensors with untrained weights."""
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
