"""The doctor's report holds no secrets."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest

from pleb_agent.app.home import Home
from pleb_agent.control import reports
from pleb_agent.control.live_preferences import LivePreferences
from pleb_agent.control.reports import Reports
from pleb_agent.doctor.bundle import write_bundle
from pleb_agent.doctor.checks import Finding
from pleb_agent.program.without_secrets import without_secrets
from pleb_shared.errors import InputError, PlebError
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


def test_the_log_is_saved_without_secrets_and_a_home_without_one_is_told(home, tmp_path):
    saved = Reports(home.path, home.log).log()
    assert saved.count("\n") == 4, "every line of it"
    for secret in (SEED, TOKEN, PASSWORD, str(tmp_path)):
        assert secret not in saved
    with pytest.raises(InputError, match="The log cannot be read"):
        Reports(tmp_path, tmp_path / "none").log()


def test_the_page_gets_the_report_of_a_process_of_its_own(home, monkeypatch):
    script = (
        "import sys, pathlib; words = sys.argv; "
        "pathlib.Path(words[words.index('--bundle') + 1]).write_text(' '.join(words[1:4]))"
    )
    monkeypatch.setattr(reports, "module_command", lambda _: [sys.executable, "-c", script])

    async def story() -> None:
        ours = Reports(home.path, home.log)
        first = asyncio.create_task(ours.report())
        await asyncio.sleep(0)
        with pytest.raises(InputError, match="being made already"):
            await ours.report()
        assert await first == f"doctor --home {home.path}".encode()
        monkeypatch.setattr(reports, "module_command", lambda _: [sys.executable, "-c", ""])
        with pytest.raises(PlebError, match="could not be made"):
            await ours.report()

    asyncio.run(story())
