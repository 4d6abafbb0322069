"""Hosts of different memory train different parts of one model."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pleb_coordinator.aggregation.chunked import Chunks, combined_chunks
from pleb_coordinator.aggregation.outer_step import OuterState
from pleb_coordinator.core.chunks import Link, best_chunk, link_of, why_chunk
from pleb_coordinator.core.records import NewAssignment, Purpose
from pleb_coordinator.core.unit_state import UnitState
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.chunk import Axis, Chunk, Window
from pleb_shared.protocol.graph import Graph, Node, Output, Ref, Value, parse_graph
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.reasons import ReasonCode
from pleb_shared.protocol.unit import Blob, UnitKind
from pleb_shared.tensors.chunk_view import chunk_view, view_of
from pleb_shared.tensors.format import delta_format, training_format
from pleb_shared.tensors.version import read_version
from tests.e2e import recompute as auditor
from tests.integration.steps_world import World, honest_delta
from tests.integration.test_steps_life import recomputed, version

pytestmark = pytest.mark.usefixtures("legal_moves")

MB = 2**20
FULL_BYTES, NARROW_BYTES, LAST_BYTES = 64 * MB, 40 * MB, 16 * MB
STRONG, MIDDLE, WEAK = 100 * MB, 65 * MB, 26 * MB
SIZES = (STRONG, MIDDLE, LAST_BYTES, None)


class ChunkWorld(World):
    """The whole model is w [24, 20] and b [20]: `narrow` has half of w's rows, `last` b alone."""

    def describe(self, **settings):
        metadata = super().describe(**settings)
        window = Window(units=12, kept=6, axes=[Axis(tensor="w", dimension=0, size=2)])
        nothing = Blob(digest=digest_of(b""), size=0)
        chunks = [
            Chunk(
                name="narrow",
                training_graph=nothing,
                parameters=["w", "b"],
                memory_bytes=NARROW_BYTES,
                windows=[window],
            ),
            Chunk(name="last", training_graph=nothing, parameters=["b"], memory_bytes=LAST_BYTES),
        ]
        return msgspec.structs.replace(
            metadata,
            chunks=[self.with_graph(metadata, chunk) for chunk in chunks],
            limits=msgspec.structs.replace(metadata.limits, full_bytes=FULL_BYTES),
            calibration=msgspec.structs.replace(metadata.calibration, chunk="last"),
        )

    def with_graph(self, metadata, chunk):
        view = view_of(metadata.model, chunk)
        whole = parse_graph(self.deps.blobs.get(metadata.training_graph.digest))
        rows = view.model.parameters[0].shape[0]
        graph = Graph(
            format=1,
            parameters=view.model.parameters,
            buffers=view.buffers,
            base=view.base_tensors,
            inputs=whole.inputs,
            nodes=[  # the more parameters, the more FLOPs: x [4, 20] times each row's 20 numbers
                Node(
                    op="aten.linear.default",
                    args=[Ref(slot=6), Ref(slot=0)],
                    outputs=[Value(dtype="float32", shape=[4, rows])],
                )
            ],
            outputs=[Output(name="loss", slot=7)],
        )
        data = strict_json.encode(graph)
        self.deps.blobs.put(data)
        blob = blob_of(data)
        return msgspec.structs.replace(chunk, training_graph=blob)


def fleet(world, **memory):
    return [world.volunteer(name, memory_bytes=size) for name, size in memory.items()]


def units(world, number=0):
    with world.store.read() as tx:
        return tx.units.of_round(1, 0, number, set(UnitState))


def tensors(world, number):
    return read_version(version(world, number).source, world.metadata, world.deps.blobs.get)


