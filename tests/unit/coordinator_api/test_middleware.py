"""Every error of a route becomes a typed answer."""

from __future__ import annotations

import asyncio
import logging

import httpx
import msgspec
import pytest

from pleb_coordinator.api.counters import RequestCounters
from pleb_coordinator.api.middleware import ErrorMiddleware
from pleb_shared.errors import EncodingError, InputError, Refusal, RefusalCode
from pleb_shared.protocol.messages import RefusalBody


def answer(error, *, wait=0.0, counters=None):
    async def app(scope, receive, send):
        raise error

    async def ask():
        errors = ErrorMiddleware(app, counters or RequestCounters(), lambda _: wait)
        transport = httpx.ASGITransport(errors)
        async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
            return await client.get("/anything")

    return asyncio.run(ask())


@pytest.mark.parametrize("code", list(RefusalCode))
def test_every_code_has_its_status(code):
    found = answer(Refusal(code, "A sentence.", retry_after_seconds=1.2))
    assert found.status_code == Refusal(code, "").http_status
    assert found.headers["retry-after"] == "2"
    body = msgspec.json.decode(found.content, type=RefusalBody)
    assert body == RefusalBody(code=code, message="A sentence.", retry_after_seconds=1.2)


def test_wrong_tensor_bytes_are_a_refusal_of_the_same_code():
    found = answer(EncodingError(RefusalCode.NOT_FINITE, "Infinity in tensor w."))
    assert (found.status_code, found.json()["code"]) == (400, "not_finite")


@pytest.mark.parametrize("error", [ValueError("/secret/path"), KeyError("password")])
def test_an_unexpected_error_is_logged_and_its_text_not_sent(error, caplog):
    with caplog.at_level(logging.ERROR):
        found = answer(error)
    assert (found.status_code, found.json()["code"]) == (500, "internal")
    assert "secret" not in found.text
    assert "password" not in found.text
    assert caplog.records[0].exc_info[1] is error


def test_our_own_other_errors_keep_their_sentence(caplog):
    found = answer(InputError("The home is damaged: restore it."))
    assert (found.status_code, found.json()["message"]) == (500, "The home is damaged: restore it.")


def test_too_many_requests_never_reach_the_routes():
    counters = RequestCounters()
    found = answer(AssertionError("reached"), wait=0.3, counters=counters)
    assert (found.status_code, found.json()["code"]) == (429, "rate_limited")
    assert found.headers["retry-after"] == "1"
    assert counters.refusals == {"rate_limited": 1}
    assert counters.requests == {("other", 429): 1}


def test_metrics_are_prometheus_text():
    counters = RequestCounters()
    counters.served("work", 200, 0.003)
    counters.served("work", 200, 0.3)
    counters.served("work", 403, 99.0)
    text = counters.text({"waiters": 3.0})
    assert 'pleb_requests_total{route="work",status="200"} 2' in text
    assert 'pleb_request_seconds_bucket{le="0.005"} 1' in text
    assert 'pleb_request_seconds_bucket{le="1.0"} 2' in text
    assert 'pleb_request_seconds_bucket{le="+Inf"} 3' in text
    assert "pleb_request_seconds_count 3" in text
    assert "pleb_waiters 3" in text
