"""The doctor's report holds no secrets."""

from __future__ import annotations

import json
import secrets
import zipfile
from pathlib import Path

import msgspec
import pytest

from pleb_agent.app.home import Home
from pleb_agent.control.live_preferences import LivePreferences
from pleb_agent.doctor.bundle import without_secrets, write_bundle
from pleb_agent.doctor.checks import Finding
from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import parse_attach_link

SEED, TOKEN, PASSWORD = "ab" * 32, secrets.token_urlsafe(32), "p4ss-w0rd"
LINK = parse_attach_link(f"https://train.example/join/words#{'cd' * 32}")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    home = Home(tmp_path / "home")
    home.prepare()
    (home.keys / "words.host.key").write_text(SEED)
    home.control.write_text(json.dumps({"pid": 1, "port": 2, "token": TOKEN}))
    home.page_secret.write_bytes(bytes.fromhex(SEED))
    proxy = f"http://ann:{PASSWORD}@proxy.example:3128"
    LivePreferences(home.preferences).change(lambda old: msgspec.structs.replace(old, proxy=proxy))
    lines = [
        {"event": "start", "home": str(home.path)},
        {"event": "request", "header": f"Authorization: Bearer {TOKEN}"},
        {"event": "attach", "link": LINK.with_account(SEED)},
        {"event": "attach", "invite": TOKEN},
        {"event": "problem", "problem": f"{proxy} cannot be reached"},
    ]
    home.log.write_text("\n".join(map(json.dumps, lines)))
    return home


def test_no_secret_is_in_the_bundle(home, tmp_path):
    target = tmp_path / "report.zip"
    findings = [Finding("keys", is_well=False, sentence=f"Others may read {home.keys}")]
    names = write_bundle(home, findings, target)
    with zipfile.ZipFile(target) as bundle:
        assert bundle.namelist() == names
        texts = {name: bundle.read(name).decode() for name in names}
    whole = "\n".join(texts.values())
    for secret in (SEED, TOKEN, PASSWORD, str(tmp_path)):
        assert secret not in whole
    assert "proxy.example:3128 cannot be reached" in texts["agentd.jsonl"]
    assert "Others may read ~/home/keys" in texts["findings.json"]
    assert json.loads(texts["preferences.json"])["threads"] >= 1


def test_a_file_that_is_there_stays(home, tmp_path):
    target = tmp_path / "report.zip"
    target.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_bundle(home, [], target)
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    [
        "The account words has 3 units.",
        "step 3 of 200",
        "https://train.example/join/words#" + "cd" * 32,
    ],
)
def test_what_is_no_secret_stays(text):
    assert without_secrets(text, "/home/ann") == text
