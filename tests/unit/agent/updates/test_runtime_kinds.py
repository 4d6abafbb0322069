"""Which build of PyTorch a device's worker gets, and which ones are offered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pleb_agent.control.packages import Packages, version_of
from pleb_agent.core.devices import serves
from pleb_agent.core.preferences import Preferences
from pleb_agent.updates.runtimes import Runtimes
from tests.unit.agent.updates.served import a_world, runtime_facts

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"torch/__init__.py": b"version = '2.13.0'\n"}
KINDS = ("cpu", "cu126", "cu130", "rocm7.1", "xpu")


@pytest.fixture
def world(tmp_path):
    with a_world(tmp_path) as made:
        for kind in KINDS:
            made.publish(runtime_facts(kind), FILES, name=kind)
        yield made


def packages_of(world: Any, cards: list[str]) -> Packages:
    """Return those of a packaged agent: the tests themselves run from source."""
    packages = Packages(
        world.folder / "runtimes",
        world.folder / "updates",
        Preferences,
        cards=cards,
        on_change=lambda: None,
        on_runtime=lambda: None,
        on_release=lambda _: None,
    )
    packages._runtimes = Runtimes(world.folder / "runtimes", world.installation(), world.source())
    return packages


def test_each_device_gets_the_newest_build_for_its_kind(world: Any) -> None:
    packages = packages_of(world, ["cuda-0", "rocm-0"])
    assert packages._runtimes is not None
    assert packages.runtime_path() is None
    for kind in ("cpu", "cu126", "cu130", "rocm7.1"):
        asyncio.run(packages._runtimes.fetch(kind))

    def kind_for(device: str) -> str:
        path: Path | None = packages.runtime_path(device)
        return "" if path is None else path.name.partition("-")[0]

    devices = ["cpu", "cuda-0", "cuda-1", "rocm-0", "xpu-0", "mps-0"]
    found = ["cpu", "cu130", "cu130", "rocm7.1", "", "cpu"]
    assert [kind_for(device) for device in devices] == found


def test_builds_are_offered_for_the_cards_of_this_pc_with_their_size(world: Any) -> None:
    async def offered(cards: list[str]) -> list[str]:
        packages = packages_of(world, cards)
        assert packages._runtimes is not None
        packages._offers = await packages._runtimes.offers()
        view = packages.runtime_view()
        assert view is not None
        assert all(offer.bytes_total > 0 for offer in view.offers)
        return [offer.kind for offer in view.offers]

    assert asyncio.run(offered([])) == []
    assert asyncio.run(offered(["cuda-0"])) == ["cu126", "cu130"]
    assert asyncio.run(offered(["rocm-0", "xpu-0"])) == ["rocm7.1", "xpu"]


def test_names_of_builds() -> None:
    assert serves("cu130", "cuda-7")
    assert not serves("cu130", "cpu")
    assert not serves("cpu", "cuda-0")
    assert not serves("cu130-evil", "cuda-0")
    assert max(["cu118", "cu130", "cu126"], key=version_of) == "cu130"
    assert max(["rocm6.4", "rocm7.1", "rocm7"], key=version_of) == "rocm7.1"
