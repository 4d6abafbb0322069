"""Only what training changes travels: fine-tuning on a frozen base, constant masks, half precision.

Each model is exported, trained for a unit, and combined to the next version, as a project would be.
"""

from __future__ import annotations

import math

import msgspec
import pytest
import torch
from torch import nn

from pleb_coordinator.aggregation.outer_step import OuterState, next_version
from pleb_coordinator.aggregation.versions import snapshot_interval
from pleb_project.export import Exported, export_model
from pleb_shared.errors import EncodingError, GraphError, InputError, RefusalCode
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.project import ModelSpec, ProjectMetadata, elements, tensor_bytes
from pleb_shared.tensors.format import DeltaFormat, difference_format, training_format
from pleb_shared.tensors.layout import load_tensors, save_tensors
from pleb_shared.tensors.version import whole_model
from pleb_shared.training.local_sgd import UnitRun
from tests.small_projects import BATCH, small_project, train_unit

WIDTH, CLASSES = 32, 4


class Lora(nn.Module):
    """A frozen layer, and a trained product of two thin matrices beside it (Hu et al. 2021)."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        self.a = nn.Linear(base.in_features, rank, bias=False)
        self.b = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


class Adapted(nn.Module):
    """A checkpoint with low-rank adapters; `dtype` is what the checkpoint is stored in."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.layers = nn.ModuleList(
            Lora(nn.Linear(WIDTH, WIDTH, bias=False, dtype=dtype)) for _ in range(3)
        )
        self.head = nn.Linear(WIDTH, CLASSES, dtype=dtype).requires_grad_(requires_grad=False)
        self.dtype = dtype
        for layer in self.layers:
            layer.to(dtype)

    def forward(self, x):
        x = x.to(self.dtype)
        for layer in self.layers:
            x = x + nn.functional.silu(layer(x))
        return self.head(x).float()


