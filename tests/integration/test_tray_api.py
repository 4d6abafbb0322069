"""The tray against agentd's own server: the real routes, events and tokens."""

from __future__ import annotations

import json
import os
import select
import time

import httpx
import pytest

from pleb_agent.core.override import OverrideKind
from pleb_agent.tray.look import Command, Look, State
from pleb_agent.tray.tray import Tray
from pleb_agent.tray.words import words_in
from tests.integration.page_server import TOKEN, PageServer


class Face:
    """A tray's look, and the programs that it started; turned by the test."""

    def __init__(self, home):
        self.looks: list[Look] = []
        self.launched: list[list[str]] = []
        self.tray = Tray(str(home), time.monotonic, words_in("en"), self._launch)
        self.tray.on_look = self.looks.append

    def _launch(self, command, **_):
        self.launched.append(command)

    def turn_until(self, seen):
        """Follow agentd as the tray's loop does, until the look is so."""
        follower, deadline = self.tray.follower, time.monotonic() + 30
        while not seen(self.tray.look):
            assert time.monotonic() < deadline, self.tray.look
            waited_for = [s for s in (follower.connection,) if s is not None]
            wake_at = follower.wake_at if follower.wake_at is not None else deadline
            select.select(waited_for, [], [], max(0.0, wake_at - time.monotonic()))
            follower.turn()


@pytest.fixture
def server(tmp_path):
    server = PageServer().start()
    write_place(tmp_path, server)
    try:
        yield server
    finally:
        server.stop()


def write_place(home, server):
    place = {"pid": os.getpid(), "port": server.port, "token": TOKEN}
    (home / "agentd.json").write_text(json.dumps(place), "utf-8")


@pytest.fixture
def face(tmp_path, server):
    face = Face(tmp_path)
    try:
        yield face
    finally:
        face.tray.follower.close()


def test_it_follows_every_change(server, face):
    face.turn_until(lambda look: look.state is State.TRAINING)
    assert face.tray.look.tooltip == "Working for words."
    assert face.tray.look.menu[1].label == "words, version 81: 30 %"
    server.do(lambda: server.agent.change(activity="problem", unit=None))
    face.turn_until(lambda look: look.state is State.PROBLEM)


@pytest.mark.parametrize(
    ("command", "override", "call"),
    [
        (Command.PAUSE, OverrideKind.PAUSE, ("changed", ())),
        (Command.SNOOZE_TOMORROW, OverrideKind.PAUSE, ("changed", ())),
        (Command.SNOOZE_1_H, OverrideKind.PAUSE, ("changed", ())),
        (Command.BOOST, OverrideKind.BOOST, ("changed", ())),
        (Command.RESUME, OverrideKind.NONE, ("changed", ())),
        (Command.END_BOOST, OverrideKind.NONE, ("changed", ())),
        (Command.FINISH, OverrideKind.NONE, ("stop", (True,))),
        (Command.QUIT, OverrideKind.NONE, ("stop", (False,))),
    ],
)
def test_commands_arrive(server, face, command, override, call):
    face.tray.carry_out(command)
    assert server.agent.calls == [call]
    assert server.agent.reader.overrides.current.kind is override


def test_a_pause_is_shown_at_once_and_stays(server, face):
    face.turn_until(lambda look: look.state is State.TRAINING)
    face.tray.carry_out(Command.PAUSE)
    assert face.tray.look.state is State.PAUSED
    face.turn_until(lambda _: face.tray.follower.wake_at is None)
    assert face.tray.look.state is State.PAUSED


def test_a_refusal_is_shown_as_its_sentence(server, face):
    server.agent.failure = "The unit in hand cannot be paused now."
    face.tray.carry_out(Command.PAUSE)
    assert face.tray.look.tooltip == "The unit in hand cannot be paused now."


@pytest.mark.parametrize(("part", "place"), [("", "/"), ("preferences", "/preferences")])
def test_the_address_leads_to_the_part_of_the_page(server, part, place):
    address = server.open_url() + (f"&part={part}" if part else "")
    assert httpx.get(address).headers["location"] == place


def test_an_unknown_part_is_the_first_page(server):
    assert httpx.get(server.open_url() + "&part=//evil.example").headers["location"] == "/"
