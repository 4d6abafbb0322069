"""Which addresses are of one PC on the internet, and what hosts may say of their sharing."""

from __future__ import annotations

import pytest

from pleb_shared.errors import Refusal
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.peers import Peer, Sharing, public_address

NAME = "ab" * 8


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("192.88.99.7", "192.88.99.7"),
        ("::ffff:192.88.99.7", "192.88.99.7"),
        ("2d00:1::5", "2d00:1::5"),
        ("2D00:1:0:0:0:0:0:5", "2d00:1::5"),
    ],
)
def test_public_addresses(text, shown):
    assert str(public_address(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org",
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.251",
        "255.255.255.255",
        "198.51.100.4",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:192.168.1.1",
        "::127.0.0.1",
        "64:ff9b::c0a8:101",
        "2002:c0a8:0101::1",
        "2001:0:c0a8:101::1",
        "2001:db8::1",
        "2d00:1::5%eth0",
        "192.88.99.7:80",
        "192.88.99.07",
        "[2d00:1::5]",
        "1" * 500,
    ],
)
def test_what_nobody_is_sent_to(text):
    assert public_address(text) is None


@pytest.mark.parametrize("port", [0, 22, 80, 1023, 65536, -1])
def test_ports_of_well_known_services_are_refused(port):
    said = {"peer": NAME, "port": port}
    with pytest.raises(Refusal):
        strict_json.decode(strict_json.encode(said), Sharing)
    with pytest.raises(Refusal):
        strict_json.decode(strict_json.encode(said | {"address": "192.88.99.7"}), Peer)


def test_a_host_cannot_say_an_address():
    said = {"peer": NAME, "port": 7000}
    with pytest.raises(Refusal):
        strict_json.decode(strict_json.encode(said | {"address": "192.88.99.7"}), Sharing)
    assert strict_json.decode(strict_json.encode(said), Sharing).port == 7000