class Headed(nn.Module):
    """A frozen encoder, part of which the loss never reaches, and a trained head."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.LayerNorm(WIDTH))
        self.encoder.requires_grad_(requires_grad=False)
        self.pooler = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.head(self.encoder(x))


class Masked(nn.Module):
    """Constant masks of three kinds: numbers, booleans, and minus infinity to be added."""

    def __init__(self):
        super().__init__()
        self.qkv, self.head = nn.Linear(1, 12), nn.Linear(4, CLASSES)
        lower = torch.ones(WIDTH, WIDTH).tril()
        self.register_buffer("numbers", lower)
        self.register_buffer("booleans", lower == 0)
        self.register_buffer("added", torch.zeros(WIDTH, WIDTH).masked_fill(lower == 0, -math.inf))

    def forward(self, x):
        q, k, v = self.qkv(x[..., None]).chunk(3, -1)
        scores = (q @ k.transpose(-2, -1)).masked_fill(self.booleans, -1e9)
        scores = scores * self.numbers + self.added
        return self.head((scores.softmax(-1) @ v).mean(1))


class Quantised(nn.Module):
    """A frozen layer in 8 bits, with a scale for each row, below a trained head."""

    def __init__(self):
        super().__init__()
        self.codes: torch.Tensor
        self.scales: torch.Tensor
        self.register_buffer("codes", torch.randint(-127, 128, (WIDTH, WIDTH), dtype=torch.int8))
        self.register_buffer("scales", torch.rand(WIDTH, 1) / 64)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        weight = self.codes.to(x.dtype) * self.scales
        return self.head(nn.functional.silu(nn.functional.linear(x, weight)))


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


def evaluate(model, batch):
    return {"loss": loss(model, batch)}


def batch():
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(BATCH, WIDTH, generator=generator),
        "y": torch.randint(0, CLASSES, (BATCH,), generator=generator),
    }


def export(model) -> Exported:
    return export_model(model, loss, evaluate, batch())


def trained(exported: Exported) -> tuple[ProjectMetadata, dict[str, int], dict[str, torch.Tensor]]:
    """Return the metadata, the bytes that a round moves, and the state after it."""
    shards = [{name: tensor.numpy() for name, tensor in batch().items()}]
    project = small_project(exported, "rows", 0, shards)
    metadata, version = project.metadata, project.version
    run = UnitRun(project.graph, metadata, train_unit(), version, None, shards)
    while run.steps_done < run.steps_total:
        run.step()
    delta = run.delta()
    state = OuterState.initial(version, metadata.model)
    made = next_version(version, state, [(delta, 1.0)], metadata, warm_start=False)
    base = exported.base or b""
    blobs = {digest_of(base): base}
    moved = {"up": len(delta), "down": len(difference_format(metadata).unpack(made.difference))}
    assert len(made.difference) < 1.001 * moved["down"] + 64
    moved["state"] = len(run.state())
    moved["snapshot"] = len(save_tensors(made.version))
    whole = whole_model(made.version, metadata.model, blobs.__getitem__)
    return metadata, moved, torch_state(whole)


def torch_state(whole):
    from safetensors.torch import load

    return load(save_tensors(whole))


def trained_numbers(model: ModelSpec) -> int:
    return sum(map(elements, model.parameters))


@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        (Adapted, 3 * 2 * 2 * WIDTH),
        (lambda: Adapted(torch.bfloat16), 3 * 2 * 2 * WIDTH),
        (Headed, (WIDTH + 1) * CLASSES),
        (Masked, 24 + 5 * CLASSES),
        (Quantised, (WIDTH + 1) * CLASSES),
    ],
    ids=["lora", "lora-bfloat16", "head", "masks", "int8"],
)
def test_a_round_moves_what_is_trained_and_no_more(make, numbers):
    torch.manual_seed(1)
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exported = export(model)
    assert trained_numbers(exported.model) == numbers
    metadata, moved, after = trained(exported)
    codec_bytes = numbers / 2
    scales = 2 * sum(-(-elements(s) // 64) + 1 for s in metadata.model.parameters)
    for way in ("up", "down"):
        assert codec_bytes <= moved[way] <= codec_bytes + scales, way
    assert moved["up"] == training_format(metadata).size
    assert moved["down"] == difference_format(metadata).size
    assert moved["snapshot"] < 4 * numbers + 4096
    assert moved["state"] < 3 * 4 * numbers + 8192

    assert exported.base is not None
    assert len(exported.base) < tensor_bytes(metadata.model.base_tensors) + 4096
    with pytest.raises(EncodingError) as caught:
        training_format(metadata).check(bytes(moved["up"]) + exported.base)
    assert caught.value.code == RefusalCode.WRONG_SIZE, "no delta reaches the base"

    # All of the model comes out: the base as it was, what is trained changed
    make().load_state_dict(after, strict=True)
    changing = {spec.name for spec in metadata.model.parameters}
    for name, tensor in before.items():
        same = torch.equal(tensor, after[name].to(tensor.dtype))
        assert same == (name not in changing), name


@pytest.mark.parametrize(("codec", "versions"), [("fp32", 8), ("int8", 11), ("int4", 22)])
def test_a_host_that_follows_downloads_little_more_than_differences(codec, versions):
    """A version is kept whole when the differences since the last one weigh about three of it."""
    exported = export(Adapted())
    encoding = DeltaFormat(exported.model, codec, 256)
    interval = snapshot_interval(encoding)
    assert interval == versions
    whole = len(exported.initial)
    assert encoding.size + whole / interval < (2.3 if codec == "fp32" else 1.5) * encoding.size


def test_trained_weights_of_half_precision_have_float32_masters():
    """Steps that are too small for bfloat16 add up."""
    torch.manual_seed(1)
    exported = export(Adapted(torch.bfloat16))
    assert {spec.dtype for spec in exported.model.parameters} == {"float32"}
    assert {spec.dtype for spec in exported.model.base_tensors} == {"bfloat16"}
    _, _, after = trained(exported)
    moved = after["layers.0.b.weight"]
    assert not torch.equal(moved, moved.bfloat16().float())


def test_muon_steps_no_frozen_matrix():
    exported = export(Adapted())
    names = {spec.name for spec in exported.model.parameters}
    assert set(exported.matrices) == names
    patterns = [name for name, _ in Adapted().named_parameters() if name.endswith("weight")]
    chosen = export_model(Adapted(), loss, evaluate, batch(), matrices=patterns).matrices
    assert set(chosen) == names


def test_a_mask_that_every_layer_makes_is_in_the_graph_once():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)
            self.mask: torch.Tensor
            self.register_buffer("mask", torch.ones(1, WIDTH).tril(WIDTH // 2), persistent=False)

        def forward(self, x):
            return nn.functional.silu(self.linear(x) * self.mask)

    exported = export(nn.Sequential(Layer(), Layer(), Layer(), nn.Linear(WIDTH, CLASSES)))
    assert len(parse_graph(exported.training_graph).constants) == 1
    assert exported.base is None


def test_a_buffer_that_only_evaluate_changes_is_no_part_of_the_base():
    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(WIDTH, CLASSES)
            self.seen: torch.Tensor
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            if not self.training:
                self.seen.add_(1)
            return self.head(x)

    exported = export(Counted())
    assert [spec.name for spec in exported.model.buffers] == ["seen"]
    assert exported.base is None


def test_a_buffer_of_half_precision_that_changes_is_refused_with_advice():
    model = nn.Sequential(nn.Linear(WIDTH, CLASSES), nn.BatchNorm1d(CLASSES)).bfloat16()

    def half(model, batch):
        return nn.functional.cross_entropy(model(batch["x"].bfloat16()).float(), batch["y"])

    with pytest.raises(InputError, match=r"'1.running_mean' is bfloat16 and changes"):
        export_model(model, half, lambda m, b: {"loss": half(m, b)}, batch())


def test_all_frozen_is_refused():
    with pytest.raises(GraphError, match="trained parameter"):
        export(Headed().requires_grad_(requires_grad=False))


def test_the_base_is_not_loaded_from_other_bytes():
    exported = export(Headed())
    version = load_tensors(exported.initial)
    other = msgspec.structs.replace(exported.model, base=None)
    assert whole_model(version, other, lambda _: b"").keys() == version.keys()
    with pytest.raises(EncodingError, match="not the one that its researcher signed"):
        whole_model(version, exported.model, lambda _: (exported.base or b"")[:-1] + b"\0")
