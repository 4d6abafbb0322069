"""The socket that `serve` listens on."""

from __future__ import annotations

import socket

import pytest

from pleb_coordinator.cli.serve import open_socket
from pleb_shared.errors import InputError


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_all_addresses_are_those_of_both_protocols(address):
    with open_socket("::", 0) as listening:
        port = listening.getsockname()[1]
        socket.create_connection((address, port), timeout=10).close()


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(InputError, match="--host"):
        open_socket("192.0.2.1", 0)
