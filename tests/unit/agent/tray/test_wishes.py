"""What the tray sends is what agentd's control API understands."""

from __future__ import annotations

import msgspec
import pytest

from pleb_agent.tray.look import REQUESTS, Command
from pleb_agent.web.control import BoostWish, PauseWish, StopWish, Wish

KINDS: dict[str, type[Wish] | None] = {
    "pause": PauseWish,
    "boost": BoostWish,
    "stop": StopWish,
    "resume": None,
}


@pytest.mark.parametrize("command", REQUESTS)
def test_agentd_understands_the_body(command: Command) -> None:
    name, body = REQUESTS[command]
    kind = KINDS[name]
    if kind is None:
        assert body == {}
    else:
        assert isinstance(msgspec.convert(body, kind), kind)


@pytest.mark.parametrize(
    ("command", "wish"),
    [
        (Command.PAUSE, PauseWish()),
        (Command.SNOOZE_30_MIN, PauseWish(seconds=30 * 60)),
        (Command.SNOOZE_1_H, PauseWish(seconds=60 * 60)),
        (Command.SNOOZE_3_H, PauseWish(seconds=3 * 60 * 60)),
        (Command.SNOOZE_TOMORROW, PauseWish(until_tomorrow=True)),
        (Command.BOOST, BoostWish(seconds=60 * 60)),
        (Command.FINISH, StopWish(finish=True)),
        (Command.QUIT, StopWish(finish=False)),
    ],
)
def test_it_means_what_the_menu_says(command: Command, wish: Wish) -> None:
    assert msgspec.convert(REQUESTS[command][1], type(wish)) == wish
