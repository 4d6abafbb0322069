"""Updates go the user's way: their proxy, their system's certificates, and straight to this PC."""

from __future__ import annotations

import ssl

import pytest
import truststore

from pleb_agent.updates.fetcher import Route
from pleb_shared.errors import InputError


def options(proxy: str, url: str) -> dict[str, object]:
    return Route(proxy)._options(url)


@pytest.mark.parametrize(
    ("proxy", "url", "environment", "through"),
    [
        ("", "https://updates.example", True, False),
        ("none", "https://updates.example", False, False),
        ("proxy.example:3128", "https://updates.example", False, True),
        ("http://a:b@proxy.example:3128", "http://updates.example", False, True),
        ("proxy.example:3128", "http://127.0.0.1:8000", False, False),
        ("", "http://localhost:8000", False, False),
    ],
)
def test_the_proxy_is_the_preferences(proxy, url, environment, through):
    made = options(proxy, url)
    assert made["trust_env"] is environment
    assert (made["proxy"] is not None) is through


def test_the_systems_own_anchors_hold():
    verify = options("", "https://updates.example")["verify"]
    assert isinstance(verify, truststore.SSLContext)
    assert verify.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("proxy", ["socks5://proxy.example", "://"])
def test_a_proxy_that_cannot_be_used_is_named(proxy):
    with pytest.raises(InputError, match="preference `proxy`"):
        Route(proxy).client("https://updates.example")
