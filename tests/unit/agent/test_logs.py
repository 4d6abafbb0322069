"""The log is the one place where agentd tells of itself: rotated, whoever speaks."""

from __future__ import annotations

import json
import logging

import pytest

from pleb_agent.app.logs import start_log

NAMES = ("pleb", "asyncio", "uvicorn.error")


@pytest.fixture(autouse=True)
def loggers():
    kept = {name: _state(name) for name in NAMES}
    yield
    for name, values in kept.items():
        for handler in logging.getLogger(name).handlers:
            handler.close()
        vars(logging.getLogger(name)).update(values)


def _state(name):
    logger = logging.getLogger(name)
    return {"handlers": [*logger.handlers], "propagate": logger.propagate, "level": logger.level}


@pytest.mark.parametrize("name", NAMES)
def test_what_libraries_tell_of_defects_is_in_the_log_and_nowhere_else(name, tmp_path, capfd):
    start_log(tmp_path / "agentd.jsonl", terminal=False, debug=False)
    logging.getLogger(name).error("it broke")
    (line,) = (tmp_path / "agentd.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["event"] == "it broke"
    assert capfd.readouterr() == ("", "")


def test_a_second_start_writes_each_line_once(tmp_path):
    for _ in range(2):
        start_log(tmp_path / "agentd.jsonl", terminal=False, debug=False)
    logging.getLogger("asyncio").error("it broke")
    assert len((tmp_path / "agentd.jsonl").read_text("utf-8").splitlines()) == 1
