"""A worker serves one project or family: it has several turns, for a bounded time."""

from __future__ import annotations

import asyncio
import itertools
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

    @property
    def work_folder(self):
        return self.family or str(self.id)


ONE: Any = Attached(1, "one", next_look_at=2.0)
OTHER: Any = Attached(2, "other", next_look_at=1.0)
PAIR: Any = [Attached(3, "pair-1", "pair", 4.0), Attached(4, "pair-2", "pair", 3.0)]


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


def test_members_of_a_family_take_turns_with_one_worker_before_others_have_theirs(monkeypatch):
    async def story():
        loop, journal = asyncio.get_running_loop(), Settings()
        turns = FairTurns(journal, Preferences)  # type: ignore[arg-type]
        turns.look_at([ONE, *PAIR])
        turns.change_costs(2.5)
        turns.begin(PAIR[0])
        chosen = []
        for _ in range(5):
            one = turns.choose([ONE, *PAIR])
            turns.begin(one)
            turns.charge(one, 2.0)
            turns.end(one)
            chosen.append(one)
        assert not turns.is_next(chosen[-1], [ONE, PAIR[0], PAIR[1]], 2.0), "the other member is"
        now = loop.time()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", lambda: now + 51)
            return chosen, turns.choose([ONE, *PAIR])

    chosen, at_last = asyncio.run(story())
    assert {one.name for one in chosen} == {"pair-1", "pair-2"}
    assert all(one is not other for one, other in itertools.pairwise(chosen)), "in turns"
    assert at_last is ONE
