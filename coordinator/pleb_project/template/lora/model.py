"""Fine-tuning a GPT-2 with LoRA: its weights stay as they are, small matrices beside them learn.

Put a model's Hugging Face folder (config.json, model.safetensors, tokenizer.json) into base/:

    pip install huggingface_hub tokenizers
    hf download openai-community/gpt2 --local-dir base

Volunteers fetch the base once; a unit sends and gets only what is trained. For other models use
`transformers` in model(), and add_lora() with the names of their layers.

Hu et al. 2021, "LoRA: low-rank adaptation of large language models".
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

HERE = Path(__file__).parent


class Lora(nn.Module):
    """A layer that stays, plus a product of two small matrices that learn."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)  # at first it is as the base

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [..., in] as [..., out]."""
        out: torch.Tensor = self.base(x) + self.up(self.down(x))
        return out


class Block(nn.Module):
    """A block of GPT-2, with the names of its weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the next layer's x [batch, time, width]."""
        batch, time, width = x.shape
        parts = self.c_attn(self.ln_1(x)).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.c_proj(mixed.transpose(1, 2).reshape(batch, time, width))
        out: torch.Tensor = x + self.c_out(gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))
        return out


class Gpt2(nn.Module):
    """Scores [batch, time, vocabulary] of the token after each of x int64 [batch, time]."""

    def __init__(self, vocabulary: int, places: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(places, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores; the head is the embedding, as in GPT-2."""
        hidden = self.wte(x) + self.wpe.weight[: x.shape[1]]
        for block in self.h:
            hidden = block(hidden)
        return nn.functional.linear(self.ln_f(hidden), self.wte.weight)


def load_base(folder: Path) -> Gpt2:
    """Return the model of a Hugging Face folder, with its weights."""
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"there is no {folder / 'config.json'}: see the top of model.py")
    config = json.loads((folder / "config.json").read_text())
    model = Gpt2(
        config["vocab_size"],
        config["n_positions"],
        config["n_embd"],
        config["n_layer"],
        config["n_head"],
    )
    weights = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        short = name.removeprefix("transformer.").replace("mlp.c_proj", "c_out")
        short = short.replace("attn.c_", "c_").replace("mlp.", "")
        if short in model.state_dict():
            turned = short.endswith("weight") and ".c_" in short  # Conv1D has [in, out]
            weights[short] = tensor.t().contiguous() if turned else tensor
    model.load_state_dict(weights)
    return model


def add_lora(model: nn.Module, names: tuple[str, ...], rank: int) -> None:
    """Freeze the model, and put small matrices beside its linear layers of these names."""
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if name in names and isinstance(layer, nn.Linear):
                setattr(module, name, Lora(layer, rank))


def model(folder: str = "base", rank: int = 4) -> nn.Module:
    """Return the base with untrained adapters."""
    base = load_base(HERE / folder)
    add_lora(base, ("c_attn", "c_proj"), rank)
    return base


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean loss per token: x int64 [batch, window], y the tokens that follow each."""
    return cross_entropy(model(batch["x"]).flatten(0, 1), batch["y"].flatten())


def evaluate(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return means over the batch."""
    return {"loss": loss(model, batch)}
