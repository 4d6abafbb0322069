"""A job's files: read once where they can be kept, and refused where they are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch

from pleb_agent.worker import inputs
from pleb_agent.worker.devices.cpu import Cpu
from pleb_agent.worker.errors import BrokenInput, OutOfMemory
from pleb_agent.worker.inputs import (
    BaseCache,
    GraphCache,
    ShardsInTurn,
    VersionCache,
    memory_of_shards,
    read_metadata,
    read_shards,
)
from pleb_shared.errors import EncodingError, GraphError, RefusalCode
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.project import SgdMomentum
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.format import difference_format
from pleb_shared.tensors.layout import save_tensors, version_digest
from pleb_shared.tensors.packing import pack
from tests.unit.worker.sample_job import FEATURES, make_job, sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_agent.worker.job import Job

MODEL = sample().metadata.model


def digest_from(cache: VersionCache, job: Job) -> str:
    tensors, _ = cache.get(job, read_metadata(job))
    return version_digest(tensors, MODEL)


def forget_snapshot(job: Job) -> Job:
    (job.input_dir / job.snapshot).unlink()
    return job


def test_shards_in_turn_are_those_of_the_job_one_in_memory(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    sizes = [(job.input_dir / name).stat().st_size for name in job.shards]
    assert memory_of_shards(job) == sum(sizes)
    name = "last.safetensors"
    (job.input_dir / name).write_bytes(save_tensors({"x": np.ones((3, 2), np.float32)}))
    unit = msgspec.structs.replace(job.unit, kind=UnitKind.EVALUATE)
    job = msgspec.structs.replace(job, unit=unit, shards=[*job.shards, name])
    assert memory_of_shards(job) == max(*sizes, (job.input_dir / name).stat().st_size)
    shards, all_at_once = ShardsInTurn(job), read_shards(job)
    assert len(shards) == len(all_at_once)
    for number in (0, 2, 1, 0):
        assert shards[number].keys() == all_at_once[number].keys()
        for key, array in all_at_once[number].items():
            assert np.array_equal(shards[number][key], array)
    (job.input_dir / job.shards[0]).unlink()
    assert shards[0].keys() == all_at_once[0].keys(), "it is kept"
    assert shards[1:][-1]["x"].shape == (3, 2)
    with pytest.raises(BrokenInput, match="fetch it again"):
        shards[0]
    with pytest.raises(BrokenInput, match="fetch it again"):
        memory_of_shards(job)


def test_a_version_is_rebuilt_from_its_snapshot(tmp_path: Path) -> None:
    job = make_job(tmp_path, version=3)
    assert digest_from(VersionCache(), job) == sample().digests[3]


def test_the_next_version_needs_only_the_difference(tmp_path: Path) -> None:
    cache = VersionCache()
    digest_from(cache, make_job(tmp_path, name="a", version=1))
    job = forget_snapshot(make_job(tmp_path, name="b", version=3))
    (job.input_dir / job.differences[0]).unlink()
    assert digest_from(cache, job) == sample().digests[3]


def test_the_same_version_needs_nothing(tmp_path: Path) -> None:
    cache = VersionCache()
    digest_from(cache, make_job(tmp_path, name="a", version=2))
    assert (
        digest_from(cache, forget_snapshot(make_job(tmp_path, name="b", version=2)))
        == sample().digests[2]
    )


def test_an_older_version_is_rebuilt(tmp_path: Path) -> None:
    cache = VersionCache()
    digest_from(cache, make_job(tmp_path, name="a", version=3))
    assert digest_from(cache, make_job(tmp_path, name="b", version=1)) == sample().digests[1]


def test_a_rebuilt_history_of_another_project_is_not_gone_on_from(tmp_path: Path) -> None:
    cache = VersionCache()
    job = make_job(tmp_path, name="a", version=2)
    metadata = read_metadata(job)
    cache.get(job, msgspec.structs.replace(metadata, root_key="3" * 64))
    with pytest.raises(BrokenInput):
        cache.get(forget_snapshot(make_job(tmp_path, name="b", version=3)), metadata)


def test_a_version_of_another_member_of_the_family_is_not_gone_on_from(tmp_path: Path) -> None:
    cache = VersionCache()
    job = make_job(tmp_path, name="a", version=2)
    cache.get(job, read_metadata(job))
    other = forget_snapshot(make_job(tmp_path, name="b", version=2, of="other"))
    with pytest.raises(BrokenInput):
        cache.get(other, read_metadata(other))


def test_members_of_a_family_with_one_graph_have_each_their_own_cost(tmp_path: Path) -> None:
    """What a graph's run needs depends on the optimizer too."""
    cache = GraphCache(2**30, Cpu())
    job = make_job(tmp_path, name="a")
    metadata = read_metadata(job)
    training = msgspec.structs.replace(metadata.training, optimizer=SgdMomentum())
    other = msgspec.structs.replace(metadata, project="other", training=training)
    large, small = cache.get(job, metadata), cache.get(job, other)
    assert large.cost.memory_bytes > small.cost.memory_bytes
    assert cache.get(job, metadata) is large


