"""A client written from docs/protocol.md alone: none of our packages is imported here.

It attaches, asks for work, trains what it is given and reports; enough for one honest host.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
import zlib
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import torch
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from safetensors.numpy import load
from safetensors.torch import load as load_torch

if TYPE_CHECKING:
    from pathlib import Path

DTYPES = {n: getattr(torch, n) for n in ("float32", "float64", "int64", "int32", "uint8", "bool")}


class Refused(Exception):
    """The coordinator said no: `code` is the word from section 8."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body['code']}: {body['message']}")
        self.status, self.code = status, body["code"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def public_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def pae(kind: str, payload: bytes) -> bytes:
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)


def sealed(kind: str, payload: bytes, *keys: Ed25519PrivateKey) -> bytes:
    kind = f"application/vnd.pleb.{kind}+json"
    keyids = [sha256(bytes.fromhex(public_hex(key))) for key in keys]
    sigs = [base64.b64encode(key.sign(pae(kind, payload))).decode() for key in keys]
    signatures = [{"keyid": i, "sig": s} for i, s in zip(keyids, sigs, strict=True)]
    body = base64.b64encode(payload).decode()
    return json.dumps({"payload": body, "payloadType": kind, "signatures": signatures}).encode()


def opened(data: bytes, kind: str, *keys: str) -> dict[str, Any]:
    """The payload of an envelope that every one of the keys has signed."""
    wire = json.loads(data)
    assert wire["payloadType"] == f"application/vnd.pleb.{kind}+json"
    payload = base64.b64decode(wire["payload"])
    signatures = {one["keyid"]: base64.b64decode(one["sig"]) for one in wire["signatures"]}
    for key in keys:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(signatures[sha256(bytes.fromhex(key))], pae(wire["payloadType"], payload))
    return json.loads(payload)  # type: ignore[no-any-return]


def root_keys(metadata: dict[str, Any]) -> list[str]:
    """The project's root keys, first to last, each change of which both keys have signed."""
    keys: list[str] = []
    for number, text in enumerate(metadata.get("roots", []), 1):
        claimed = json.loads(base64.b64decode(json.loads(text)["payload"]))
        change = opened(text.encode(), "root-change", claimed["before"], claimed["after"])
        keys = keys or [change["before"]]
        assert change["project"] == metadata["project"]
        assert (change["number"], change["before"]) == (number, keys[-1])
        keys.append(change["after"])
    keys = keys or [metadata["root_key"]]
    assert keys[-1] == metadata["root_key"]
    assert len(set(keys)) == len(keys)
    return keys


