"""The simulator: real steps in virtual time, and what it says of a fleet."""

import json
from argparse import ArgumentParser
from dataclasses import replace

import msgspec
import pytest

from benchmarks import trust
from pleb_coordinator.core.records import Purpose, RestoreCause
from pleb_coordinator.simulation.attacks import ATTACKS
from pleb_coordinator.simulation.figures import figures_of
from pleb_coordinator.simulation.fleet import opened_fleet
from pleb_coordinator.simulation.hosts import FleetPlan
from pleb_coordinator.simulation.presence import Habits, Weibull, Window
from pleb_coordinator.simulation.settings import Settings
from pleb_coordinator.simulation.throughput import throughput_of
from pleb_coordinator.steps import candidates
from pleb_shared.protocol.project import Round

SMALL = Settings(
    fleet=FleetPlan(hosts=12, trusted=1, unit_seconds=60), hours=0.5, round=Round(16, 12)
)


def run(settings):
    with opened_fleet(settings) as fleet:
        fleet.run()
        return figures_of(fleet)


def attacked(name, units=SMALL.round, **fleet):
    plan = replace(SMALL.fleet, attack=ATTACKS[name], hostile_share=0.25, **fleet)
    return run(replace(SMALL, fleet=plan, round=units))


def test_honest_fleet_makes_versions_and_no_host_is_refused():
    found = run(SMALL)
    assert found.versions > 2
    assert found.in_model >= 12 * found.versions
    assert (found.wrong_in_model, found.lies, found.honest_refused, found.honest_bans) == (0,) * 4
    assert found.proven > 0
    assert found.results <= found.requests
    assert 0 < found.idle < 1
    assert 0 < found.trusted_load <= 1.01
    assert sum(found.rounds_minutes) == pytest.approx(30)


def test_many_newcomers_do_not_wait_until_one_trusted_host_has_done_a_unit_of_each():
    plan = FleetPlan(hosts=40, trusted=1, unit_seconds=3600)
    found = run(Settings(fleet=plan, hours=5.5, round=Round(64, 48), lease_seconds=4 * 3600))
    assert found.versions == 1
    assert 4 <= found.in_model < 12


def test_a_restored_coordinator_goes_on_and_loses_only_what_it_cannot_know():
    plan = FleetPlan(hosts=12, trusted=1, unit_seconds=60, join_seconds=1500)
    settings = replace(SMALL, fleet=plan, hours=1.0, restores=((0.5, 0.25),))
    with opened_fleet(settings) as fleet:
        fleet.run()
        found, joined = throughput_of(fleet, 0.1), [host.joined_at for host in fleet.hosts]
        with fleet.store.read() as tx:
            project = tx.projects.find("simulated")
            versions = tx.versions.history(project.id, project.epoch, after=0, limit=1000)
    restored_at = fleet.clock.now - 1800
    assert project.restored_at == restored_at
    assert max(joined) > restored_at - 900, "one joined after the backup, and joined again"
    assert sum(row.made_at > restored_at for row in versions) > 2
    assert not [row for row in versions if restored_at - 900 < row.made_at < restored_at]
    assert 0 < found.undone_units < found.results
    assert found.lost_units == 0


def test_a_moved_coordinator_goes_on_and_what_hosts_had_in_hand_is_credited():
    plan = FleetPlan(hosts=12, trusted=1, unit_seconds=60)
    with opened_fleet(replace(SMALL, fleet=plan, hours=1.0, moves=((0.5, 0.1),))) as fleet:
        before = fleet.deps.blobs
        fleet.run()
        found, moved_at = throughput_of(fleet, 0.1), fleet.clock.now - 0.4 * 3600
        with fleet.store.read() as tx:
            project = tx.projects.find("simulated")
            versions = tx.versions.history(project.id, project.epoch, after=0, limit=1000)
            made = [one for host in fleet.hosts for one in host.made]
            rows = [tx.assignments.get(fleet.deps.numbers.row(one.assignment)) for one in made]
    assert fleet.deps.blobs is not before
    assert [row.number for row in versions] == list(range(1, len(versions) + 1))
    assert not [row for row in versions if moved_at - 360 < row.made_at < moved_at]
    assert sum(row.made_at > moved_at for row in versions) > 2
    in_hand = [row for row in rows if (row.issued_at or 0) < moved_at < (row.reported_at or 0)]
    assert len(in_hand) > 8
    assert all(row.credit > 0 for row in in_hand)
    assert (found.undone_units, found.lost_units) == (0, 0)


def test_same_seed_is_the_same_run_and_another_seed_is_not():
    first, again, other = (run(replace(SMALL, hours=0.2, seed=seed)) for seed in (1, 1, 2))
    assert msgspec.structs.asdict(first) == msgspec.structs.asdict(again)
    assert msgspec.structs.asdict(first) != msgspec.structs.asdict(other)


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_every_attack_is_played_to_the_end(name):
    found = attacked(name, Round(8, 6), hosts=8, instant=True)
    assert found.in_model > 0
    assert found.wrong_in_model <= found.lies
    assert found.lies_accepted <= found.lies