def test_the_last_difference_comes_along_for_the_momentum(tmp_path: Path) -> None:
    fresh, cached = VersionCache(), VersionCache()
    job = make_job(tmp_path, name="a", version=2)
    _, expected = fresh.get(job, read_metadata(job))
    jobs = [make_job(tmp_path, name=f"b{i}", version=v) for i, v in enumerate((1, 2, 2))]
    found = [cached.get(job, read_metadata(job))[1] for job in jobs][-1]
    assert expected is not None
    assert found is not None
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    zero = make_job(tmp_path, name="e", version=0)
    assert VersionCache().get(zero, read_metadata(zero))[1] is None


def test_a_version_that_equals_the_one_before_has_a_difference_of_its_own(tmp_path: Path) -> None:
    """Else a PC that has the earlier one in memory computes other bits than one that has not."""
    known = make_job(tmp_path, name="a", version=1)
    same = make_job(tmp_path, name="b", version=2)
    metadata = read_metadata(same)
    model = metadata.model
    zeros = {s.name: np.zeros(s.shape, s.dtype) for s in [*model.parameters, *model.buffers]}
    nothing = pack(difference_format(metadata).encode(zeros))
    (same.input_dir / same.differences[1]).write_bytes(nothing)
    source = msgspec.structs.replace(same.version, digest=known.version.digest)
    same = msgspec.structs.replace(same, version=source)
    warm = VersionCache()
    warm.get(known, metadata)
    for cache in (warm, VersionCache()):
        tensors, difference = cache.get(same, metadata)
        assert version_digest(tensors, MODEL) == known.version.digest
        assert difference is not None
        assert not any(array.any() for array in difference.values())


@pytest.mark.parametrize("packed", [True, False])
def test_damage_is_found_by_checksum_and_version_digest(tmp_path: Path, packed: bool) -> None:
    job = make_job(tmp_path, version=1)
    path = job.input_dir / job.differences[0]
    encoding = difference_format(read_metadata(job))
    data = bytearray(path.read_bytes() if packed else encoding.unpack(path.read_bytes()))
    data[-1] ^= 1
    path.write_bytes(data if packed else pack(bytes(data)))
    with pytest.raises(EncodingError) as caught:
        digest_from(VersionCache(), job)
    codes = {RefusalCode.WRONG_DIGEST, RefusalCode.NOT_FINITE}
    assert caught.value.code in ({RefusalCode.MALFORMED} if packed else codes)


def test_the_base_is_read_once_for_all_versions(tmp_path: Path) -> None:
    cache = BaseCache(Cpu().place)
    first = make_job(tmp_path, name="a", version=0)
    tensors = cache.get(first, read_metadata(first))
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {"scale": torch.bfloat16}
    later = make_job(tmp_path, name="b", version=3)
    (later.input_dir / later.base).unlink()
    assert cache.get(later, read_metadata(later)) is tensors


