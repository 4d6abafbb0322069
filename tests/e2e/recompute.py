"""Recompute every version from the coordinator's log: an auditor's script.

    python recompute.py HOME PROJECT

It imports none of our packages: only SQLite, numpy and safetensors, and docs/protocol.md
(sections 4, 5, 6 and 11). It prints the versions, and ends with 1 when one does not recompute or an
accepted result is in no version or in two.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import sqlite3
import statistics
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load

LEVELS = {"int8": (8, 0.0), "int4": (4, 8.0), "2bit": (2, 1.5)}
CHANGES = {"bool": "int8", "uint8": "int16", "int32": "int64"}
"""Types of buffers' changes, where they are others than the buffers' own."""


class Log:
    """The coordinator's store and files, read only, as they are at the first look."""

    def __init__(self, home: Path, project: str) -> None:
        self.home = home
        self.store = sqlite3.connect(f"file:{home / 'store.sqlite'}?mode=ro", uri=True)
        self.store.execute("BEGIN")  # while the fleet makes versions
        query = "SELECT id, epoch FROM projects WHERE name = ?"
        self.project, self.epoch = self.store.execute(query, (project,)).fetchone()

    def versions(self) -> list[tuple[Any, ...]]:
        return self.store.execute(
            "SELECT number, digest, metadata_number, difference, inputs, restores FROM versions"
            " WHERE project = ? AND epoch = ? ORDER BY number",
            (self.project, self.epoch),
        ).fetchall()

    def metadata(self, number: int) -> dict[str, Any]:
        query = "SELECT envelope FROM metadata WHERE project = ? AND number = ?"
        (envelope,) = self.store.execute(query, (self.project, number)).fetchone()
        return json.loads(base64.b64decode(json.loads(envelope)["payload"]))  # type: ignore[no-any-return]

    def blob(self, digest: str) -> bytes:
        data = (self.home / "blobs" / digest[:2] / digest).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest
        return data

    def delta(self, assignment: int, digest: str) -> bytes:
        query = "SELECT data FROM deltas WHERE assignment = ?"
        (data,) = self.store.execute(query, (assignment,)).fetchone()
        if data is None:
            folder = self.home / "deltas" / f"{assignment % 100:02}"
            data = (folder / str(assignment)).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest
        return bytes(data)

    def applied(self) -> list[int]:
        """The results that the log says are in a version.

        One that was disproved only after its version was made stays in it.
        """
        rows = self.store.execute(
            "SELECT canonical FROM units WHERE project = ? AND kind = 'train'"
            " AND state IN ('applied', 'disproved') ORDER BY id",
            (self.project,),
        )
        return [row[0] for row in rows]