def test_a_host_gets_the_best_chunk_that_fits_its_memory(tmp_path):
    world = ChunkWorld(tmp_path, units=8)
    hosts = fleet(world, strong=STRONG, middle=MIDDLE, weak=WEAK, silent=None, edge=FULL_BYTES)
    chunks = [world.ask(host)[0][0].unit.chunk for host in hosts]
    assert chunks == ["full", "narrow", "last", "full", "narrow"], "a forecast needs some margin"
    assert best_chunk(world.metadata, LAST_BYTES) is None
    [tiny] = fleet(world, tiny=2 * WEAK)
    facts = world.project.facts
    rows = [msgspec.structs.replace(world.row(tiny), memory_bytes=size) for size in SIZES]
    said = [why_chunk(world.metadata, facts, row) for row in rows]
    assert said[:2] == [
        "the whole model: a unit may take 100 MiB there, and the whole model needs 100 MiB",
        (
            "narrow, which needs 64 MiB: a unit may take 65 MiB there, and the whole model needs "
            "100 MiB"
        ),
    ]
    assert said[2].startswith("none: a unit may take 16 MiB there")
    assert "does not say" in said[3]
    tiny.memory_bytes = LAST_BYTES
    _, no_work = world.ask(tiny)
    assert no_work is not None
    assert no_work.reason.code == ReasonCode.MEMORY_TOO_SMALL
    assert no_work.reason.values == {"memory": 16, "needed": 26}


def test_every_number_is_averaged_over_those_who_trained_it(tmp_path):
    world = ChunkWorld(tmp_path, units=6, quorum=4, codec="fp32", versions=3)
    hosts = fleet(world, strong=STRONG, middle=MIDDLE, weak=WEAK, weak2=WEAK)
    deltas = {}
    for host in hosts:
        [manifest] = world.ask(host)[0]
        data = world.train(host, manifest)
        deltas[host.name] = delta_format(world.metadata, manifest.unit).decode(data)
        world.answer(host, manifest)
    world.run()
    world.pass_time(31)
    assert world.project.version == 1
    narrow = chunk_view(world.metadata, "narrow")
    w, rows = deltas["strong"]["w"].copy(), slice(0, 12)
    w[rows] = (w[rows] + deltas["middle"]["w"]) / 2
    b = np.mean([delta["b"] for delta in deltas.values()], axis=0)
    mean = np.mean([deltas[name]["mean"] for name in ("strong", "weak", "weak2")], axis=0)
    places = narrow.places("w", (24, 20), 0)
    assert places is not None
    assert places[0].ravel().tolist() == list(range(12))
    with world.store.read() as tx:
        state = OuterState.from_bytes(world.deps.blobs.get(tx.versions.get(1, 0, 1).outer_state))
    np.testing.assert_allclose(state.momentum["w"], w, rtol=1e-5)
    np.testing.assert_allclose(state.momentum["b"], b, rtol=1e-5)
    moved = world.initial["mean"] - tensors(world, 1)["mean"]
    np.testing.assert_allclose(moved, mean, rtol=1e-4, atol=1e-7)
    assert all(one.matches for one in recomputed(world)), "the log makes the same version"
    assert auditor.recompute(world.home, "tiny") == (world.project.version + 1, [])


def test_what_nobody_trained_stays_and_keeps_its_momentum(tmp_path):
    world = ChunkWorld(tmp_path, units=2, quorum=2, codec="fp32", versions=9)
    [strong, strong2] = fleet(world, strong=STRONG, strong2=STRONG)
    world.work(strong, strong2)
    world.pass_time(700)  # nothing is kept for them any more
    weak = fleet(world, weak=WEAK, weak2=WEAK)
    world.work(*weak)
    middle = fleet(world, middle=MIDDLE, middle2=MIDDLE)
    world.work(*middle)
    assert world.project.version == 3
    first, second, third = (tensors(world, number) for number in (1, 2, 3))
    np.testing.assert_array_equal(first["w"], second["w"])
    assert (first["b"] != second["b"]).all()
    assert int(first["count"]) != int(second["count"]), "layers send the buffers"
    changed = (second["w"] != third["w"]).any(axis=1)
    assert changed.tolist() == [True] * 12 + [False] * 12, "version 2 has the first window again"
    np.testing.assert_array_equal(second["mean"], third["mean"])
    with world.store.read() as tx:
        before, after = (
            OuterState.from_bytes(world.deps.blobs.get(tx.versions.get(1, 0, n).outer_state))
            for n in (1, 2)
        )
    np.testing.assert_array_equal(before.momentum["w"], after.momentum["w"])
    assert all(one.matches for one in recomputed(world))
    assert auditor.recompute(world.home, "tiny") == (world.project.version + 1, [])