@pytest.mark.parametrize("damage", [lambda data: data[:-1] + b"x", lambda data: b"", None])
def test_another_base_than_the_signed_one_is_not_used(
    tmp_path: Path, damage: Callable[[bytes], bytes] | None
) -> None:
    job = make_job(tmp_path)
    path = job.input_dir / job.base
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BrokenInput, match="fetch it again"):
        BaseCache(Cpu().place).get(job, read_metadata(job))


def test_a_signed_base_must_hold_the_signed_tensors(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    metadata, path = read_metadata(job), job.input_dir / job.base
    assert metadata.model.base is not None
    for data in (b"", save_tensors({"other": np.zeros(2, np.float32)}), path.read_bytes()[:-2]):
        path.write_bytes(data)
        blob = blob_of(data)
        base = msgspec.structs.replace(metadata.model.base, blob=blob)
        model = msgspec.structs.replace(metadata.model, base=base)
        with pytest.raises(EncodingError):
            BaseCache(Cpu().place).get(job, msgspec.structs.replace(metadata, model=model))


def test_a_graph_does_not_run_on_another_base(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    compiled = GraphCache(2**30, Cpu()).get(job, read_metadata(job)).compiled
    for wrong in ({}, {"scale": torch.ones(FEATURES)}, {"scale": torch.ones(3).bfloat16()}):
        with pytest.raises(GraphError, match="'scale'"):
            compiled.with_base(wrong)


def test_another_graph_than_the_signed_one_is_not_even_parsed(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    (job.input_dir / job.graph).write_bytes(b"{}")
    with pytest.raises(BrokenInput, match="fetch it again"):
        GraphCache(2**30, Cpu()).get(job, read_metadata(job))


def test_a_signed_graph_with_a_strange_operator_is_refused(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    path = job.input_dir / job.graph
    data = path.read_bytes().replace(b"aten.relu.default", b"aten.from_file.default")
    path.write_bytes(data)
    blob = blob_of(data)
    metadata = msgspec.structs.replace(read_metadata(job), training_graph=blob)
    with pytest.raises(GraphError, match="from_file"):
        GraphCache(2**30, Cpu()).get(job, metadata)


@pytest.mark.parametrize("kind", [UnitKind.TRAIN, UnitKind.EVALUATE])
def test_a_unit_beyond_the_volunteers_memory_is_refused(tmp_path: Path, kind: UnitKind) -> None:
    job = make_job(tmp_path, kind=kind)
    with pytest.raises(OutOfMemory, match="this PC gives"):
        GraphCache(1000, Cpu()).get(job, read_metadata(job))


def test_a_unit_beyond_the_projects_own_word_is_refused(tmp_path: Path) -> None:
    job = make_job(tmp_path, width=60_000, memory_bytes=2**20)
    with pytest.raises(OutOfMemory, match="the project declares"):
        GraphCache(2**30, Cpu()).get(job, read_metadata(job))


def test_a_kept_version_of_another_model_is_not_built_upon(tmp_path):
    cache = VersionCache()
    first = make_job(tmp_path / "first", width=32, version=1)
    second = make_job(tmp_path / "second", width=64, version=2)
    cache.get(first, read_metadata(first))
    tensors, _ = cache.get(second, read_metadata(second))
    assert tensors["layers.0.weight"].shape == (64, 16)


@pytest.mark.parametrize(("most_bytes", "kept"), [(2**21, 6), (0, 5)])
def test_graphs_of_many_members_are_kept_while_they_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int, kept: int
) -> None:
    monkeypatch.setattr(inputs, "_GRAPH_BYTES_KEPT", most_bytes)
    cache, job = GraphCache(2**30, Cpu()), make_job(tmp_path, name="a")
    members = [
        msgspec.structs.replace(read_metadata(job), project=f"member-{number}")
        for number in range(6)
    ]
    first = [cache.get(job, member) for member in members]
    again = [cache.get(job, member) for member in reversed(members)]
    assert sum(any(one is other for other in first) for one in again) == kept
