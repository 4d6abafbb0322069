"""The benchmarks' command line: a table for people, one line of JSON for programs."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest

from benchmarks.__main__ import MODULES, flat, main


def test_nested_keys_become_rows():
    assert flat({"a": 1, "b": {"c": {"d": 2.5}}}) == {"a": 1, "b.c.d": 2.5}


def test_the_last_line_is_json(monkeypatch, capsys):
    module = ModuleType("benchmarks.made_up")
    module.main = lambda quick: {"quick": quick, "codecs": {"int4": {"ratio": 7.9}}}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "benchmarks.made_up", module)
    monkeypatch.setitem(MODULES, "codec", "benchmarks.made_up")
    assert main(["codec", "--quick"]) == 0
    table, last = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert json.loads(last) == {"quick": True, "codecs": {"int4": {"ratio": 7.9}}}
    assert "codecs.int4.ratio" in table


def test_an_unknown_benchmark_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "invalid choice" in capsys.readouterr().err
