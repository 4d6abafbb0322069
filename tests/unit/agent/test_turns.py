"""A worker serves one project: its project has several turns, for a bounded time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from pleb_agent.core.preferences import Preferences
from pleb_agent.loop.projects import FairTurns


class Settings:
    """The journal's settings."""

    def __init__(self):
        self.kept = {}

    def setting(self, name):
        return self.kept.get(name, "")

    def keep_setting(self, name, value):
        self.kept[name] = value


@dataclass(frozen=True)
class Attached:
    id: int
    name: str
    family: str = ""
    next_look_at: float = 0.0


ONE: Any = Attached(1, "one", next_look_at=2.0)
OTHER: Any = Attached(2, "other", next_look_at=1.0)


def play(monkeypatch, start_seconds, seconds_later):
    """Return who is chosen after a unit of ONE that computed nothing, so much later."""

    async def story():
        loop = asyncio.get_running_loop()
        now = loop.time()
        journal: Any = Settings()
        turns = FairTurns(journal, Preferences)
        turns.change_costs(start_seconds)
        assert turns.choose([ONE, OTHER]) is OTHER, "it has waited longest"
        turns.begin(ONE)
        turns.end(ONE)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", lambda: now + seconds_later)
            return turns.choose([ONE, OTHER])

    return asyncio.run(story())


def test_the_project_whose_worker_runs_goes_on(monkeypatch):
    assert play(monkeypatch, start_seconds=2.5, seconds_later=30) is ONE


def test_units_that_fail_at_once_do_not_keep_the_turn_for_ever(monkeypatch):
    assert play(monkeypatch, start_seconds=2.5, seconds_later=51) is OTHER


def test_where_a_start_costs_little_every_unit_is_a_turn(monkeypatch):
    assert play(monkeypatch, start_seconds=0.1, seconds_later=0.5) is OTHER


def test_a_slow_start_earns_no_more_than_five_minutes(monkeypatch):
    assert play(monkeypatch, start_seconds=100, seconds_later=299) is ONE
    assert play(monkeypatch, start_seconds=100, seconds_later=301) is OTHER
