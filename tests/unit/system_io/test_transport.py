"""HTTP to a coordinator: certificates, proxies, failures and refusals, for both kinds of client."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from contextlib import contextmanager

import httpx
import pytest
import truststore

from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_system.exit_codes import ExitCode
from pleb_system.network_errors import BadAnswerError, UnreachableError, WrongCertificateError
from pleb_system.transport import network_error, open_http, refusal_of
from tests.certificates import self_signed

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


class Recorder:
    """Stands for a client; keeps the arguments that it was made with."""

    def __init__(self, **options):
        self.options = options


def options(proxy, url):
    made: dict[str, object] = open_http(Recorder, httpx.URL(url), proxy=proxy).options  # type: ignore[type-var]
    return made


@pytest.mark.parametrize(
    ("proxy", "url", "environment", "through"),
    [
        ("", "https://host.example", True, False),
        ("none", "https://host.example", False, False),
        ("proxy.example:3128", "https://host.example", False, True),
        ("http://a:b@proxy.example:3128", "http://host.example", False, True),
        ("proxy.example:3128", "http://127.0.0.1:8000", False, False),
        ("", "http://localhost:8000", False, False),
        ("", "http://[::1]:8000", False, False),
    ],
)
def test_the_proxy_is_the_preferences(proxy, url, environment, through):
    made = options(proxy, url)
    assert made["trust_env"] is environment
    assert (made["proxy"] is not None) is through


def test_the_systems_own_anchors_decide_without_a_pin():
    verify = options("", "https://host.example")["verify"]
    assert isinstance(verify, truststore.SSLContext)
    assert verify.verify_mode is ssl.CERT_REQUIRED


def test_a_proxy_of_the_environment_that_cannot_be_used_is_named(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://secret:word@proxy.example")
    with pytest.raises(InputError, match="preference `proxy`"):
        open_http(httpx.Client, httpx.URL("https://host.example"))


@contextmanager
def tls_server(folder):
    """A server that answers over TLS; yields its URL, its pin and the requests that it got."""
    context, pin = self_signed(folder)
    heads: list[bytes] = []

    def serve(listening):
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            with plain:
                try:
                    with context.wrap_socket(plain, server_side=True) as connection:
                        head = connection.recv(65_536)
                        if head:
                            heads.append(head)
                            connection.sendall(ANSWER)
                except OSError:  # the client did not want us
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}", pin, heads
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def get(url, pin):
    with open_http(httpx.Client, httpx.URL(url), certificate=pin) as http:
        return http.get(url).content


def get_in_a_loop(url, pin):
    async def story():
        async with open_http(httpx.AsyncClient, httpx.URL(url), certificate=pin) as http:
            return (await http.get(url)).content

    return asyncio.run(story())


@pytest.mark.parametrize("ask", [get, get_in_a_loop])
def test_a_pinned_certificate_is_enough_and_necessary(tmp_path, ask):
    with tls_server(tmp_path) as (url, pin, heads):
        assert ask(url, pin) == b"ok"
        with pytest.raises(WrongCertificateError, match="another certificate") as caught:
            ask(url, "0" * 64)
        assert caught.value.exit_code == ExitCode.NOT_TRUSTED
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            ask(url, None)
        assert len(heads) == 1  # no byte of ours went to a server that we do not trust


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("refused"), UnreachableError),
        (httpx.ReadTimeout(""), UnreachableError),
        (TimeoutError(), UnreachableError),
        (httpx.RemoteProtocolError("peer closed connection"), UnreachableError),
        (httpx.RemoteProtocolError("illegal status line"), BadAnswerError),
        (httpx.TooManyRedirects("20"), BadAnswerError),
    ],
)
def test_a_failure_names_the_address_and_what_to_do(error, kind):
    found = network_error(error, "http://h", "look there")
    assert type(found) is kind
    assert "http://h" in str(found)
    assert str(found).endswith("; look there.")


def answer(status, body, **headers):
    request = httpx.Request("POST", "http://h/x")
    return refusal_of(httpx.Response(status, headers=headers, request=request), body)


def test_a_refusal_keeps_its_code_and_the_longer_of_two_waits():
    body = json.dumps({"code": "rate_limited", "message": "Slower.", "retry_after_seconds": 3.0})
    found = answer(429, body.encode(), **{"retry-after": "9"})
    assert isinstance(found, Refusal)
    assert (found.code, found.retry_after_seconds) == (RefusalCode.RATE_LIMITED, 9.0)
    found = answer(429, body.encode())
    assert found.retry_after_seconds == 3.0


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code": "no_such"}'])
def test_a_proxys_page_is_no_answer_of_a_coordinator(body):
    found = answer(502, body, **{"retry-after": "7"})
    assert isinstance(found, BadAnswerError)
    assert found.retry_after_seconds == 7.0
    assert "502" in str(found)
