"""Networks, teams, invites and newcomers: what the coordinator knows about who is one person."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from pleb_coordinator.cli import main as coordinator_main
from pleb_coordinator.core.voices import NETWORKS_KEPT, independent, is_renamed, network_of
from pleb_coordinator.home.config import CoordinatorConfig, Networks, config_text
from pleb_coordinator.home.layout import Home
from pleb_coordinator.steps.enrol import enrol
from pleb_coordinator.steps.invite import new_invite
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.messages import EnrolRequest, Role
from pleb_shared.protocol.signing import SigningKey
from tests.integration.http_world import http_world
from tests.integration.steps_world import Volunteer, World

V4, V6 = "203.0.113.0/24", "2001:db8:7::/48"
DAY = 86_400.0


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, new_host_units=2)


def invited(world, **options):
    with world.store.write() as tx:
        return new_invite(tx, world.deps, Role.HOST, lifetime_seconds=60, **options)


def joined(world, *, key=None, account=None, invite=None, network=""):
    """Enrol a host; return its row."""
    key = key or SigningKey.generate()
    request = EnrolRequest(
        protocols=[1],
        project="tiny",
        host_key=key.public,
        account_key=(account or SigningKey.generate()).public,
        invite=invite,
        agent="test",
        issued_at=0,
        expires_at=0,
    )
    with world.store.write() as tx:
        project = tx.projects.find("tiny")
        enrol(tx, world.deps, project, request, network)
        return tx.hosts.find(project.id, key.fingerprint)


def party(world, host):
    with world.store.read() as tx:
        return tx.hosts.party(tx.hosts.get(host.id), world.clock.now)


def seen_from(world, host: Volunteer, network):
    host.network = network
    world.ask(host, 0)


def test_the_last_networks_of_a_host_count_for_a_month(world):
    host = world.volunteer("host", network=V4)
    row = world.row(host)
    seen_from(world, host, V6)
    assert party(world, row).networks == {V4, V6}, "IPv4 and IPv6 of one PC"
    other = joined(world, network=V4)
    assert not independent(party(world, row), party(world, other))

    for number in range(NETWORKS_KEPT):
        world.clock.now += 1
        seen_from(world, host, f"198.51.{number}.0/24")
    assert len(party(world, row).networks) == NETWORKS_KEPT
    assert V4 not in party(world, row).networks

    for _ in range(31):
        world.clock.now += DAY
        seen_from(world, host, host.network)
    assert party(world, row).networks == {host.network}


def test_a_team_is_its_accounts_with_all_their_hosts(world):
    account = SigningKey.generate()
    first = joined(world, account=account)
    token = invited(world, team="lab", uses=2)
    assert joined(world, account=account, invite=token).team == "lab"
    with world.store.read() as tx:
        assert tx.hosts.get(first.id).team == "lab", "the account's other PC"
    assert joined(world, account=account).team == "lab", "and the next one, without an invite"
    colleague = joined(world, invite=token)
    assert not independent(party(world, first), party(world, colleague))
    assert independent(party(world, first), party(world, joined(world)))
    with pytest.raises(Refusal, match="used already"):
        joined(world, invite=token)


def test_a_host_that_names_another_account_brings_its_own_into_the_team(world):
    key, account, other = (SigningKey.generate() for _ in range(3))
    joined(world, key=key, account=account)
    stranger = joined(world, account=other)
    host = joined(world, key=key, account=other, invite=invited(world, team="lab"))
    assert (host.account, host.team) == (account.fingerprint, "lab")
    assert party(world, stranger).team == ""


def test_an_invite_makes_a_host_proven_once(world):
    key, token = SigningKey.generate(), invited(world, proven=True)
    assert not joined(world, key=key).proven
    for _ in range(2):
        assert joined(world, key=key, invite=token).proven, "again with the same invite"
    assert joined(world, key=key).proven, "and without it"
    with pytest.raises(Refusal, match="used already"):
        joined(world, invite=token)


def bounded(world, **bounds):
    world.deps = dataclasses.replace(world.deps, networks=Networks(**bounds))


def refused(world, network):
    with pytest.raises(Refusal) as caught:
        joined(world, network=network)
    assert caught.value.code == RefusalCode.RATE_LIMITED
    assert "ask the operator for an invite" in caught.value.message
    return caught.value.retry_after_seconds


def test_a_network_brings_so_many_new_hosts_in_an_hour_and_in_a_day(world):
    bounded(world, new_hosts_per_hour=2, new_hosts_per_day=3)
    key = SigningKey.generate()
    joined(world, network=V4, key=key)
    world.clock.now += 600
    joined(world, network=V4)
    assert refused(world, V4) == pytest.approx(3000)
    joined(world, network=V4, key=key)  # is known
    joined(world, network=V4, invite=invited(world))
    joined(world, network=V6)  # others are not hindered
    world.clock.now += 3601
    assert refused(world, V4) == pytest.approx(DAY - 4201), "three on this day"
    world.clock.now += DAY - 4201
    joined(world, network=V4)


def test_a_network_has_so_many_hosts_without_a_record(world):
    bounded(world, unproven_hosts=2)
    for _ in range(2):
        joined(world, network=V4)
    refused(world, V4)
    joined(world, network=V6)
    world.clock.now += 2 * DAY  # they are switched off
    joined(world, network=V4)


def test_a_campus_has_a_bound_of_its_own(world):
    own = Networks(own=("8.8.0.0/16",), new_hosts_per_hour=1, own_new_hosts_per_hour=3)
    world.deps = dataclasses.replace(world.deps, networks=own)
    for address in ("8.8.1.1", "8.8.1.2", "8.8.2.1"):
        joined(world, network=network_of(address, own.own_networks))
    refused(world, network_of("8.8.3.1", own.own_networks))


def test_thousands_of_newcomers_from_different_networks_are_not_hindered(world):
    with world.store.write() as tx:
        project = tx.projects.find("tiny")
        for number in range(3300):
            request = EnrolRequest(
                protocols=[1],
                project="tiny",
                host_key=SigningKey.generate().public,
                account_key=SigningKey.generate().public,
                agent="test",
                issued_at=0,
                expires_at=0,
            )
            network = f"198.{number // 100}.{number % 100}.0/24"
            enrol(tx, world.deps, project, request, network)
            world.clock.now += DAY / 3300


@pytest.mark.parametrize(("own", "apart"), [((), False), (("10.0.0.0/8",), True)])
def test_pcs_of_the_operators_own_network_are_told_apart_by_account(world, own, apart):
    name = network_of("10.1.2.3", Networks(own=own).own_networks)
    account = SigningKey.generate()
    a, b, c = (joined(world, network=name, account=key) for key in (account, account, None))
    assert not independent(party(world, a), party(world, b))
    assert independent(party(world, a), party(world, c)) == apart


def test_names_of_networks_that_mean_something_else_now_are_forgotten(world):
    campus = Networks(own=("203.0.113.0/26",)).own_networks
    host = world.volunteer("host", network=V4)
    row, other = world.row(host), joined(world, network="own:10.0.0.0/8")
    seen_from(world, host, V6)
    with world.store.write() as tx:
        tx.hosts.forget_networks(lambda name: is_renamed(name, campus))
    assert party(world, row).networks == {V6}
    assert party(world, other).networks == frozenset()


def test_over_http_the_address_decides(tmp_path):
    async def attached(folder, networks, address):
        folder.mkdir()
        config = CoordinatorConfig(networks=networks)
        async with http_world(folder, config=config, client=(address, 1)) as http:
            host = Volunteer("a", "a", "", SigningKey.generate(), SigningKey.generate())
            await http.enrol(host)
            return http.world.row(host)

    campus = Networks(own=("8.8.4.0/25",))
    host = asyncio.run(attached(tmp_path / "campus", campus, "8.8.4.4"))
    assert (host.network, host.enrolled_from) == ("own:8.8.4.0/25", "own:8.8.4.0/25")
    with pytest.raises(AssertionError, match="need an invite"):
        asyncio.run(attached(tmp_path / "closed", Networks(new_hosts_per_hour=0), "8.8.4.4"))


def ask(capsys, *arguments):
    code = coordinator_main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out or "null")


def test_the_operator_makes_teams(tmp_path, capsys):
    world = World(tmp_path)
    home = Home(tmp_path)
    home.config_file.write_text(config_text(CoordinatorConfig()))
    home.online_key_file.parent.mkdir(exist_ok=True)
    for file in (home.online_key_file, home.secret_file):
        file.write_bytes(bytes(range(32)))
        file.chmod(0o600)
    host = world.volunteer("host", network=V4)
    place = ("--home", tmp_path)

    code, made = ask(
        capsys, "invite", "new", "--team", " lab ", "--proven", "--uses", 2, "--days", 3650, *place
    )
    assert (code, made["team"], made["uses"]) == (0, "lab", 2)
    row = joined(world, invite=made["token"], network=V6)
    [listed] = [i for i in ask(capsys, "invite", "list", *place)[1] if i["team"]]
    assert (listed["state"], listed["used"], listed["proven"]) == ("open", 1, True)
    _, shown = ask(capsys, "host", "show", "tiny", row.fingerprint, *place)
    assert (shown["team"], shown["proven"], shown["networks"]) == ("lab", True, [V6])

    assert ask(capsys, "host", "team", "tiny", host.key.fingerprint, "lab", *place)[0] == 0
    assert not independent(party(world, world.row(host)), party(world, row))
    assert ask(capsys, "host", "team", "tiny", host.key.fingerprint, "", *place)[0] == 0
    assert independent(party(world, world.row(host)), party(world, row))

    for name in ("second", "third"):  # nothing but one voice, and nobody who is trusted
        world.volunteer(name, network="loopback")
    seen_from(world, host, "loopback")
    _, found = ask(capsys, "doctor", *place)
    [voices] = [check for check in found["checks"] if check["name"] == "voices of tiny"]
    assert not voices["good"]
    assert "networks.own" in voices["found"]

    for wrong in (
        ("--role", "publisher", "--team", "lab"),
        ("--role", "trusted", "--proven"),
        ("--team", "x" * 41),
        ("--team", "a\u202eb"),
    ):
        assert ask(capsys, "invite", "new", *wrong, *place)[0] == 2
