"""Attacks over HTTP: bodies that never end, dear requests by strangers, many readers at once."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from pleb_coordinator.api import publishing, requests, status
from pleb_coordinator.api.counters import RequestCounters
from pleb_coordinator.api.requests import read_body
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.signing import SigningKey
from pleb_system.command_line import Output, table
from tests.integration.http_world import http_world


def body_of(*parts, pause=0.0, length=None):
    left = list(parts)

    async def receive():
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    headers = {} if length is None else {"content-length": length}
    return SimpleNamespace(headers=headers, receive=receive)


def test_a_body_that_drips_for_ever_is_given_up(monkeypatch):
    monkeypatch.setattr(requests, "_PATIENCE_SECONDS", 0.1)
    counters = RequestCounters()
    with pytest.raises(Refusal) as caught:
        asyncio.run(read_body(body_of(*[b"x"] * 100, pause=0.02), 100, counters))
    assert caught.value.code == RefusalCode.RATE_LIMITED
    assert counters.body_bytes_held == 0


def test_large_bodies_together_have_a_ceiling_and_small_ones_pass(monkeypatch):
    monkeypatch.setattr(requests, "_MOST_HELD_BYTES", 300_000)

    async def story():
        counters, most = RequestCounters(), 200_000
        part = b"x" * 50_000
        slow = [body_of(*[part] * 3, b"", pause=0.05) for _ in range(8)]
        reading = [read_body(body, most, counters) for body in slow]
        small = read_body(body_of(b"y" * 1000, b"z" * 1000, pause=0.1), most, counters)
        *large, read = await asyncio.gather(*reading, small, return_exceptions=True)
        assert read == b"y" * 1000 + b"z" * 1000
        refused = [found for found in large if isinstance(found, Refusal)]
        assert 4 <= len(refused) < 8
        assert {found.code for found in refused} == {RefusalCode.RATE_LIMITED}
        assert counters.body_bytes_held == 0

    asyncio.run(story())


def test_nothing_is_read_for_a_stranger_who_publishes(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(publishing, "examine", lambda *_: read.append(1))

    async def story():
        async with http_world(tmp_path) as http:
            stranger = SigningKey.generate()
            mine = replace(http.world.metadata, project="mine", root_key=stranger.public)
            body = http.world.envelope(mine, invite="guess" * 4, key=stranger)
            answer = await http.client.post("/publish", content=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "invalid_invite")

    asyncio.run(story())
    assert read == []


def test_a_hundred_readers_at_once_cost_one_reading(tmp_path, monkeypatch):
    """Else they fill the threads that uploads and blobs need."""
    read, real = [], status.read_status

    def counted(*arguments):
        read.append(1)
        return real(*arguments)

    monkeypatch.setattr(status, "read_status", counted)

    async def story():
        async with http_world(tmp_path) as http:
            answers = await asyncio.gather(
                *(http.client.get("/projects/tiny/status") for _ in range(100))
            )
            assert {answer.status_code for answer in answers} == {200}

    asyncio.run(story())
    assert len(read) == 1


def test_one_invite_raced_by_many_lets_one_in(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            with http.world.store.write() as tx:
                from pleb_coordinator.steps.invite import new_invite
                from pleb_shared.protocol.messages import Role

                token = new_invite(tx, http.world.deps, Role.TRUSTED, lifetime_seconds=60)
            hosts = [http.world.volunteer(f"host {n}", calibrated=False) for n in range(20)]
            found = await asyncio.gather(
                *(http.enrol(host, invite=token) for host in hosts), return_exceptions=True
            )
            assert sum(not isinstance(one, BaseException) for one in found) == 1

    asyncio.run(story())


def test_names_do_not_command_the_operators_terminal(capsys):
    evil = "\x1b]0;pwned\x07\nforged  trusted"
    Output("p", as_json=False).result({}, table(["NAME"], [[evil]], ""))
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert len(told.splitlines()) == 2
    Output("p", as_json=True).result({"name": evil}, [])
    assert json.loads(capsys.readouterr().out) == {"name": evil}
