"""What the tray sends is what agentd's control API understands."""

from __future__ import annotations

import msgspec
import pytest

from pleb_agent.control.requests import (
    BoostRequest,
    FinishRequest,
    PauseRequest,
    RequestBody,
    ResumeRequest,
    StopRequest,
)
from pleb_agent.tray.look import REQUESTS, Command

KINDS: dict[str, type[RequestBody]] = {
    "pause": PauseRequest,
    "boost": BoostRequest,
    "finish": FinishRequest,
    "stop": StopRequest,
    "resume": ResumeRequest,
}


@pytest.mark.parametrize("command", REQUESTS)
def test_agentd_understands_the_body(command: Command) -> None:
    name, body = REQUESTS[command]
    assert isinstance(msgspec.convert(body, KINDS[name]), KINDS[name])


@pytest.mark.parametrize(
    ("command", "request_body"),
    [
        (Command.PAUSE, PauseRequest()),
        (Command.SNOOZE_30_MIN, PauseRequest(seconds=30 * 60)),
        (Command.SNOOZE_1_H, PauseRequest(seconds=60 * 60)),
        (Command.SNOOZE_3_H, PauseRequest(seconds=3 * 60 * 60)),
        (Command.SNOOZE_TOMORROW, PauseRequest(until_tomorrow=True)),
        (Command.BOOST, BoostRequest(seconds=60 * 60)),
        (Command.RESUME, ResumeRequest()),
        (Command.PAUSE_CARDS, PauseRequest(devices=["cards"])),
        (Command.RESUME_CARDS, ResumeRequest(devices=["cards"])),
        (Command.FINISH, StopRequest(finish=True)),
        (Command.QUIT, StopRequest(finish=False)),
    ],
)
def test_it_means_what_the_menu_says(command: Command, request_body: RequestBody) -> None:
    assert msgspec.convert(REQUESTS[command][1], type(request_body)) == request_body