def decoded(
    data: bytes, metadata: dict[str, Any], codec: str, model: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Section 6; `model` is that of the delta's chunk."""
    out, place, block = {}, 0, metadata["codec"]["block"]
    model = model or metadata["model"]
    for spec in model["parameters"]:
        n = math.prod(spec["shape"])
        if codec == "fp32":
            values, size = np.frombuffer(data, "<f4", n, place), 4 * n
        else:
            bits, zero = LEVELS[codec]
            count, per_byte = -(-n // block), 8 // bits
            scales = np.frombuffer(data, "<f2", count, place).astype(np.float32)
            packed = np.frombuffer(data, np.uint8, -(-n // per_byte), place + 2 * count)
            shifted = [(packed >> (bits * i)) & (2**bits - 1) for i in range(per_byte)]
            codes = np.stack(shifted, axis=1).reshape(-1)[:n]
            signed = codes.view(np.int8) if bits == 8 else codes
            meant = signed.astype(np.float32) - np.float32(zero)
            values = meant * np.repeat(scales, block)[:n]
            size = 2 * count + len(packed)
        out[spec["name"]] = values.reshape(spec["shape"])
        place += size
    for spec in model["buffers"]:
        dtype = np.dtype(CHANGES.get(spec["dtype"], spec["dtype"]))
        n = math.prod(spec["shape"])
        out[spec["name"]] = np.frombuffer(data, dtype, n, place).reshape(spec["shape"])
        place += dtype.itemsize * n
    assert place == len(data)
    return out


def encoded(change: dict[str, Any], metadata: dict[str, Any]) -> bytes:
    """Section 6, for codecs fp32, int8 and int4."""
    codec, block = metadata["codec"]["down"], metadata["codec"]["block"]
    parts = []
    for spec in metadata["model"]["parameters"]:
        x = change[spec["name"]].reshape(-1)
        if codec == "fp32":
            parts.append(x.tobytes())
            continue
        largest = np.float32({"int8": 127, "int4": 7}[codec])
        blocks = np.abs(np.pad(x, (0, -len(x) % block)).reshape(-1, block)).max(axis=1)
        scales = np.where(blocks > 0, np.maximum(blocks / largest, np.float32(2**-24)), 0)
        scales = scales.astype("<f2")
        wide = np.repeat(scales.astype(np.float32), block)[: len(x)]
        ratio = np.divide(x, wide, out=np.zeros_like(x), where=wide > 0)
        codes = np.rint(ratio).clip(-largest, largest).astype(np.int8)
        if codec == "int4":
            pairs = np.pad(codes + 8, (0, len(x) % 2)).astype(np.uint8).reshape(-1, 2)
            codes = pairs[:, 0] | pairs[:, 1] << 4
        parts += [scales.tobytes(), codes.tobytes()]
    parts += [change[spec["name"]].tobytes() for spec in metadata["model"]["buffers"]]
    return b"".join(parts)


def combined(
    deltas: list[dict[str, Any]], weights: list[float], metadata: dict[str, Any]
) -> dict[str, Any]:
    """Section 11: the deltas, combined by the rule in force; buffers always by the mean."""
    outer = metadata["outer"]
    names = [spec["name"] for spec in metadata["model"]["parameters"]]
    buffers = [spec["name"] for spec in metadata["model"]["buffers"]]
    rows = [{name: delta[name] for name in names} for delta in deltas]
    rule = {"mean": mean, "median": median, "trimmed_mean": trimmed_mean}
    out = rule.get(outer["combination"], centred_clipping)(rows, weights, outer)
    for name in buffers:
        out |= mean([{name: delta[name]} for delta in deltas], weights, outer)
    return {name: out[name].astype(deltas[0][name].dtype) for name in [*names, *buffers]}


def of_round(
    entries: list[dict[str, Any]], log: Log, metadata: dict[str, Any], v: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Section 11: g of version v's results, and by parameter which numbers they cover."""
    if any(entry.get("chunk", "full") != "full" for entry in entries):
        return combined_chunks(entries, log, metadata, v)
    up = metadata["codec"]["up"]
    deltas = [decoded(log.delta(e["assignment"], e["digest"]), metadata, up) for e in entries]
    g = combined(deltas, [e["weight"] for e in entries], metadata)
    return g, dict.fromkeys(g, True)


def places(chunk: dict[str, Any] | None, metadata: dict[str, Any], v: int) -> dict[str, Any]:
    """Section 4: by parameter, the indices in each dimension that a chunk has at version v."""
    specs = {spec["name"]: spec for spec in metadata["model"]["parameters"]}
    names = list(specs) if chunk is None else chunk["parameters"]
    found = {name: [np.arange(length) for length in specs[name]["shape"]] for name in names}
    for window in [] if chunk is None else chunk.get("windows", []):
        units, kept = window["units"], window["kept"]
        mine = np.sort((v * kept + np.arange(kept)) % units)
        for axis in window["axes"]:
            if axis["tensor"] in found:
                grid = np.arange(axis.get("blocks", 1) * units * axis.get("size", 1))
                grid = grid.reshape(-1, units, axis.get("size", 1))[:, mine]
                found[axis["tensor"]][axis["dimension"]] = grid.reshape(-1)
    return found


def combined_chunks(
    entries: list[dict[str, Any]], log: Log, metadata: dict[str, Any], v: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Section 11: the same of deltas of chunks."""
    specs, buffers = metadata["model"]["parameters"], metadata["model"]["buffers"]
    chunks = {chunk["name"]: chunk for chunk in metadata["chunks"]} | {"full": None}
    kinds = sorted({entry.get("chunk", "full") for entry in entries})
    held = {kind: places(chunks[kind], metadata, v) for kind in kinds}
    # bit k of a number: whether the k-th kind of chunk has it
    holders = {spec["name"]: np.zeros(spec["shape"], np.int64) for spec in specs}
    for bit, kind in enumerate(kinds):
        for name, indices in held[kind].items():
            holders[name][np.ix_(*indices)] += 1 << bit
    deltas, sent = [], []
    for entry in entries:
        kind, chunk = entry.get("chunk", "full"), chunks[entry.get("chunk", "full")]
        shapes = {name: [len(i) for i in indices] for name, indices in held[kind].items()}
        narrowed = chunk is not None and chunk.get("windows")
        model = {
            "parameters": [s | {"shape": shapes[s["name"]]} for s in specs if s["name"] in shapes],
            "buffers": [] if narrowed else buffers,
        }
        data = log.delta(entry["assignment"], entry["digest"])
        delta = decoded(data, metadata, metadata["codec"]["up"], model)
        sent += [] if narrowed else [(delta, entry["weight"])]
        whole = {spec["name"]: np.zeros(spec["shape"], np.float32) for spec in specs}
        for name, indices in held[kind].items():
            whole[name][np.ix_(*indices)] = delta[name]
        deltas.append((kinds.index(kind), whole, entry["weight"]))
    g = {spec["name"]: np.zeros(spec["shape"], np.float32) for spec in specs}
    for group in set(np.concatenate([each.reshape(-1) for each in holders.values()])) - {0}:
        mine = {name: each == group for name, each in holders.items()}
        of_group = [(whole, weight) for bit, whole, weight in deltas if group >> bit & 1]
        flat = [
            {"": np.concatenate([whole[name][where] for name, where in mine.items()])}
            for whole, _ in of_group
        ]
        only = {"parameters": [{"name": ""}], "buffers": []}
        numbers = combined(flat, [weight for _, weight in of_group], metadata | {"model": only})[""]
        for name, where in mine.items():
            g[name][where], numbers = np.split(numbers, [where.sum()])
    for spec in buffers:
        name, dtype = spec["name"], CHANGES.get(spec["dtype"], spec["dtype"])
        rows, weights = [{name: one[name]} for one, _ in sent], [weight for _, weight in sent]
        found = mean(rows, weights, metadata["outer"])[name] if rows else np.zeros(spec["shape"])
        g[name] = found.astype(dtype)
    return g, {name: each > 0 for name, each in holders.items()}


def norm(tensors: dict[str, Any]) -> float:
    squares = (np.square(array, dtype=np.float64).sum() for array in tensors.values())
    return math.sqrt(sum(map(float, squares)))


def mean(rows: list[dict[str, Any]], weights: list[float], outer: dict[str, Any]) -> dict[str, Any]:
    norms = [norm(row) for row in rows]
    longest = outer["norm_band"] * statistics.median(norms)
    clips = [min(1.0, longest / found) if found > 0 else 1.0 for found in norms]
    out = {}
    for name, first in rows[0].items():
        result = np.zeros(first.shape, np.float64)
        for row, weight, clip in zip(rows, weights, clips, strict=True):
            result += row[name].astype(np.float64) * (weight * clip)
        result /= sum(weights)
        out[name] = np.rint(result) if first.dtype.kind == "i" else result
    return out


def median(rows: list[dict[str, Any]], _: list[float], __: dict[str, Any]) -> dict[str, Any]:
    stacks = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return {name: np.median(stack, axis=0) + np.float32(0) for name, stack in stacks.items()}


def trimmed_mean(
    rows: list[dict[str, Any]], _: list[float], outer: dict[str, Any]
) -> dict[str, Any]:
    count = len(rows)
    out_at_an_end = min(math.ceil(count * outer["trim_fraction"] - 1e-9), (count - 1) // 2)
    out = {}
    for name, first in rows[0].items():
        total = np.zeros(first.shape, np.float32)
        ranked = np.sort(np.stack([row[name] for row in rows]), axis=0)
        for row in ranked[out_at_an_end : count - out_at_an_end]:
            total += row
        out[name] = total / np.float32(count - 2 * out_at_an_end)
    return out


def centred_clipping(
    rows: list[dict[str, Any]], weights: list[float], outer: dict[str, Any]
) -> dict[str, Any]:
    v, radius = median(rows, weights, outer), None
    for _ in range(outer["clipping_iterations"]):
        apart = [{n: row[n].astype(np.float64) - v[n] for n in v} for row in rows]
        distances = [norm(one) for one in apart]
        radius = (
            outer["clipping_radius"] * statistics.median(distances) if radius is None else radius
        )
        shares = [
            weight / sum(weights) * (min(1.0, radius / far) if far > 0 else 1.0)
            for weight, far in zip(weights, distances, strict=True)
        ]
        moves = {
            n: sum(one[n] * share for one, share in zip(apart, shares, strict=True)) for n in v
        }
        v = {n: (moves[n] + v[n]).astype(np.float32) for n in v}
    return v


def added(array: Any, change: Any) -> Any:
    """Section 5: a version's tensor and its decoded difference."""
    if array.dtype == bool:
        return ((array + change.astype(np.int64)) & 1).astype(bool)
    return array + change.astype(array.dtype)


def digest(version: dict[str, Any], metadata: dict[str, Any]) -> str:
    """Section 5: the version digest."""
    specs = metadata["model"]["parameters"] + metadata["model"]["buffers"]
    arrays = [np.ascontiguousarray(version[spec["name"]]) for spec in specs]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def stepped(
    masters: dict[str, Any],
    momentum: dict[str, Any],
    g: dict[str, Any],
    outer: dict[str, Any],
    warm: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Section 11: masters and momentum after the outer step along g."""
    if warm:
        return {name: masters[name] - g[name] for name in masters}, momentum
    m, rate = np.float32(outer["momentum"]), np.float32(outer["learning_rate"])
    momentum = {name: m * momentum[name] + g[name] for name in masters}
    steps = {name: rate * (g[name] + m * momentum[name]) for name in masters}
    return {name: masters[name] - steps[name] for name in masters}, momentum


def recompute(home: Path, project: str) -> tuple[int, list[str]]:
    """Return how many versions there are, and what is wrong with them."""
    log, wrong, used = Log(home, project), [], []
    version: dict[str, Any] = {}
    masters: dict[str, Any] = {}
    momentum: dict[str, Any] = {}
    rows = log.versions()
    made: dict[int, Any] = {}  # by number: the version, its masters and its momentum
    for number, recorded, metadata_number, difference, inputs, restores in rows:
        metadata = log.metadata(metadata_number)
        names = [spec["name"] for spec in metadata["model"]["parameters"]]
        if number == 0:
            version = load(log.blob(metadata["model"]["initial"]["digest"]))
            masters = {name: version[name] for name in names}
            momentum = {name: np.zeros_like(version[name]) for name in names}
        elif restores is not None:
            version, masters, momentum = made[restores]
        else:
            entries = json.loads(inputs)
            used += [entry["assignment"] for entry in entries]
            g, covered = of_round(entries, log, metadata, number - 1)
            warm = any(entry.get("batches_per_step", 1) > 1 for entry in entries)
            moved = stepped(masters, momentum, g, metadata["outer"], warm)
            masters, momentum = (
                {name: np.where(covered[name], after[name], before[name]) for name in names}
                for after, before in zip(moved, (masters, momentum), strict=True)
            )
            published = zlib.decompress(log.blob(difference))
            change = decoded(published, metadata, metadata["codec"]["down"])
            exact = {name: masters[name] - version[name] for name in names}
            exact |= {name: -g[name] for name in g if name not in names}
            if encoded(exact, metadata) != published:
                wrong.append(f"the difference of version {number} is not what the log gives")
            version = {name: added(array, change[name]) for name, array in version.items()}
        made[number] = (version, masters, momentum)
        if digest(version, metadata) != recorded:
            wrong.append(f"version {number} does not recompute to its digest")
    if sorted(used) != sorted(log.applied()):
        wrong.append("results that count are not exactly those that are in versions")
    if len(set(used)) != len(used):
        wrong.append("a result is in more than one version")
    return len(rows), wrong


if __name__ == "__main__":
    count, found = recompute(Path(sys.argv[1]), sys.argv[2])
    print(f"{count} versions: " + ("; ".join(found) or "all recompute"))
    sys.exit(bool(found))
