"""Speech, several kinds of input, series, and adapters of peft on language models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from torch import nn

from benchmarks.zoo.case import Batch, Entry, Zoo, images, noise, whole
from benchmarks.zoo.hugging import (
    causal_batch,
    config,
    counting,
    make,
    own_loss,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ADAPTERS", "AUDIO", "SEVERAL"]

Tensor = torch.Tensor


def _sound_batch() -> Batch:
    y = whole(4)
    wave = torch.sin(torch.arange(2000) * 0.05 * (1 + y[:, None])) + 0.1 * noise(2000)
    return {"input_values": wave, "labels": y}


def _wave_head(name: str, **more: Any) -> Entry:
    small = {"conv_dim": [16, 16, 16], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 4],
             "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 8,
             "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16}  # fmt: skip
    return Entry(make(name, "ForSequenceClassification", **small | more), _sound_batch, own_loss)


def _spectrum_batch() -> Batch:
    return {"input_features": noise(16, 64), "labels": counting(length=8)}


AUDIO: Final[Zoo] = {
    "wav2vec2": _wave_head("Wav2Vec2"),
    "wav2vec2 (no SpecAugment)": _wave_head("Wav2Vec2", apply_spec_augment=False),
    "HuBERT": _wave_head("Hubert", apply_spec_augment=False),
    "WavLM": _wave_head("WavLM", apply_spec_augment=False),
    "UniSpeech": _wave_head("UniSpeech", apply_spec_augment=False),
    "SEW": _wave_head("SEW", apply_spec_augment=False, squeeze_factor=2),
    "wav2vec2 (CTC)": Entry(
        make("Wav2Vec2", "ForCTC", conv_dim=[16, 16, 16], conv_stride=[5, 4, 4],
              conv_kernel=[10, 8, 4], num_feat_extract_layers=3, num_conv_pos_embeddings=8,
              num_conv_pos_embedding_groups=2, apply_spec_augment=False),
        lambda: {"input_values": noise(2000), "labels": counting()[:, :4]}, own_loss,
    ),
    "Whisper": Entry(
        make("Whisper", "ForConditionalGeneration", num_mel_bins=16, max_source_positions=32,
              max_target_positions=32),
        _spectrum_batch, own_loss,
    ),
    "Speech2Text": Entry(
        make("Speech2Text", "ForConditionalGeneration", input_feat_per_channel=16,
              conv_channels=32, max_source_positions=64, max_target_positions=32),
        lambda: {"input_features": noise(64, 16), "labels": counting(length=8)}, own_loss,
    ),
    "Audio Spectrogram Transformer": Entry(
        make("AST", "ForAudioClassification", num_mel_bins=16, max_length=64,
              frequency_stride=8, time_stride=8),
        lambda: {"input_values": noise(64, 16) + whole(4)[:, None, None], "labels": whole(4)},
        own_loss,
    ),
}  # fmt: skip


def _two_towers(name: str, vision: str, text: str) -> Callable[[], nn.Module]:
    def built() -> nn.Module:
        both = getattr(transformers, f"{name}Config")(
            text_config=config(text, projection_dim=16).to_dict(),
            vision_config=config(vision, projection_dim=16).to_dict(),
            projection_dim=16,
        )
        model: nn.Module = getattr(transformers, f"{name}Model")(both)
        return model

    return built


def _towers_loss(model: Any, batch: Batch) -> Tensor:
    found: Tensor = model(**batch, return_loss=True).loss
    return found


def _captions() -> Batch:
    pictures = images(3, 32)
    return {
        "input_ids": counting() * 0 + 3 + pictures["y"][:, None],
        "pixel_values": pictures["x"],
    }


def _times() -> Tensor:
    phase = whole(16)[:, None].float()
    return torch.sin((torch.arange(40) + phase) * 0.4)[..., None] + 0.1 * noise(40, 1)


SEVERAL: Final[Zoo] = {
    "CLIP": Entry(_two_towers("CLIP", "CLIPVision", "CLIPText"), _captions, _towers_loss),
    "SigLIP": Entry(_two_towers("Siglip", "SiglipVision", "SiglipText"), _captions, _towers_loss),
    "ViLT": Entry(
        make("Vilt", "ForQuestionAnswering", max_image_length=-1),
        lambda: _captions() | {"labels": torch.eye(4)[whole(4)]}, own_loss,
        "choosing entries by their values",  # patches by its mask of pixels
    ),
    "PatchTST": Entry(
        make("PatchTST", "ForPrediction", context_length=32, prediction_length=8, patch_length=8,
              patch_stride=8, num_input_channels=1),
        lambda: {"past_values": _times()[:, :32], "future_values": _times()[:, 32:]}, own_loss,
    ),
    "PatchTSMixer": Entry(
        make("PatchTSMixer", "ForPrediction", context_length=32, prediction_length=8,
              patch_length=8, patch_stride=8, num_input_channels=1),
        lambda: {"past_values": _times()[:, :32], "future_values": _times()[:, 32:]}, own_loss,
    ),
    "Decision Transformer": Entry(
        make("DecisionTransformer", "Model", state_dim=4, act_dim=3, max_ep_len=32, n_head=4),
        lambda: {"states": noise(8, 4), "actions": noise(8, 3), "returns": noise(8, 1)},
        lambda m, b: m(
            states=b["states"], actions=b["actions"], rewards=b["returns"],
            returns_to_go=b["returns"],
            timesteps=torch.arange(8).expand(b["states"].shape[0], 8),
            attention_mask=torch.ones(b["states"].shape[:2]), return_dict=True,
        ).action_preds.sub(b["actions"]).square().mean(),
    ),
}  # fmt: skip


def _adapted(name: str, head: str, peft_name: str, **options: Any) -> Callable[[], nn.Module]:
    def built() -> nn.Module:
        import peft

        base = make(name, head)()
        adapter = getattr(peft, f"{peft_name}Config")(task_type="CAUSAL_LM", **options)
        model: nn.Module = peft.get_peft_model(base, adapter)
        return model

    return built


def _adapter(peft_name: str, head: str = "LMHeadModel", **options: Any) -> Entry:
    options.setdefault("target_modules", ["c_attn"])
    return Entry(_adapted("GPT2", head, peft_name, **options), causal_batch, own_loss)


_REFUSED: Final = {
    "C3A": "Complex numbers",
    "FourierFT": "Complex numbers",
    "VBLoRA": "must not depend on a tensor's values",  # looks for infinite ones in each step
    "WaveFT": "choosing entries by their values",
}
"""Words of the reason by adapter."""

ADAPTERS: Final[Zoo] = {
    "LoRA": _adapter("Lora", r=4, lora_dropout=0.1, fan_in_fan_out=True),
    "LoRA (rank-stabilised)": _adapter("Lora", r=4, use_rslora=True, fan_in_fan_out=True),
    "DoRA": _adapter("Lora", r=4, use_dora=True, fan_in_fan_out=True),
    "LoRA (Llama, all linear)": Entry(
        _adapted("Llama", "ForCausalLM", "Lora", r=4, target_modules="all-linear"),
        causal_batch, own_loss,
    ),
    "LoRA (and embeddings)": Entry(
        _adapted("Llama", "ForCausalLM", "Lora", r=4, target_modules=["q_proj"],
                 modules_to_save=["lm_head"]),
        causal_batch, own_loss,
    ),
    "LoHa": Entry(
        _adapted("Llama", "ForCausalLM", "LoHa", r=4, target_modules=["q_proj", "v_proj"]),
        causal_batch, own_loss,
    ),
    "LoKr": Entry(
        _adapted("Llama", "ForCausalLM", "LoKr", r=4, target_modules=["q_proj", "v_proj"]),
        causal_batch, own_loss,
    ),
    "AdaLoRA": Entry(
        _adapted("Llama", "ForCausalLM", "AdaLora", init_r=4, target_r=2, total_step=100,
                 target_modules=["q_proj", "v_proj"]),
        causal_batch, own_loss,
    ),
    "IA3": Entry(
        _adapted("Llama", "ForCausalLM", "IA3", target_modules=["k_proj", "down_proj"],
                 feedforward_modules=["down_proj"]),
        causal_batch, own_loss,
    ),
    "OFT": Entry(
        _adapted("Llama", "ForCausalLM", "OFT", r=0, oft_block_size=4,
                 target_modules=["q_proj"]),
        causal_batch, own_loss,
    ),
    "prompt tuning": Entry(
        _adapted("Llama", "ForCausalLM", "PromptTuning", num_virtual_tokens=4), causal_batch,
        own_loss,
    ),
    "prefix tuning": Entry(
        _adapted("Llama", "ForCausalLM", "PrefixTuning", num_virtual_tokens=4), causal_batch,
        own_loss,
    ),
    "prefix tuning (projected)": Entry(
        _adapted("Llama", "ForCausalLM", "PrefixTuning", num_virtual_tokens=4,
                 prefix_projection=True, encoder_hidden_size=16),
        causal_batch, own_loss,
    ),
    **{
        name: Entry(
            _adapted("Llama", "ForCausalLM", config, **options), causal_batch, own_loss,
            _REFUSED.get(config, ""),
        )
        for name, config, options in (
            ("p-tuning", "PromptEncoder", {"num_virtual_tokens": 4, "encoder_hidden_size": 16}),
            ("VeRA", "Vera", {"r": 4, "target_modules": ["q_proj", "v_proj"]}),
            ("BOFT", "BOFT", {"boft_block_size": 4, "target_modules": ["q_proj"]}),
            ("LN tuning", "LNTuning", {"target_modules": ["input_layernorm"]}),
            ("FourierFT", "FourierFT", {"n_frequency": 20, "target_modules": ["q_proj"]}),
            ("VB-LoRA", "VBLoRA", {
                "r": 4, "vector_length": 8, "num_vectors": 16, "topk": 2,
                "target_modules": ["q_proj"]}),
            ("RandLoRA", "RandLora", {"r": 4, "target_modules": ["q_proj"]}),
            ("RoAd", "Road", {"variant": "road_1", "group_size": 8, "target_modules": ["q_proj"]}),
            ("MiSS", "Miss", {"r": 4, "target_modules": ["q_proj"]}),
            ("HiRA", "Hira", {"r": 4, "target_modules": ["q_proj"]}),
            ("DeLoRA", "Delora", {"r": 4, "target_modules": ["q_proj"]}),
            ("trainable tokens", "TrainableTokens", {
                "token_indices": [0, 1, 2], "target_modules": ["embed_tokens"]}),
            ("C3A", "C3A", {"block_size": 8, "target_modules": ["q_proj"]}),
            ("WaveFT", "WaveFT", {"n_frequency": 20, "target_modules": ["q_proj"]}),
            ("GraLoRA", "Gralora", {"r": 4, "gralora_k": 2, "target_modules": ["q_proj"]}),
        )
    },
}  # fmt: skip
