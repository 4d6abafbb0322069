"""A torch runtime is there as a whole or not at all, and the page knows how far it is."""

from __future__ import annotations

import asyncio

import pytest

from pleb_agent.program.installed import Installation, InstallKind
from pleb_agent.updates.errors import (
    BrokenArchiveError,
    NoAddressError,
    NotOfferedError,
    UntrustedSourceError,
)
from pleb_agent.updates.repository import Source
from pleb_agent.updates.runtimes import FetchState, Runtimes, RuntimeState
from tests.unit.agent.updates.served import a_world, runtime_facts

FILES = {"torch/__init__.py": b"version = '2.13.0'\n", "numpy/__init__.py": b"\n" * 3 * 2**20}


@pytest.fixture
def world(tmp_path):
    with a_world(tmp_path) as made:
        yield made


def runtimes_of(world) -> Runtimes:
    return Runtimes(world.folder / "runtimes", world.installation(), world.source())


def test_a_runtime_is_fetched_verified_and_unpacked(world):
    world.publish(runtime_facts(), FILES)
    runtimes = runtimes_of(world)
    told: list[RuntimeState] = []
    assert runtimes.needs_one
    assert runtimes.path() is None
    assert runtimes.state().state is FetchState.MISSING
    folder = asyncio.run(runtimes.fetch("cpu", told.append))
    assert (folder / "torch/__init__.py").read_bytes() == FILES["torch/__init__.py"]
    assert runtimes.path() == folder
    assert runtimes.state().sentence == "torch 2.13.0 is installed."
    assert [state.state for state in told] == [FetchState.FETCHING] * (len(told) - 1) + [
        FetchState.INSTALLED
    ]
    arrived = [state.bytes_done for state in told if state.bytes_total]
    assert len(arrived) >= 3
    assert arrived == sorted(arrived)
    assert not list((world.folder / "agent" / "downloads").iterdir())


def test_the_next_process_finds_it(world):
    world.publish(runtime_facts(), FILES)
    folder = asyncio.run(runtimes_of(world).fetch())
    assert runtimes_of(world).path() == folder
    assert runtimes_of(world).kinds() == ["cpu"]


def test_fetching_again_moves_no_byte(world):
    world.publish(runtime_facts(), FILES)
    runtimes = runtimes_of(world)
    asyncio.run(runtimes.fetch())
    sent = world.server.sent
    asyncio.run(runtimes.fetch())
    assert world.server.sent == sent


def test_a_newer_torch_replaces_the_older_one_of_its_kind_only(world):
    runtimes = runtimes_of(world)
    world.publish(runtime_facts(), FILES, name="cpu-a")
    world.publish(runtime_facts("cu130"), FILES, name="cu130-a")
    old, gpu = asyncio.run(runtimes.fetch()), asyncio.run(runtimes.fetch("cu130"))
    world.publish(runtime_facts(torch="2.14.0"), FILES, name="cpu-b")
    new = asyncio.run(runtimes.fetch())
    assert (old.exists(), gpu.exists(), new.exists()) == (False, True, True)
    assert runtimes.kinds() == ["cpu", "cu130"]


def test_the_sizes_are_known_before_the_button_is_pressed(world):
    served = world.publish(runtime_facts("cu130"), FILES)
    (offer,) = asyncio.run(runtimes_of(world).offers())
    assert (offer.kind, offer.bytes_total) == ("cu130", served.stat().st_size)
    assert offer.unpacked_bytes == sum(map(len, FILES.values()))


@pytest.mark.parametrize("changes", [{"platform": "plan9-mips"}, {"python": "3.9"}])
def test_what_cannot_run_here_is_not_offered(world, changes):
    world.publish(runtime_facts(**changes), FILES)
    runtimes = runtimes_of(world)
    with pytest.raises(NotOfferedError, match="no torch runtime 'cpu'"):
        asyncio.run(runtimes.fetch())
    assert runtimes.state().state is FetchState.FAILED


def test_a_tampered_runtime_leaves_the_old_one_alone(world):
    runtimes = runtimes_of(world)
    world.publish(runtime_facts(), FILES, name="cpu-a")
    old = asyncio.run(runtimes.fetch())
    served = world.publish(runtime_facts(torch="2.14.0"), FILES, name="cpu-b")
    served.write_bytes(served.read_bytes()[:-1] + b"!")
    with pytest.raises(UntrustedSourceError):
        asyncio.run(runtimes.fetch())
    assert runtimes.path() == old
    assert "not the file that was signed" in runtimes.state().sentence


def test_an_archive_with_more_than_its_facts_say_is_refused(world):
    world.publish(runtime_facts(unpacked_bytes=10), FILES)
    runtimes = runtimes_of(world)
    with pytest.raises(BrokenArchiveError):
        asyncio.run(runtimes.fetch())
    assert runtimes.path() is None
    assert not [path for path in (world.folder / "runtimes").iterdir() if path.is_dir()]


def test_a_cancelled_fetch_goes_on_later(world):
    served = world.publish(runtime_facts(), FILES)
    runtimes = runtimes_of(world)

    async def cancel_in_the_middle():
        begun = asyncio.Event()

        def told(state: RuntimeState) -> None:
            if state.bytes_done:
                begun.set()

        fetching = asyncio.create_task(runtimes.fetch("cpu", told))
        await begun.wait()
        fetching.cancel()
        await asyncio.wait({fetching})
        return fetching.cancelled()

    if asyncio.run(cancel_in_the_middle()):
        assert runtimes.state().state is FetchState.MISSING
    asyncio.run(runtimes.fetch())
    assert runtimes.path() is not None
    assert world.server.sent <= 2 * served.stat().st_size


def test_an_agent_from_source_needs_none(world):
    installation = Installation(InstallKind.SOURCE, "0.1.0")
    runtimes = Runtimes(world.folder / "runtimes", installation, Source(installation, world.folder))
    assert not runtimes.needs_one
    assert runtimes.state().state is FetchState.INSTALLED


def test_a_build_without_an_address_says_so(world):
    installation = Installation(InstallKind.DEB, "0.1.0")
    runtimes = Runtimes(world.folder / "runtimes", installation, Source(installation, world.folder))
    assert "without an update address" in runtimes.state().sentence
    with pytest.raises(NoAddressError):
        asyncio.run(runtimes.fetch())
