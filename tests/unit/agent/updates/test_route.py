"""Updates go the user's way: their proxy, their system's certificates, and straight to this PC."""

from __future__ import annotations

import pytest

from pleb_agent.updates.download import Route
from pleb_shared.errors import InputError


@pytest.mark.parametrize("proxy", ["socks5://proxy.example", "://"])
def test_a_proxy_that_cannot_be_used_is_named(proxy):
    with pytest.raises(InputError, match="preference `proxy`"):
        Route(proxy).client("https://updates.example")
