"""Language models and encoders of transformers, built small from their configurations.

Nothing is downloaded. transformers' configurations call the same size by many names, so each is
made with those of `_SMALL` that it knows.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from benchmarks.zoo.case import Batch, Entry, Zoo, images, whole

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import transformers  # after the variables that it reads

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CAUSAL",
    "ENCODERS",
    "SEQUENCE_TO_SEQUENCE",
    "causal_batch",
    "config",
    "counting",
    "make",
    "own_loss",
    "picture_batch",
    "text_batch",
]

Tensor = torch.Tensor

_WORDS: Final = 48
_LENGTH: Final = 16
_SMALL: Final[dict[str, Any]] = {
    "vocab_size": _WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1, "cls_token_id": 1, "sep_token_id": 2,
    "hidden_size": 32, "d_model": 32, "embedding_size": 16, "intermediate_size": 64,
    "dim": 32, "hidden_dim": 64, "emb_dim": 32, "word_embed_proj_dim": 32, "ffn_dim": 64,
    "d_ff": 64, "d_kv": 8, "d_inner": 64, "d_head": 8, "num_hidden_layers": 2, "num_layers": 2,
    "num_decoder_layers": 2, "n_layers": 2, "n_layer": 2, "encoder_layers": 2,
    "decoder_layers": 2, "num_attention_heads": 4, "num_heads": 4, "n_heads": 4, "n_head": 4,
    "num_key_value_heads": 2, "head_dim": 8, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "max_position_embeddings": 64, "n_positions": 64, "n_inner": 64, "num_local_experts": 4,
    "num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "sliding_window": 8,
    "rotary_dim": 4, "state_size": 8, "time_step_rank": 4, "num_labels": 4, "n_groups": 1,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    "attention_window": 8, "use_mamba_kernels": False, "query_pre_attn_scalar": 8,
    "dropout": 0.1, "image_size": 32, "patch_size": 8,
}  # fmt: skip


def config(name: str, **more: Any) -> Any:
    """Return the configuration `name` with the sizes of `_SMALL` that it has, and `more`."""
    kind = getattr(transformers, f"{name}Config")
    plain, other = kind(), kind.attribute_map
    sizes = {
        key: value
        for key, value in _SMALL.items()
        if (key == "num_labels" or not isinstance(getattr(kind, key, None), property))
        and other.get(key, key) not in more
        and hasattr(plain, key)
    }
    experts = more.pop("experts_implementation", None)
    made = kind(**sizes | more)
    if experts:
        made._experts_implementation = experts  # noqa: SLF001 - as from_config() would
    return made


def make(name: str, head: str, **more: Any) -> Callable[[], nn.Module]:
    def built() -> nn.Module:
        model: nn.Module = getattr(transformers, f"{name}{head}")(config(name, **more))
        return model

    return built


def own_loss(model: Any, batch: Batch) -> Tensor:
    found: Tensor = model(**batch).loss
    return found


def counting(below: int = _WORDS, length: int = _LENGTH) -> Tensor:
    """Return sequences [examples, length] that count up from 3 in steps of their own."""
    start, step = whole(below - 3)[:, None], 1 + whole(3, seed=1)[:, None]
    return 3 + (start + step * torch.arange(length)) % (below - 3)


def causal_batch() -> Batch:
    return {"input_ids": counting(), "labels": counting()}


def _padded_batch() -> Batch:
    known = (torch.arange(_LENGTH) < 8 + whole(9)[:, None]).long()
    labels = torch.where(known == 1, counting(), -100)
    return {"input_ids": counting() * known, "attention_mask": known, "labels": labels}


def _masked_batch() -> Batch:
    hidden = whole(4, _LENGTH) == 0
    tokens = counting()
    return {
        "input_ids": torch.where(hidden, 1, tokens),
        "attention_mask": torch.ones_like(tokens),
        "labels": torch.where(hidden, tokens, -100),
    }


def text_batch() -> Batch:
    return {"input_ids": counting(), "labels": whole(3, seed=1)}


def _pairs_batch() -> Batch:
    return {"input_ids": counting(), "labels": counting().flip(1)[:, :10].contiguous()}


def picture_batch() -> Batch:
    batch = images(3, 32)
    return {"pixel_values": batch["x"], "labels": batch["y"]}


def _causal(name: str, refusal: str = "", **more: Any) -> Entry:
    return Entry(make(name, "ForCausalLM", **more), causal_batch, own_loss, refusal)


def _experts(name: str, **more: Any) -> Entry:
    """Return an entry whose experts are computed by torch's operators, not by the library's own."""
    return _causal(name, experts_implementation="batched_mm", **more)


def _masked(name: str, refusal: str = "", **more: Any) -> Entry:
    return Entry(make(name, "ForMaskedLM", **more), _masked_batch, own_loss, refusal)


def _text(name: str, **more: Any) -> Entry:
    return Entry(make(name, "ForSequenceClassification", **more), text_batch, own_loss)


def _pairs(name: str, **more: Any) -> Entry:
    more.setdefault("decoder_start_token_id", 1)
    return Entry(make(name, "ForConditionalGeneration", **more), _pairs_batch, own_loss)


CAUSAL: Final[Zoo] = {
    "GPT-2": Entry(make("GPT2", "LMHeadModel"), causal_batch, own_loss),
    "GPT-2 (padded)": Entry(make("GPT2", "LMHeadModel"), _padded_batch, own_loss),
    "GPT-2 (no cache, eager attention)": Entry(
        make("GPT2", "LMHeadModel", use_cache=False, attn_implementation="eager"),
        _padded_batch, own_loss,
    ),
    "GPT-Neo": _causal("GPTNeo", attention_types=[[["global", "local"], 1]], window_size=8),
    "GPT-J": _causal("GPTJ"),
    "GPT-NeoX": _causal("GPTNeoX"),
    "OPT": _causal("OPT"),
    "BLOOM": _causal("Bloom"),
    "Llama": _causal("Llama"),
    "Llama (padded)": Entry(make("Llama", "ForCausalLM"), _padded_batch, own_loss),
    "Llama (Muon)": Entry(make("Llama", "ForCausalLM"), causal_batch, own_loss, optimizer="muon"),
    "Mistral": _causal("Mistral"),
    "Mixtral": _experts("Mixtral"),
    "Mixtral (transformers' own operator)": _causal("Mixtral", "grouped_mm_fallback"),
    "Qwen2": _causal("Qwen2"),
    "Qwen2-MoE": _experts("Qwen2Moe"),
    "Qwen3": _causal("Qwen3"),
    "Gemma": _causal("Gemma"),
    "Gemma2": _causal("Gemma2"),
    "Gemma3": Entry(
        lambda: transformers.Gemma3ForCausalLM(config("Gemma3Text")), causal_batch, own_loss
    ),
    "Phi": _causal("Phi"),
    "Phi-3": _causal("Phi3"),
    "Falcon": _causal("Falcon"),
    "StableLM": _causal("StableLm"),
    "StarCoder2": _causal("Starcoder2"),
    "Cohere": _causal("Cohere"),
    "OLMo2": _causal("Olmo2"),
    "OLMoE": _experts("Olmoe"),
    "Granite": _causal("Granite"),
    "SmolLM3": _causal("SmolLM3"),
    "DeepSeek-V3": _experts("DeepseekV3", num_key_value_heads=4),
    "GPT-OSS": _experts("GptOss"),
    "nanochat": _causal("NanoChat"),
    "Mamba": _causal("Mamba"),
    "Mamba-2": _causal("Mamba2", num_heads=8, head_dim=8, chunk_size=8),
    "RWKV": _causal("Rwkv"),
    "RecurrentGemma": _causal("RecurrentGemma", lru_width=32, attention_window_size=8,
                               use_cache=False),
    "XLNet": Entry(make("XLNet", "LMHeadModel"), causal_batch, own_loss),
    "CTRL": Entry(make("CTRL", "LMHeadModel", dff=64, n_embd=32), causal_batch, own_loss),
    "OpenAI GPT": Entry(make("OpenAIGPT", "LMHeadModel", n_embd=32), causal_batch, own_loss),
}  # fmt: skip

ENCODERS: Final[Zoo] = {
    "BERT": _masked("Bert"),
    "BERT (classifier)": _text("Bert"),
    "BERT (tagger)": Entry(
        make("Bert", "ForTokenClassification"),
        lambda: {"input_ids": counting(), "labels": counting() % 4}, own_loss,
    ),
    "BERT (spans)": Entry(
        make("Bert", "ForQuestionAnswering", num_labels=2),
        lambda: {"input_ids": counting(), "start_positions": whole(8), "end_positions": whole(8)},
        own_loss,
    ),
    "RoBERTa": _masked("Roberta"),
    "DistilBERT": _masked("DistilBert"),
    "ALBERT": _masked("Albert"),
    "ELECTRA": _masked("Electra"),
    "DeBERTa": _masked("Deberta", pos_att_type=["c2p", "p2c"], relative_attention=True),
    "DeBERTa-v2": _masked("DebertaV2", pos_att_type=["c2p", "p2c"], relative_attention=True),
    "MPNet": _masked("MPNet"),
    "MobileBERT": _masked("MobileBert", true_hidden_size=16, intra_bottleneck_size=16,
                          embedding_size=32),
    "SqueezeBERT": _masked("SqueezeBert", embedding_size=32),
    "ConvBERT": _masked("ConvBert"),
    "Funnel": _masked("Funnel", block_sizes=[1, 1]),
    "FNet": _masked("FNet", "[Cc]omplex"),
    "Longformer": _masked("Longformer", "tensor's values"),
    "BigBird": _masked("BigBird", attention_type="original_full"),
    "Nystromformer": Entry(
        make("Nystromformer", "ForSequenceClassification", num_landmarks=4,
              segment_means_seq_len=_LENGTH), text_batch, own_loss,
    ),
    "XLM": Entry(
        make("XLM", "WithLMHeadModel", n_words=_WORDS), causal_batch, own_loss, "aten.item"
    ),
    "ModernBERT": _masked("ModernBert", local_attention=8),
    "RoFormer": _masked("RoFormer"),
    "LayoutLM": _masked("LayoutLM"),
    "I-BERT": _masked("IBert", "tensor's values"),
    "Perceiver": _masked("Perceiver", num_latents=8, max_position_embeddings=_LENGTH,
                         d_latents=32, num_blocks=1,
                         num_self_attends_per_block=2, num_self_attention_heads=4,
                         num_cross_attention_heads=4),
}  # fmt: skip

SEQUENCE_TO_SEQUENCE: Final[Zoo] = {
    "T5": _pairs("T5"),
    "mT5": _pairs("MT5"),
    "BART": _pairs("Bart"),
    "mBART": _pairs("MBart"),
    "Pegasus": _pairs("Pegasus"),
    "Marian": Entry(make("Marian", "MTModel"), _pairs_batch, own_loss),
    "LED": _pairs("LED", attention_window=8, max_encoder_position_embeddings=64,
                  max_decoder_position_embeddings=64),
    "LongT5": _pairs("LongT5", local_radius=4),
    "Switch Transformers": _pairs("SwitchTransformers", num_sparse_encoder_layers=1,
                                  num_sparse_decoder_layers=1),
    "Blenderbot": _pairs("Blenderbot"),
    "ProphetNet": _pairs("ProphetNet", num_encoder_layers=2, num_encoder_attention_heads=4,
                         num_decoder_attention_heads=4),
}  # fmt: skip