def test_checks_go_only_to_hosts_into_whose_memory_they_fit(tmp_path):
    world = ChunkWorld(tmp_path, units=8, audit_rate=1.0, quorum=8)
    weak = fleet(world, **{f"weak{i}": WEAK for i in range(4)})
    [strong] = fleet(world, strong=STRONG)
    [manifest] = world.ask(strong)[0]
    world.answer(strong, manifest)
    world.run()
    for host in weak:
        given, _ = world.ask(host)
        assert [one.unit.chunk for one in given] == ["last"], "no check of the whole model"
    whole = next(unit for unit in units(world) if unit.memory_bytes > MIDDLE)
    with world.store.read() as tx:
        waiting = [a for a in tx.assignments.of_unit(whole.id) if a.state == "unsent"]
    assert waiting == []
    [other] = fleet(world, other=STRONG)
    world.pass_time(120)
    assert [one.unit.chunk for one in world.ask(other)[0]], "the unit of a weak host or the check"


def test_a_host_with_a_slow_link_trains_what_is_soon_sent(tmp_path):
    world = ChunkWorld(tmp_path)
    metadata, steps = world.metadata, world.metadata.training.local_steps
    sizes = {name: training_format(metadata, name).size for name in ("full", "narrow", "last")}
    costs = {"full": 1.0, "narrow": 0.6, "last": 0.5}

    def chosen(bytes_per_second, step_seconds=1.0):
        link = Link(bytes_per_second, step_seconds, costs)
        best = best_chunk(metadata, STRONG, link)
        assert best is not None
        return best.name

    enough = {name: 10 * sizes[name] / (steps * costs[name]) for name in sizes}
    assert chosen(1.01 * enough["full"]) == "full"
    assert chosen(0.99 * enough["full"]) == "narrow"
    assert chosen(1.01 * enough["last"]) == "last"
    assert chosen(0.99 * enough["last"]) == "full", "nothing is soon sent: the memory decides"
    strong = msgspec.structs.replace(
        world.row(world.volunteer("a", memory_bytes=STRONG)),
        seconds_per_step=1.0,
        upload_bytes_per_second=1.01 * enough["last"],
        memory_bytes=STRONG,
    )
    facts = msgspec.structs.replace(
        world.project.facts, flops_per_step=10, chunk_flops={"narrow": 6, "last": 5}
    )
    assert link_of(strong, facts) == Link(1.01 * enough["last"], 1.0, costs)
    assert why_chunk(metadata, facts, strong).startswith("last: more would take long to send")


def test_half_of_a_round_is_kept_for_hosts_that_can_train_the_whole_model(tmp_path):
    world = ChunkWorld(tmp_path, units=8, quorum=8)
    weak = fleet(world, **{f"weak{i}": WEAK for i in range(8)})
    [strong] = fleet(world, strong=STRONG)
    world.ask(strong)
    given = [len(world.ask(host)[0]) for host in weak]
    assert given == [1, 1, 1, 1, 0, 0, 0, 0]
    _, no_work = world.ask(weak[4])
    assert no_work is not None
    assert no_work.reason.code == ReasonCode.CHUNKS_GIVEN
    world.pass_time(61 + 3 * world.project.median_step_seconds * 5)
    assert [len(world.ask(host)[0]) for host in weak[4:7]] == [1, 1, 1], "nobody strong came"


