"""Members train one model on data that never leave their PCs: three honest ones, and one liar."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import shutil
import socket
import threading
import zlib
from typing import TYPE_CHECKING, Any, Self

import httpx
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pleb_agent.cli import main as agent_main
from pleb_shared.protocol.sealing import read_reading
from pleb_shared.tensors.format import training_format
from tests.e2e.world import PROJECTS, World, checked, run_here, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_shared.protocol.project import ProjectMetadata

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CLASSES = {"anna": (0, 1, 2, 3), "ben": (3, 4, 5, 6), "cleo": (6, 7, 8, 9)}
"""Which digits each member has: none has all of them."""
HEADERS = 8192
"""Bytes of a request beside its delta, at most."""


class Recorder:
    """A relay in front of a coordinator that keeps every byte that clients send."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.sent: list[bytearray] = []
        """By connection."""
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._server, *self._open):
            with contextlib.suppress(OSError):
                one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                coordinator = socket.create_connection(("127.0.0.1", self._to))
                kept = bytearray()
                self.sent.append(kept)
                self._open += [client, coordinator]
                for source, target, copy in (
                    (client, coordinator, kept),
                    (coordinator, client, None),
                ):
                    pump = threading.Thread(target=_pump, args=(source, target, copy), daemon=True)
                    pump.start()

    @property
    def bytes_sent(self) -> bytes:
        return b"\0".join(bytes(kept) for kept in self.sent)


