"""Vision backbones of transformers, built small from their configurations."""

from __future__ import annotations

from typing import Any, Final

import torch
import transformers
from torch import nn

from benchmarks.zoo.case import Entry, Zoo, images, noise
from benchmarks.zoo.hugging import (
    config,
    make,
    own_loss,
    picture_batch,
    text_batch,
)

__all__ = ["VISION"]

Tensor = torch.Tensor


def _picture(name: str, **more: Any) -> Entry:
    return Entry(make(name, "ForImageClassification", **more), picture_batch, own_loss)


VISION: Final[Zoo] = {
    "ViT": _picture("ViT"),
    "DeiT": _picture("DeiT"),
    "BEiT": _picture("Beit", use_relative_position_bias=True),
    "Swin": _picture("Swin", patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4],
                     window_size=4),
    "Swin v2": _picture("Swinv2", patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4],
                        window_size=4),
    "ConvNeXt (transformers)": _picture("ConvNext", patch_size=4, hidden_sizes=[16, 32],
                                        depths=[2, 2], num_stages=2),

    "ConvNeXt v2": _picture("ConvNextV2", patch_size=4, hidden_sizes=[16, 32], depths=[2, 2],
                            num_stages=2),
    "ResNet (transformers)": _picture("ResNet", embedding_size=16, hidden_sizes=[16, 32],
                                      depths=[2, 2], layer_type="basic"),
    "ResNet (bottleneck)": _picture("ResNet", embedding_size=16, hidden_sizes=[32, 64],
                                    depths=[2, 2]),
    "RegNet": _picture("RegNet", embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2],
                       groups_width=8),
    "BiT": _picture("Bit", embedding_size=16, hidden_sizes=[32, 64], depths=[1, 1], num_groups=8),
    "MobileNetV1 (transformers)": _picture("MobileNetV1", depth_multiplier=0.25),
    "MobileNetV2 (transformers)": _picture("MobileNetV2", depth_multiplier=0.25),
    "EfficientNet (transformers)": _picture("EfficientNet", width_coefficient=0.25,
                                            depth_coefficient=0.25, hidden_dim=320),
    "PVT": _picture("Pvt", hidden_sizes=[16, 16, 16, 16], depths=[1, 1, 1, 1],
                    num_attention_heads=[1, 2, 2, 2], sequence_reduction_ratios=[4, 2, 1, 1],
                    patch_sizes=[4, 2, 2, 2]),
    "PVT v2": _picture("PvtV2", hidden_sizes=[16, 16, 16, 16], depths=[1, 1, 1, 1],
                       num_attention_heads=[1, 2, 2, 2], image_size=32),
    "LeViT": Entry(
        make("Levit", "ForImageClassification", hidden_sizes=[32, 32, 32], patch_size=16,
              num_attention_heads=[2, 2, 2], depths=[1, 1, 1], key_dim=[8, 8, 8], image_size=64),
        lambda: {"pixel_values": images(3, 64)["x"], "labels": images(3, 64)["y"]}, own_loss,
    ),
    "CvT": _picture("Cvt", embed_dim=[16, 32, 32], depth=[1, 2, 3], num_heads=[1, 2, 2]),
    "PoolFormer": _picture("PoolFormer", hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1]),
    "MobileViT": _picture("MobileViT", hidden_sizes=[16, 24, 32], patch_size=2,
                          neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 32]),
    "FocalNet": _picture("FocalNet", embed_dim=16, depths=[1, 1], focal_levels=[2, 2],
                         focal_windows=[3, 3], patch_size=4),
    "DINOv2": _picture("Dinov2"),
    "DINOv3": Entry(
        lambda: transformers.DINOv3ViTModel(config("DINOv3ViT")), picture_batch,
        lambda m, b: m(b["pixel_values"]).pooler_output.sub(b["labels"][:, None]).square().mean(),
    ),
    "SwiftFormer": _picture("SwiftFormer", depths=[1, 1], embed_dims=[16, 32],
                            down_patch_size=3),
    "ViT-MSN": _picture("ViTMSN"),
    "ImageGPT": Entry(
        make("ImageGPT", "ForImageClassification", n_embd=32), text_batch, own_loss
    ),
    "HGNet-v2": _picture("HGNetV2", stem_channels=[3, 8, 8], stage_in_channels=[8, 16],
                         stage_mid_channels=[8, 8], stage_out_channels=[16, 32],
                         stage_num_blocks=[1, 1], stage_numb_of_layers=[2, 2],
                         stage_downsample=[False, True], stage_light_block=[False, True],
                         stage_kernel_size=[3, 3], hidden_sizes=[16, 32], depths=[1, 1]),
    "ViT-MAE": Entry(
        make("ViTMAE", "ForPreTraining", decoder_hidden_size=32, decoder_num_hidden_layers=1,
              decoder_num_attention_heads=4, decoder_intermediate_size=64),
        lambda: {"pixel_values": images(3, 32)["x"]}, own_loss,
    ),
    "SegFormer": Entry(
        make("Segformer", "ForSemanticSegmentation", hidden_sizes=[16, 16, 16, 16],
              depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 2], decoder_hidden_size=16,
              patch_sizes=[3, 3, 3, 3], strides=[2, 2, 2, 2]),
        lambda: {"pixel_values": images(3, 32)["x"],
                 "labels": (images(3, 32)["x"][:, 0] > 1).long()}, own_loss,
    ),
    "Swin2SR": Entry(
        lambda: transformers.Swin2SRForImageSuperResolution(
            config("Swin2SR", embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4,
                    image_size=8, patch_size=1, upscale=2)),
        lambda: {"x": noise(3, 8, 8)},
        lambda m, b: m(b["x"]).reconstruction.sub(
            nn.functional.interpolate(b["x"], scale_factor=2)).abs().mean(),
    ),
    "DPT (depth)": Entry(
        make("DPT", "ForDepthEstimation", backbone_out_indices=[0, 1, 2, 3], num_hidden_layers=4,
              neck_hidden_sizes=[16, 16, 16, 16], fusion_hidden_size=16),
        lambda: {"x": images(3, 32)["x"]},
        lambda m, b: m(b["x"]).predicted_depth.sub(b["x"].mean()).square().mean(),
    ),
}  # fmt: skip