def test_a_fleet_of_weak_hosts_makes_versions_alone(tmp_path):
    world = ChunkWorld(tmp_path, units=4, quorum=4)
    world.work(*fleet(world, **{f"weak{i}": WEAK for i in range(4)}))
    assert world.project.version == 1


def test_a_strong_newcomer_is_examined_on_what_its_anchor_has_the_memory_for(tmp_path):
    world = ChunkWorld(tmp_path, units=8, quorum=8, new_host_units=1)
    trusted = world.volunteer("trusted", role=Role.TRUSTED, memory_bytes=MIDDLE)
    strong = world.volunteer("strong", memory_bytes=STRONG)
    [manifest] = world.ask(strong)[0]
    assert manifest.unit.chunk == "narrow"
    world.answer(strong, manifest)
    [check] = world.ask(trusted)[0]
    assert check.unit == manifest.unit
    world.answer(trusted, check)
    world.run()
    assert world.row(strong).proven
    assert world.ask(strong)[0][0].unit.chunk == "full"


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "centred_clipping"])
def test_robust_rules_go_by_those_who_hold_a_number(tmp_path, rule):
    world = ChunkWorld(tmp_path, units=4, quorum=4, codec="fp32")
    metadata = msgspec.structs.replace(
        world.metadata, outer=msgspec.structs.replace(world.metadata.outer, combination=rule)
    )
    chunks = ("full", "full", "full", "narrow", "last")
    honest = [world_delta(metadata, chunk, seed) for seed, chunk in enumerate(chunks)]
    lie = {name: 1000 * array for name, array in honest[0].items()}
    encoded = [
        training_format(metadata, chunk).encode(delta)
        for chunk, delta in zip(chunks, [lie, *honest[1:]], strict=True)
    ]
    found, untouched = combined_chunks(encoded, [1.0] * 5, Chunks(chunks, 0), metadata)
    assert not untouched
    assert np.abs(found["b"]).max() < 0.2
    assert np.abs(found["w"]).max() < 0.2
    if rule == "median":
        held = np.stack([lie["b"], *(delta["b"] for delta in honest[1:])])
        np.testing.assert_allclose(found["b"], np.median(held, axis=0), rtol=1e-5)
        rows = np.stack([lie["w"][12:], honest[1]["w"][12:], honest[2]["w"][12:]])
        np.testing.assert_allclose(found["w"][12:], np.median(rows, axis=0), rtol=1e-5)


def world_delta(metadata, chunk, seed):
    return chunk_view(metadata, chunk).taken(honest_delta(seed, 0.0), 0)


def test_credit_and_speed_count_what_a_chunk_costs(tmp_path):
    world = ChunkWorld(tmp_path, units=2, quorum=2)
    strong, weak = fleet(world, strong=STRONG, middle=MIDDLE)
    world.work(strong, weak)
    facts = world.project.facts
    assert facts.chunk_flops["narrow"] != facts.flops_per_step
    steps = world.metadata.training.local_steps
    assert world.row(strong).credit == facts.flops_per_step * steps
    assert world.row(weak).credit == facts.chunk_flops["narrow"] * steps


def test_an_abandoned_unit_becomes_one_of_a_smaller_chunk(tmp_path):
    world = ChunkWorld(tmp_path, units=1, quorum=1)
    strong, weak = fleet(world, strong=STRONG, weak=WEAK)
    assert world.ask(strong)[0][0].unit.chunk == "full"
    world.pass_time(700)
    assert world.ask(weak)[0] == [], "a strong host may still come for it"
    world.pass_time(61)
    [manifest] = world.ask(weak)[0]
    assert manifest.unit.chunk == "last"
    world.answer(weak, manifest)
    world.run()
    assert world.project.version == 1