def test_liars_at_honest_speed_are_caught_and_come_back_under_new_names():
    found = attacked("random")
    assert found.lies > 0
    assert found.wrong_in_model == 0
    assert found.units_to_catch
    assert found.hostile_bans > 0
    assert found.hostile_names > 3


def subtle(allowed, seed=1):
    """A fifth lie subtly, with records; versions made of more than `allowed` lies are held."""
    plan = FleetPlan(
        hosts=30, unit_seconds=60, hostile_share=0.2, attack=ATTACKS["backdoor"], record=200,
        calm_hours=0.15,
    )  # fmt: skip
    rules = msgspec.structs.replace(SMALL.verification, max_wrong_share=allowed)
    return Settings(plan, hours=0.45, round=Round(32, 24), verification=rules, seed=seed)


def test_subtle_lies_of_many_are_known_by_one():
    wrong = lies = 0
    for seed in (1, 2, 3):  # how many enter before the first is found is luck
        with opened_fleet(subtle(0.5, seed)) as fleet:
            fleet.run()
            found = figures_of(fleet)
            with fleet.store.read() as tx:
                project = tx.projects.find("simulated")
                kinds = [event.kind for event in tx.events.last(project.id, 10**6)]
                assert tx.comparisons.recent_lies(project.id, project.epoch, since=0)
                assert not tx.versions.restores(project.id, project.epoch)
        assert "convicted" in kinds
        assert kinds.count("held") > 0, "found when the version was to be made"
        assert found.honest_convicted == 0
        wrong, lies = wrong + found.wrong_in_model, lies + found.lies
    assert lies > 100
    assert wrong < lies / 3


def test_a_poisoned_version_is_taken_back():
    with opened_fleet(subtle(0.02)) as fleet:
        fleet.run()
        with fleet.store.read() as tx:
            project = tx.projects.find("simulated")
            back = tx.versions.restores(project.id, project.epoch)
            told = {(made.seed, made.digest) for h in fleet.hosts for made in h.made if made.lie}
            wrong = [
                sum((tx.units.get(one.unit).seed, one.digest) in told for one in version.inputs)
                for version in tx.versions.history(project.id, project.epoch, after=0, limit=1000)
                if not any(row.restores < version.number < row.number for row in back)
            ]
    assert [row.restored_for for row in back] == [RestoreCause.WRONG_RESULTS]
    assert max(wrong) <= 1, "what has more than a single wrong result is taken back"


@pytest.mark.parametrize("choice", [0, candidates._CHOICE])
def test_hosts_get_units_on_shards_they_have_and_those_are_checked_more(choice, monkeypatch):
    """Without the choice each unit needs a shard that its host lacks, as the rounds go on."""
    monkeypatch.setattr(candidates, "_CHOICE", choice)
    plan = FleetPlan(hosts=12, trusted=1, unit_seconds=60, record=1000)
    settings = replace(SMALL, fleet=plan, hours=0.7, shards=64)
    with opened_fleet(settings) as fleet:
        fleet.run()
        made = [one for host in fleet.hosts if not host.plan.trusted for one in host.made]
        with fleet.store.read() as tx:
            rules = tx.projects.find("simulated").metadata.verification
            rows = [tx.assignments.get(fleet.deps.numbers.row(one.assignment)) for one in made]
            rates = {row.id: tx.units.get(row.unit).audit_rate for row in rows}
    on_hosts = [sum(shard in host.shards for host in fleet.hosts) for shard in range(64)]
    assert min(on_hosts) >= 1
    assert sum(on_hosts) / len(on_hosts) >= 3, "each is on several, should one be away"
    downloads = sum(not one.had_shards for one in made) / len(made)
    out_of_turn = [row for row in rows if row.out_of_turn]
    assert {row.purpose for row in out_of_turn} <= {Purpose.PRIMARY}, "checks go by lot"
    if not choice:
        assert not out_of_turn
        assert downloads > 0.72
        return
    assert downloads < 0.6
    least = rules.audit_rate
    seen = [rate for row in out_of_turn if (rate := rates[row.id]) is not None]
    assert len(seen) > 50
    assert min(seen) == pytest.approx(2 * least / (1 + least))


def test_results_of_bad_memory_are_wrong_although_no_host_is_hostile():
    plan = replace(SMALL.fleet, fault_rate=0.3)
    assert run(replace(SMALL, fleet=plan)).hostile_names == 0


def test_newcomers_join_later_and_pcs_are_off_now_and_then():
    plan = replace(SMALL.fleet, newcomers=10, newcomers_at=600.0, on_hours=0.1, off_hours=0.1)
    found = run(replace(SMALL, fleet=plan, hours=1.0))
    assert found.honest_hosts > 12
    assert found.in_model > 0


