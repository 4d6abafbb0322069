"""A process's log: one JSON object a line, in its own rotated file and nowhere else."""

from __future__ import annotations

import json
import logging

import pytest

from pleb_agent.app.home import Home
from pleb_system.logs import JsonLines, start_log

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


def start_agent_log(folder):
    home = Home(folder)
    home.prepare()
    home.start_log(terminal=False, debug=False)
    return home.log


def test_a_line_is_one_object_with_the_extra_fields():
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "said %s"})
    record.args = ("this\nthat",)
    record.path = "/work"
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line) | {"time": 0} == {
        "time": 0,
        "level": "info",
        "logger": "n",
        "event": "said this\nthat",
        "path": "/work",
    }


@pytest.mark.parametrize("name", NAMES)
def test_what_libraries_report_of_defects_is_in_the_agents_log_and_nowhere_else(
    name, tmp_path, capfd
):
    log = start_agent_log(tmp_path)
    logging.getLogger(name).error("it broke")
    (line,) = log.read_text("utf-8").splitlines()
    assert json.loads(line)["event"] == "it broke"
    assert capfd.readouterr() == ("", "")


def test_a_second_start_writes_each_line_once(tmp_path):
    start_agent_log(tmp_path)
    log = start_agent_log(tmp_path)
    logging.getLogger("asyncio").error("it broke")
    assert len(log.read_text("utf-8").splitlines()) == 1


def test_debug_lines_and_the_terminal_are_for_our_own_logger(tmp_path, capfd):
    start_log(tmp_path / "log", loggers=NAMES, most_bytes=10_000, kept=1, debug=True, terminal=True)
    logging.getLogger("pleb.agent").debug("look", extra={"at": 3})
    logging.getLogger("asyncio").error("it broke")
    lines = (tmp_path / "log").read_text("utf-8").splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["look", "it broke"]
    shown = capfd.readouterr().err
    assert "look" in shown
    assert "at=3" in shown
    assert "it broke" not in shown


def test_the_log_is_rotated(tmp_path):
    start_log(tmp_path / "log", loggers=NAMES, most_bytes=200, kept=2)
    for number in range(20):
        logging.getLogger("pleb").info("line", extra={"number": number})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