def test_who_comes_too_late_for_a_unit_of_another_chunk_by_now_is_not_blamed(tmp_path):
    world = ChunkWorld(tmp_path, units=1, quorum=1)
    strong, weak = fleet(world, strong=STRONG, weak=WEAK)
    [old] = world.ask(strong)[0]
    world.pass_time(700)
    world.pass_time(61)
    [manifest] = world.ask(weak)[0]
    receipt = world.answer(strong, old)
    assert receipt.code == RefusalCode.LEASE_EXPIRED
    assert world.row(strong).banned_until == 0
    assert world.row(strong).setbacks == 0
    world.answer(weak, manifest)
    world.run()
    assert world.project.version == 1


def test_a_unit_that_somebody_computes_stays_of_its_chunk(tmp_path):
    world = ChunkWorld(tmp_path, units=1, quorum=1)
    strong, weak = fleet(world, strong=STRONG, weak=WEAK)
    [first] = world.ask(strong)[0]
    unit = units(world)[0].id
    with world.store.write() as tx:  # as when a second try was given back
        tx.assignments.add(NewAssignment(unit, Purpose.PRIMARY, world.clock.now - 61))
    assert world.ask(weak)[0] == []
    assert world.answer(strong, first).outcome == "stored"
    assert world.row(strong).banned_until == 0


def test_a_check_for_which_every_trusted_host_is_too_small_goes_to_volunteers(tmp_path):
    world = ChunkWorld(tmp_path, units=8, audit_rate=1.0, quorum=8)
    large = world.volunteer("large", role=Role.TRUSTED, memory_bytes=STRONG)
    small = world.volunteer("small", role=Role.TRUSTED, memory_bytes=WEAK)
    [strong] = fleet(world, strong=STRONG)
    [manifest] = world.ask(strong)[0]
    world.answer(strong, manifest)
    world.run()

    whole = next(unit.id for unit in units(world) if unit.memory_bytes > MIDDLE)

    def for_trusted():
        with world.store.read() as tx:
            found = tx.assignments.of_unit(whole)
        return [one for one in found if one.trusted_only and one.state == "unsent"]

    assert len(for_trusted()) == 1
    world.pass_time(1800)
    world.ask(small, 0)
    world.ask(large, 0)
    world.run()
    assert len(for_trusted()) == 1, "a host that can do it was there half an hour ago"
    world.clock.now += 3601
    world.ask(small, 0)
    world.run()
    assert for_trusted() == []


def test_a_warm_start_is_for_trusted_hosts_with_the_memory_for_the_whole_model(tmp_path):
    world = ChunkWorld(tmp_path, units=3, quorum=3, warm_start=2)
    small = world.volunteer("small", role=Role.TRUSTED, memory_bytes=MIDDLE)
    [weak] = fleet(world, weak=WEAK)
    given, no_work = world.ask(small)
    assert given == [], "it would train a part of the model, and all others would wait for that"
    assert no_work is not None
    world.pass_time(61)
    assert [one.unit.batches_per_step for one in world.ask(weak)[0]] == [1]


def test_everybody_calibrates_with_the_smallest_chunk(tmp_path):
    world = ChunkWorld(tmp_path)
    host = world.volunteer("a", calibrated=False, memory_bytes=WEAK)
    [manifest] = world.ask(host)[0]
    assert (manifest.unit.kind, manifest.unit.chunk) == (UnitKind.CALIBRATE, "last")
    world.answer(host, manifest)
    world.run()
    assert world.row(host).determinism_class
    trusted = world.volunteer("t", role=Role.TRUSTED, memory_bytes=STRONG, drift=1e-5)
    world.run()
    assert world.row(trusted).determinism_class != world.row(host).determinism_class
    with world.store.read() as tx:
        assert tx.calibrations.distances(1)


def test_a_chunk_whose_graph_is_of_another_one_is_refused(tmp_path):
    world = ChunkWorld(tmp_path)
    chunks = [
        msgspec.structs.replace(chunk, training_graph=world.metadata.training_graph)
        for chunk in world.metadata.chunks
    ]
    wrong = msgspec.structs.replace(world.metadata, number=2, epoch=1, chunks=chunks)
    with pytest.raises(Refusal, match="chunk 'narrow' has other tensors"):
        world.publish(wrong)