class Stranger:
    """One host of one project."""

    def __init__(self, link: str, *, now: Any = time.time) -> None:
        url, _, fragment = link.partition("#")
        self.base, _, self.project = url.rpartition("/join/")
        self.http = httpx.Client(base_url=self.base, timeout=60)
        self.host_key, self.account_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self.host = sha256(bytes.fromhex(public_hex(self.host_key)))
        self.now, self.sequence = now, 0
        self.pins, self.number = {fragment[:64]}, 0
        self.load_metadata()
        assert fragment[:64] not in self.metadata.get("revoked", [])
        self.model = self.metadata["model"]
        self.shards = json.loads(self.blob(self.metadata["data"]["shards"]))

    def load_metadata(self) -> None:
        """Follow the chain of roots from the link and from the newest root that was followed."""
        raw = self.get(f"/projects/{self.project}/metadata")
        claimed = json.loads(base64.b64decode(json.loads(raw)["payload"]))
        assert self.pins <= {sha256(bytes.fromhex(key)) for key in root_keys(claimed)}
        self.metadata = opened(raw, "project-metadata", claimed["root_key"])
        self.online = self.metadata["delegation"]["online_key"]
        in_use = {sha256(bytes.fromhex(key)) for key in (claimed["root_key"], self.online)}
        assert not in_use & set(claimed.get("revoked", []))
        assert self.metadata["delegation"]["expires_at"] > self.now()
        assert self.metadata["number"] >= self.number
        self.pins.add(sha256(bytes.fromhex(claimed["root_key"])))
        self.number = self.metadata["number"]

    def close(self) -> None:
        self.http.close()

    def checked(self, answer: httpx.Response) -> bytes:
        if answer.is_error:
            raise Refused(answer.status_code, answer.json())
        return answer.content

    def get(self, path: str) -> bytes:
        return self.checked(self.http.get(path))

    def blob(self, blob: dict[str, Any]) -> bytes:
        data = self.get(f"/blobs/{blob['digest']}")
        assert sha256(data) == blob["digest"]
        return data

    def is_in_log(
        self, mirror: Path, manifest: dict[str, Any], delta: bytes, *, version: int
    ) -> bool:
        """Whether a mirror's signed log has this result in that version."""
        folder = mirror / "projects" / self.project
        head = opened((folder / "log-head").read_bytes(), "log-head", self.online)
        assert head["project"] == self.project
        lines = (folder / "log-entries").read_bytes().split(b"\n")[: head["entries"]]
        assert sha256(lines[-1]) == head["last"]
        previous, entries = "0" * 64, []
        for line in lines:
            entries.append(json.loads(line))
            assert entries[-1]["previous"] == previous
            previous = sha256(line)
        [entry] = [one for one in entries if one["number"] == version]
        leaves = (mirror / "blobs" / entry["results"]["digest"]).read_bytes()
        assert sha256(leaves) == entry["results"]["digest"]
        parts = manifest["nonce"], manifest["host"], sha256(delta)
        leaf = hashlib.sha256(b"\0" + b"".join(map(bytes.fromhex, parts))).digest()
        return leaf in [leaves[at : at + 32] for at in range(0, len(leaves), 32)]

    def times(self) -> dict[str, int]:
        return {"issued_at": int(self.now()), "expires_at": int(self.now()) + 120}

    def enrol(self, invite: str | None = None) -> dict[str, Any]:
        payload = {
            "protocols": [1],
            "project": self.project,
            "host_key": public_hex(self.host_key),
            "account_key": public_hex(self.account_key),
            "display_name": "stranger",
            "agent": "stranger/1",
            **self.times(),
        } | ({"invite": invite} if invite else {})
        body = sealed("enrol", json.dumps(payload).encode(), self.host_key, self.account_key)
        answer = self.checked(self.http.post(f"/projects/{self.project}/enrol", content=body))
        reply = opened(answer, "enrol-reply", self.online)
        assert reply["host"] == self.host
        self.sequence = reply["sequence"]
        return reply

    def request(self, **changes: Any) -> dict[str, Any]:
        """The payload of the next work request; `changes` lets tests lie."""
        self.sequence += 1
        runtime = {"torch": torch.__version__, "device": "cpu", "threads": 1}
        runtime |= {"capability": torch.backends.cpu.get_cpu_capability(), "system": "stranger"}
        return {
            "protocols": [1],
            "project": self.project,
            "host": self.host,
            "sequence": self.sequence,
            "agent": "stranger/1",
            "runtime": runtime,
            "max_units": 1,
            **self.times(),
        } | changes

    def post(
        self, payload: dict[str, Any], attached: bytes = b"", **options: Any
    ) -> dict[str, Any]:
        body = sealed("work", json.dumps(payload).encode(), options.get("key", self.host_key))
        return self.post_raw(body + b"\n" + attached, payload["sequence"])

    def post_raw(self, body: bytes, sequence: int) -> dict[str, Any]:
        answer = self.checked(self.http.post(f"/projects/{self.project}/work", content=body))
        try:
            reply = opened(answer, "work-reply", self.online)
        except (KeyError, InvalidSignature):  # newer metadata may delegate to another key
            self.load_metadata()
            reply = opened(answer, "work-reply", self.online)
        assert (reply["host"], reply["in_reply_to"]) == (self.host, sequence)
        return reply

    def version(self, source: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The tensors of a version, and the last difference that led to it."""
        tensors, difference = load(self.blob(source["snapshot"])), None
        for blob in source["differences"]:
            difference = self.decode(zlib.decompress(self.blob(blob)))
            tensors = {
                name: array + difference[name].astype(array.dtype)
                for name, array in tensors.items()
            }
        specs = self.model["parameters"] + self.model["buffers"]
        whole = b"".join(np.ascontiguousarray(tensors[spec["name"]]).tobytes() for spec in specs)
        assert sha256(whole) == source["digest"]
        return tensors, difference

    def frozen(self) -> dict[str, Any]:
        """The tensors that training never changes."""
        base = self.model.get("base")
        return load_torch(self.blob(base["blob"])) if base else {}

    def decode(self, data: bytes) -> dict[str, Any]:
        codec, block = self.metadata["codec"]["down"], self.metadata["codec"]["block"]
        place, out = 0, {}
        for spec in self.model["parameters"]:
            n = math.prod(spec["shape"])
            if codec == "fp32":
                values = np.frombuffer(data, "<f4", n, place)
                place += 4 * n
            else:
                assert codec == "int4"
                scales = np.frombuffer(data, "<f2", -(-n // block), place).astype(np.float32)
                packed = np.frombuffer(data, np.uint8, -(-n // 2), place + 2 * len(scales))
                codes = np.stack([packed & 15, packed >> 4], 1).reshape(-1)[:n].astype(np.float32)
                values = (codes - 8) * np.repeat(scales, block)[:n]
                place += 2 * len(scales) + len(packed)
            out[spec["name"]] = values.reshape(spec["shape"])
        assert not self.model["buffers"]
        return out

    def encode(self, delta: dict[str, Any], codec: str) -> bytes:
        parts, block = [], self.metadata["codec"]["block"]
        for spec in self.model["parameters"]:
            x = delta[spec["name"]].reshape(-1).astype(np.float32)
            if codec == "fp32":
                parts.append(x.tobytes())
                continue
            assert codec == "int4"
            blocks = np.pad(x, (0, -len(x) % block)).reshape(-1, block)
            largest = np.abs(blocks).max(axis=1)
            scales = np.maximum(largest / np.float32(7), np.float32(2**-24))
            scales = np.where(largest > 0, scales, 0).astype("<f2")
            wide = np.repeat(scales.astype(np.float32), block)[: len(x)]
            codes = np.rint(np.divide(x, wide, out=np.zeros_like(x), where=wide > 0)).clip(-7, 7)
            even = np.pad((codes + 8).astype(np.uint8), (0, len(x) % 2)).reshape(-1, 2)
            parts += [scales.tobytes(), (even[:, 0] | even[:, 1] << 4).astype(np.uint8).tobytes()]
        assert not self.model["buffers"]
        return b"".join(parts)

    def run_graph(
        self, graph: dict[str, Any], tensors: dict[str, Any], batch: dict[str, Any]
    ) -> dict[str, Any]:
        tensors = tensors | self.frozen()
        specs = graph["parameters"] + graph["buffers"] + graph.get("base", [])
        values = [tensors[s["name"]] for s in specs]
        values += [batch[i["name"]] for i in graph["inputs"]]
        assert not graph.get("constants")

        def argument(a: Any) -> Any:
            if isinstance(a, list):
                return [argument(item) for item in a]
            if not isinstance(a, dict):
                return a
            forms = {"ref": lambda: values[a["slot"]], "dtype": lambda: DTYPES[a["name"]]}
            return forms[a["is"]]()

        for node in graph["nodes"]:
            _, name, overload = node["op"].split(".")
            call = getattr(getattr(torch.ops.aten, name), overload)
            args = [argument(a) for a in node.get("args", [])]
            result = call(*args, **{k: argument(a) for k, a in node.get("kwargs", {}).items()})
            values += result if isinstance(result, (list, tuple)) else [result]
        return {output["name"]: values[output["slot"]] for output in graph["outputs"]}

    def examples(self, unit: dict[str, Any], kind: str = "train") -> dict[str, Any]:
        names, first = self.shards[kind], unit["shards"]["first"]
        chosen = [names[(first + i) % len(names)] for i in range(unit["shards"]["count"])]
        arrays = [load(self.blob(shard)) for shard in chosen]
        inputs = [spec["name"] for spec in self.metadata["data"]["inputs"]]
        return {name: np.concatenate([a[name] for a in arrays]) for name in inputs}

    def rate(self, unit: dict[str, Any], h: int) -> float:
        t = self.metadata["training"]
        planned = unit["versions"] or t["versions"]
        total, s = planned * t["local_steps"], unit["version"] * t["local_steps"] + h
        cosine, final = (1 + math.cos(math.pi * min(s, total) / total)) / 2, t["final_fraction"]
        eta = final + (1 - final) * cosine
        eta *= min(1, (s + 1) / t["warmup_steps"]) if t["warmup_steps"] else 1
        eta *= min(1, (h + 1) / t["unit_warmup_steps"]) if t["unit_warmup_steps"] else 1
        return float(t["learning_rate"] * eta)

    def train(self, manifest: dict[str, Any]) -> tuple[bytes, list[float]]:
        """The encoded delta of a training or calibration unit, with plain AdamW."""
        unit, training = manifest["unit"], self.metadata["training"]
        optimizer, size = training["optimizer"], training["batch_examples"]
        assert optimizer["name"] == "adamw"
        graph = json.loads(self.blob(self.metadata["training_graph"]))
        version, _ = self.version(manifest["version"])
        parameters = {n: torch.from_numpy(a.copy()).requires_grad_() for n, a in version.items()}
        moments = {n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in parameters.items()}
        data, losses, orders = self.examples(unit), [], {}
        count = len(next(iter(data.values())))
        for h in range(unit["local_steps"]):
            rows = []
            for position in range(h * size, (h + 1) * size):
                e, place = divmod(position, count)
                if e not in orders:
                    stream = np.random.Philox(key=[unit["seed"], 1], counter=[0, e, 0, 0])
                    orders[e] = np.argsort(stream.random_raw(count), kind="stable")
                rows.append(orders[e][place])
            batch = {name: torch.from_numpy(array[rows]) for name, array in data.items()}
            loss = self.run_graph(graph, parameters, batch)["loss"]
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            losses.append(loss.item())
            norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
            scale = min(1.0, (training["clip_norm"] or math.inf) / (norm + 1e-6))
            b1, b2, eta, t = optimizer["beta1"], optimizer["beta2"], self.rate(unit, h), h + 1
            with torch.no_grad():
                for (name, p), g in zip(parameters.items(), gradients, strict=True):
                    m, v = moments[name]
                    m.mul_(b1).add_(g * scale, alpha=1 - b1)
                    v.mul_(b2).addcmul_(g * scale, g * scale, value=1 - b2)
                    root = v.sqrt() / math.sqrt(1 - b2**t) + optimizer["epsilon"]
                    p.mul_(1 - eta * optimizer["weight_decay"])
                    p.sub_(eta * (m / (1 - b1**t)) / root)
        delta = {n: version[n] - p.detach().numpy() for n, p in parameters.items()}
        codec = "fp32" if unit["kind"] == "calibrate" else self.metadata["codec"]["up"]
        return self.encode(delta, codec), losses

    def report(
        self, manifest: dict[str, Any], delta: bytes, losses: list[float], **changes: Any
    ) -> dict[str, Any]:
        size = len(zlib.compress(delta))
        result = {"kind": "delta", "digest": sha256(delta), "size": size}
        result |= {"loss_first": losses[0], "loss_last": losses[-1]}
        result |= {"attached": size <= 64 * 1024}
        unit = manifest["unit"]
        return {
            "assignment": manifest["assignment"],
            "nonce": manifest["nonce"],
            "epoch": unit["epoch"],
            "version": unit["version"],
            "result": result,
            "compute_seconds": 1.0,
        } | changes

    def upload(self, token: str, packed: bytes) -> None:
        at = int(self.http.head(f"/uploads/{token}").headers["Upload-Offset"])
        headers = {"Upload-Offset": str(at)}
        answer = self.http.patch(f"/uploads/{token}", content=packed[at:], headers=headers)
        self.checked(answer)
        assert answer.headers["Upload-Complete"] == "?1"