def _pump(source: socket.socket, target: socket.socket, copy: bytearray | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if copy is not None:
                copy += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [n, 8, 8] and labels int64 [n], in an order that is always the same."""
    bunch = load_digits()
    order = np.random.default_rng(7).permutation(len(bunch.target))
    return bunch.images[order].astype(np.float32), bunch.target[order].astype(np.int64)


def write(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=x, y=y)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    try:
        yield found
    finally:
        found.close()


def forms_of(image: np.ndarray) -> list[bytes]:
    """What an image would look like on the wire: as its file has it, and packed in usual ways."""
    kept = [image.tobytes(), image.astype(np.uint8).tobytes()]
    packed = [form for data in kept for form in (zlib.compress(data), zlib.compress(data, 9))]
    digests = [hashlib.sha256(data).hexdigest().encode() for data in kept]
    texts = [form for data in kept for form in (base64.b64encode(data), data.hex().encode())]
    return [*kept, *packed, *digests, *texts]


def trained(metadata: Any, x: np.ndarray, y: np.ndarray, holdout: Any, steps: int) -> float:
    """Train the project's model on these images alone, for as many steps; return its accuracy."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.SiLU(), torch.nn.Linear(32, 10)
    )
    optimizer = torch.optim.SGD(layers.parameters(), metadata.training.learning_rate, 0.9)
    generator = np.random.default_rng(0)
    for _ in range(steps):
        chosen = generator.integers(len(x), size=metadata.training.batch_examples)
        scores = layers(torch.from_numpy(x[chosen]) / 16)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(scores, torch.from_numpy(y[chosen])).backward()
        torch.nn.utils.clip_grad_norm_(layers.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        found = layers(torch.from_numpy(holdout[0]) / 16).argmax(1).numpy()
    return float((found == holdout[1]).mean())


def attach(world: World, name: str, port: int) -> None:
    made = world.admin("invite", "new", "--project", "own")
    world.attach(name, made["link"].replace(f":{world.port}/", f":{port}/"))


def _folders(root: Path, x: np.ndarray, y: np.ndarray) -> tuple[Path, dict[str, Any], np.ndarray]:
    """Write the project and the members' folders; return it, and which images each member has.

    The last ones are the liar's, whose labels are all wrong.
    """
    rest = np.arange(440, len(y))
    project = root / "project"
    shutil.copytree(PROJECTS / "own", project)
    shutil.copy(PROJECTS / "tiny" / "model.py", project)
    write(project / "holdout.npz", x[:400], y[:400])
    write(project / "examples.npz", x[400:440], y[400:440])
    members = {}
    for number, (name, classes) in enumerate(CLASSES.items()):
        own = rest[np.isin(y[rest], classes) & (rest % 3 == number)]
        members[name] = own
        write(root / "data" / name / "scans.npz", x[own], y[own])
    wrong = rest[rest % 3 == 0]
    write(root / "data" / "mallory" / "scans.npz", x[wrong], (y[wrong] + 1) % 10)
    return project, members, wrong


def test_three_clinics_train_one_model_and_no_image_leaves_them(world: World) -> None:
    x, y = digits()
    project, members, wrong = _folders(world.root, x, y)
    holdout = slice(0, 400)
    world.serve()
    link = world.publish(project, access="invited")
    metadata, _ = checked(project)
    assert metadata.data.own is not None
    world.attach("trusted", link, trusted=True)  # measures versions, and has no data
    world.start_agent("trusted")
    with Recorder(world.port) as recorder:
        for name in (*CLASSES, "mallory"):
            attach(world, name, recorder.port)
            if name != "anna":
                folder = world.root / "data" / name
                run_here(agent_main, "data", "own", folder, "--home", world.root / name)
            world.start_agent(name)
        _anna_is_asked_for_a_folder(world)
        wait_until("the last version", lambda: _ended(world), seconds=240)
        world.check_alive()
        sent = recorder.bytes_sent
    _nothing_of_it_was_sent(sent, x, [*members.values(), wrong])
    _bodies_are_no_larger_than_deltas(sent, metadata)
    assert world.admin("model", "verify", "own")["verified"]
    _units_are_not_anchored(world)
    _the_page_says_so(world)

    reached = _accuracy(world)
    held = (x[holdout], y[holdout])
    steps = metadata.training.versions * metadata.training.local_steps
    alone = {n: trained(metadata, x[own], y[own], held, steps) for n, own in members.items()}
    together = np.concatenate(list(members.values()))
    pooled = trained(metadata, x[together], y[together], held, steps)
    print(f"reached {reached:.3f}, alone {alone}, pooled {pooled:.3f}")
    assert reached > max(alone.values()) + 0.2
    assert reached > pooled - 0.25


def _anna_is_asked_for_a_folder(world: World) -> None:
    """Without a folder she gets no unit, and is told why; a wrong folder is refused."""

    def asked() -> bool:
        found = run_here(agent_main, "status", "--home", world.root / "anna", check=False)
        return "choose a folder with your data" in str(found)

    wait_until("the sentence", asked)
    wrong = world.root / "data" / "wrong"
    write(wrong / "scans.npz", np.zeros((50, 8, 8), np.float32), np.full(50, 12))
    home = ("--home", world.root / "anna")
    refused = run_here(agent_main, "data", "own", wrong, *home, check=False)
    assert "input 'y' of example 1" in refused["message"]
    assert "from 0 to 9" in refused["message"]
    folder = world.root / "data" / "anna"
    chosen = run_here(agent_main, "data", "own", folder, *home)
    assert chosen["folder"] == str(folder)


def _ended(world: World) -> bool:
    world.check_alive()
    return "reached its last version" in str(world.admin("project", "show", "own")["waiting"])


def _accuracy(world: World) -> float:
    return float(world.admin("project", "show", "own")["metrics"]["accuracy"])


def _nothing_of_it_was_sent(sent: bytes, x: np.ndarray, members: list[np.ndarray]) -> None:
    assert len(sent) > 100_000  # the recorder was in between
    own = sorted({int(number) for some in members for number in some})
    for number in own:
        for form in forms_of(x[number]):
            assert form not in sent


def _bodies_are_no_larger_than_deltas(sent: bytes, metadata: ProjectMetadata) -> None:
    most = training_format(metadata).packed_most + HEADERS
    for request in sent.split(b"\r\nHost: ")[1:]:
        head, _, body = request.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if b"content-length" in line]
        assert b"chunked" not in head.lower()
        assert len(body) <= most
        assert all(int(line.split(b":")[1]) <= most for line in lengths)


def _the_page_says_so(world: World) -> None:
    [file] = (world.root / "anna" / "keys").glob("*.reading")
    headers = {"Cookie": f"pleb_reader_own={read_reading(file.read_bytes()).reader}"}
    for page in ("projects", "join"):
        answer = httpx.get(f"{world.url}/{page}/own", headers=headers)
        assert "these are not anchored" in answer.text, answer.text[:500]


def _units_are_not_anchored(world: World) -> None:
    """Each member has at most one result in a version, and nobody computed it again."""
    units = [row for row in world.admin("unit", "list", "own") if row["kind"] == "train"]
    authors = set()
    counted = 0
    for row in units[:24]:
        shown = world.admin("unit", "show", row["id"])
        valid = [one for one in shown["assignments"] if one["state"] == "valid"]
        if valid:
            [one] = valid
            assert shown["counting"] == "own"
            assert (row["version"], one["host"]) not in authors
            authors.add((row["version"], one["host"]))
            counted += 1
    assert counted > 10
