"""Publishing, renewing, following and downloading against a real coordinator on loopback."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from pleb_coordinator.cli import main as coordinator_main
from pleb_project.cli import main
from pleb_project.keys.key_file import read_key
from pleb_project.processes import Fleet
from pleb_project.publish.rules import opened
from pleb_project.server.client import Address, Coordinator
from pleb_project.server.records import Home
from pleb_shared.errors import Refusal
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.tensors.layout import load_tensors, version_digest

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = """
[project]
name = "small"
contact = "anna@example.org"

[data]
source = "sklearn:wine"
holdout = 0.2

[training]
optimizer = "adamw"
learning_rate = 0.01
batch = 16
local_steps = 5

[round]
units = 2
"""

MODEL = """
from torch import nn
from torch.nn.functional import cross_entropy

def model(width=8):
    return nn.Sequential(nn.Linear(13, width), nn.SiLU(), nn.Linear(width, 3))

def loss(model, batch):
    return cross_entropy(model(batch["x"]), batch["y"])

def evaluate(model, batch):
    return {"loss": loss(model, batch)}
"""


class Place:
    """A researcher's folders and a running coordinator."""

    def __init__(self, root: Path, fleet: Fleet, url: str) -> None:
        self.root, self.fleet, self.url = root, fleet, url
        self.folder, self.home = root / "project", Home(root / "home")
        self.folder.mkdir()
        (self.folder / "project.toml").write_text(PROJECT)
        (self.folder / "model.py").write_text(MODEL)

    def run(self, *arguments: str) -> int:
        return main([*arguments, "--home", str(self.home.path), "--json"])

    def publish(self, *extra: str, invite: str | None = None) -> int:
        token = ("--invite", invite, "--no-passphrase") if invite else ()
        return self.run("publish", str(self.folder), "--to", self.url, *token, *extra)

    def metadata(self):
        root = read_key(self.home.root_key_file("small"))
        with Coordinator(Address(self.url)) as coordinator:
            return opened(coordinator.metadata("small"), root.public)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("publish")
    fleet = Fleet(root / "fleet")
    try:
        yield Place(root, fleet, fleet.start_coordinator())
    finally:
        fleet.stop()


