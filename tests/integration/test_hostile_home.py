"""A home in which something else stands where a file should: a sentence, and nothing is harmed."""

from __future__ import annotations

import json

import pytest

from tests.e2e.world import run_cli


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("preferences.json", "folder"),
        ("preferences.json", "loop"),
        ("keys/page.secret", "folder"),
        ("agentd.lock", "folder"),
        ("agentd.json", "folder"),
        ("logs/agentd.jsonl", "folder"),
    ],
)
def test_what_is_no_file_gets_a_sentence(tmp_path, place, what):
    path = tmp_path / "home" / place
    path.parent.mkdir(parents=True, mode=0o700)
    if what == "folder":
        (path / "precious").mkdir(parents=True)
    else:
        path.symlink_to(path.name)
    words = ["start", "--headless", "--json", "--home", tmp_path / "home"]
    done = run_cli("pleb_agent", *words, check=False)
    code, sentence = (2, "be read") if place == "preferences.json" else (1, "check its permissions")
    assert (done.returncode, done.stderr) == (code, "")
    assert sentence in json.loads(done.stdout)["message"]
    if what == "folder":
        assert (path / "precious").is_dir()