def test_benchmark_says_what_each_attack_left_in_the_model(capsys, tmp_path, monkeypatch):
    parser = ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    trust.add_options(parser)
    options = parser.parse_args(
        [
            *("--quick", "--attack", "same_lie", "--attack", "none", "--hosts", "10"),
            *("--hours", "0.2", "--processes", "1", "--runs", str(tmp_path / "runs")),
        ]
    )
    result = json.loads(json.dumps(trust.main(options)))
    row = result["attacks"]["same_lie"]
    assert {
        "accepted",
        "left_in_model",
        "median_units_to_catch",
        "credit_per_flop",
    } <= row.keys()
    assert result["refused_honest"] >= 0
    assert "same_lie" in capsys.readouterr().out
    monkeypatch.setattr(trust, "play", None)
    assert json.loads(json.dumps(trust.main(options))) == result, "read from the runs kept"


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 1000, 0.0, 0.00383), (5, 10, 0.237, 0.763)],
)
def test_wilson_bounds(count, of, low, high):
    assert trust.wilson(count, of) == pytest.approx((low, high), abs=1e-3)


def test_fleet_that_really_trains_learns():
    found = run(replace(SMALL, trains=True, hours=0.4))
    assert found.accuracy is not None
    assert found.accuracy > 0.8
    assert found.honest_refused == 0


@pytest.mark.parametrize("name", ["alie", "other_shard", "stale"])
def test_attacks_on_a_fleet_that_really_trains(name):
    plan = replace(SMALL.fleet, attack=ATTACKS[name], hostile_share=0.25)
    found = run(replace(SMALL, trains=True, fleet=plan, hours=0.4))
    assert found.in_model > 0


def test_throughput_of_unequal_pcs_is_compared_with_all_they_could_compute():
    plan = FleetPlan(hosts=4, trusted=0, unit_seconds=60, speeds=(1.0, 2.0, 4.0, 8.0), record=400)
    with opened_fleet(Settings(plan, hours=0.6, round=Round(24, 18))) as fleet:
        fleet.run()
        found = throughput_of(fleet, from_hours=0.2)
    assert found.rounds > 3
    assert 0.6 < found.share_of_summed_speed < 1
    assert found.in_model < found.useful_work <= 1
    assert found.slowest_tenth_round_ratio >= 1
    assert (found.lost_units, found.hosts) == (0, 4)


def with_an_outage(rounds):
    comes_and_goes = Habits(Weibull(1.0, 0.5), Weibull(1.0, 0.5))
    plan = FleetPlan(hosts=24, trusted=1, unit_seconds=60, habits=((1.0, comes_and_goes),))
    settings = replace(SMALL, fleet=plan, round=rounds, hours=1.5, lease_seconds=600)
    with opened_fleet(replace(settings, outages=((0.5, 0.5),))) as fleet:
        fleet.run()
        return throughput_of(fleet, 0.1)


def test_what_is_finished_while_the_coordinator_is_away_has_its_credit():
    found = with_an_outage(SMALL.round)
    assert (found.lost_units, found.lost_in_time_units) == (0, 0)
    assert found.results > 500


def test_units_that_nobody_else_did_are_lost_after_many_versions_in_time_or_not():
    found = with_an_outage(Round(units=8, quorum=2))
    assert 0 < found.lost_in_time_units < found.lost_units


@pytest.mark.parametrize("tells", [True, False])
def test_pcs_that_say_when_their_hours_end_begin_nothing_that_they_cannot_finish(tells):
    hours = Habits(Weibull(1.0, 1e6), Weibull(1.0, 1e-3), Window(0.0, 9.0, (0.0, 24.0)))
    plan = FleetPlan(
        hosts=8, trusted=0, unit_seconds=300, speed_spread=0.9, record=400,
        habits=((1.0, hours),), tells_hours=tells,
    )  # fmt: skip
    rounds = Round(units=16, quorum=12, shortest_unit=0.25 if tells else 1.0)
    with opened_fleet(Settings(plan, hours=1.1, round=rounds)) as fleet:
        fleet.run()
        inside = [made.in_window for host in fleet.hosts for made in host.made]
    assert len(inside) > 40
    assert all(inside) == tells


def test_no_finished_unit_is_lost_while_the_coordinator_is_down():
    plan = FleetPlan(hosts=8, unit_seconds=120, record=400)
    # down for longer than a lease: what was finished meanwhile counts all the same
    down = (0.6, 0.75)
    settings = Settings(
        plan, hours=2.0, round=Round(16, 12), lease_seconds=1200, outages=((0.3, 0.02), down)
    )
    with opened_fleet(settings) as fleet:
        fleet.run()
        start = fleet.clock.now - fleet.seconds
        with fleet.store.read() as tx:
            rows = [
                tx.assignments.get(fleet.deps.numbers.row(made.assignment))
                for host in fleet.hosts
                for made in host.made
            ]
    assert not any(host.refused for host in fleet.hosts)
    took = [
        (row, row.issued_at or 0.0, row.reported_at) for row in rows if row.reported_at is not None
    ]
    assert len(rows) - len(took) <= len(fleet.hosts), "what is in hand at the end"
    assert not any(down[0] < (end - start) / 3600 < sum(down) for _, _, end in took)
    late = [row for row, begin, end in took if end > begin + settings.lease_seconds]
    assert len(late) >= 5
    assert all(row.credit > 0 for row in late), "in the model or not"