def test_a_project_from_publishing_to_download(place, capsys):
    # Without a terminal it must be said whether the root key has a passphrase.
    assert place.publish() == 2
    assert "--no-passphrase" in capsys.readouterr().out
    # Without an invite nothing is published, but the root key stays for the next try.
    assert place.publish("--no-passphrase") == 4
    assert "invite" in capsys.readouterr().out
    key = place.home.root_key_file("small").read_bytes()

    # With one it is live; the link pins the root key.
    assert place.publish(invite=place.fleet.invite("publisher")) == 0
    answer = json.loads(capsys.readouterr().out)
    root = read_key(place.home.root_key_file("small")).unlock("")
    assert answer["attach_link"] == f"{place.url}/join/small#{root.fingerprint}"
    assert place.home.root_key_file("small").read_bytes() == key
    first = place.metadata()
    assert (first.number, first.epoch) == (1, 0)
    assert first.delegation.expires_at - first.issued_at == 30 * 24 * 3600

    # Renewing raises the number and needs no invite.
    assert place.run("renew", "small") == 0
    second = place.metadata()
    assert (second.number, second.model) == (2, first.model)
    capsys.readouterr()

    # Publishing again with other text is another number; another model is refused.
    (place.folder / "project.toml").write_text(PROJECT.replace("[data]", 'title = "T"\n[data]'))
    assert place.publish() == 0
    assert (place.metadata().number, place.metadata().title) == (3, "T")
    (place.folder / "model.py").write_text(MODEL.replace("width=8", "width=9"))
    assert place.publish("--set", "training.batch=8") == 2
    refused = capsys.readouterr().out
    assert all(word in refused for word in ("model", "training", "--new-epoch"))

    # Anyone with the link follows it and downloads the newest version, digest checked.
    assert place.run("status", answer["attach_link"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["project"], status["version"]) == ("small", 0)
    file = place.root / "model.safetensors"
    assert place.run("export", "small", str(file)) == 0
    saved = json.loads(capsys.readouterr().out)
    tensors = load_tensors(file.read_bytes())
    assert saved["digest"] == first.model.initial_digest
    assert version_digest(tensors, first.model) == saved["digest"]
    assert place.run("export", "small", str(file)) == 2


def test_what_is_due_is_renewed_and_every_command_warns_before(place, capsys):
    record = place.home.record("small")
    ends = record.permission_ends_at
    assert place.run("renew", "--due") == 0
    assert json.loads(capsys.readouterr().out)[0]["renewed"] is False
    # Ten days before the end every command says so, and `--due` renews.
    soon = msgspec.structs.replace(record, permission_ends_at=int(time.time()) + 9 * 86_400)
    place.home.remember(soon)
    assert place.run("status", "small") == 0
    assert "pleb-project renew small" in capsys.readouterr().err
    assert place.run("renew", "--due") == 0
    assert json.loads(capsys.readouterr().out)[0]["renewed"] is True
    assert place.home.record("small").permission_ends_at >= ends
    assert place.run("status", "small") == 0
    assert "renew" not in capsys.readouterr().err
    # A new online key is a reason too; then the old one can be revoked and deleted.
    before = place.metadata()
    coordinator = place.fleet.folder / "coordinator"

    def admin(*arguments):
        code = coordinator_main([*arguments, "--home", str(coordinator), "--json"])
        return code, capsys.readouterr().out

    old = fingerprint_of(before.delegation.online_key)
    assert admin("key", "delete", old[:12], "--yes")[0] == 2, "it is the newest one"
    code, shown = admin("key", "rotate")
    assert (code, json.loads(shown)["to_renew"]) == (0, ["small"])
    assert admin("key", "delete", old[:12], "--yes")[0] == 2, "the project still delegates to it"
    assert place.run("renew", "--due") == 0
    assert json.loads(capsys.readouterr().out)[0]["renewed"] is True
    assert place.metadata().delegation.online_key != before.delegation.online_key
    assert place.run("key", "revoke", "small", old[:12]) == 0
    assert place.metadata().revoked == [old]
    capsys.readouterr()
    assert admin("key", "delete", old[:12], "--yes")[0] == 0
    code, shown = admin("key", "list")
    assert [key["projects"] for key in json.loads(shown)] == [["small"]]


def test_a_root_key_gets_a_passphrase_and_is_replaced(place, capsys, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("correct horse battery\n")
    file = place.home.root_key_file("small")
    given = ("--passphrase-file", str(secret))
    assert place.run("key", "passphrase", "small", "--new-passphrase-file", str(secret)) == 0
    assert place.run("renew", "small") == 2
    assert "--passphrase-file" in capsys.readouterr().out
    assert place.run("renew", "small", *given) == 0
    # The links before and after a rotation lead to the same project.
    before = place.home.find("small")
    assert place.run("key", "rotate", "small", *given) == 0
    link = json.loads(capsys.readouterr().out.splitlines()[-1])["attach_link"]
    assert before.root not in link
    assert read_key(file).needs_passphrase
    assert place.run("key", "show", str(before)) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["root"], shown["replaced"]) == (read_key(file).fingerprint, [before.root])
    assert shown["has_passphrase"]
    assert place.run("export", str(before), str(tmp_path / "model.safetensors")) == 0
    assert place.run("key", "passphrase", "small", "--no-passphrase", *given) == 0
    assert place.run("renew", "small") == 0


def test_another_root_key_cannot_publish_the_name(place, capsys, tmp_path):
    (place.folder / "model.py").write_text(MODEL)
    arguments = ["publish", str(place.folder), "--to", place.url, "--home", str(tmp_path)]
    assert main(arguments) == 2
    assert "root key" in capsys.readouterr().err


@pytest.mark.parametrize("contact", ["", "  ", "?"])
def test_volunteers_must_be_able_to_know_who_runs_it(place, capsys, contact):
    arguments = ["publish", str(place.folder), "--to", place.url, "--home", str(place.home.path)]
    assert main([*arguments, "--set", f"project.contact={contact!r}"]) == 2
    assert "write who you are and how to reach you into [project]" in capsys.readouterr().err


def test_nobody_there(place, capsys):
    arguments = ["publish", str(place.folder), "--to", "http://127.0.0.1:9"]
    assert main([*arguments, "--home", str(place.home.path)]) == 5
    assert "cannot be reached" in capsys.readouterr().err


def test_a_blob_that_is_not_there(place):
    with Coordinator(Address(place.url)) as coordinator, pytest.raises(Refusal):
        coordinator.blob("0" * 64)
