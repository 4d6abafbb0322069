"""The flag page: what one side writes, the other sees without any call in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pleb_agent.worker.channel import FlagPage, Request, State

if TYPE_CHECKING:
    from pathlib import Path


def test_both_sides_see_each_other(tmp_path: Path) -> None:
    path = tmp_path / "flags"
    with FlagPage.create(path) as agent, FlagPage(path) as worker:
        assert (worker.request, agent.state) == (Request.RUN, State.IDLE)
        agent.request = Request.PAUSE
        worker.state = State.PAUSED
        assert (worker.request, agent.state) == (Request.PAUSE, State.PAUSED)


def test_the_share_lies_between_one_and_a_hundred(tmp_path: Path) -> None:
    path = tmp_path / "flags"
    with FlagPage.create(path) as agent, FlagPage(path) as worker:
        assert worker.share_percent == 100
        for given, seen in ((30, 30), (0, 1), (400, 100)):
            agent.share_percent = given
            assert worker.share_percent == seen


def test_a_new_page_forgets_the_last_wish(tmp_path: Path) -> None:
    path = tmp_path / "flags"
    with FlagPage.create(path) as page:
        page.request = Request.CHECKPOINT_AND_STOP
    with FlagPage.create(path) as page:
        assert page.request is Request.RUN


def test_a_page_that_holds_no_wish_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "flags").write_bytes(b"\x09\x00\x64")
    with FlagPage(tmp_path / "flags") as page, pytest.raises(ValueError, match="9"):
        _ = page.request
