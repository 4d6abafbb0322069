"""The journal's history, sums and migrations."""

from __future__ import annotations

import dataclasses
import sqlite3
import time

import msgspec
import pytest

from pleb_agent.control.journal_reader import find_all_attached, is_unconfirmed
from pleb_agent.core.agent_state import AssignmentEvent, AssignmentState, WrongEventError
from pleb_agent.core.history import KEPT_EVENTS, Event, EventKind
from pleb_agent.core.sentence import Sentence, say
from pleb_agent.core.trust import Memory
from pleb_agent.core.unit_parts import Held, UnitPart
from pleb_agent.journal.activity_log import local_day
from pleb_agent.journal.database import MIGRATIONS
from pleb_agent.journal.history_list import HistoryFilter, folded_events
from pleb_agent.journal.journal import Journal
from pleb_agent.journal.receipts import Proof, receipts_since
from pleb_agent.journal.rows import Change, NewProject, RequestRow
from pleb_agent.journal.unit_list import count_parts, units_of_part
from pleb_shared.errors import InputError
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.messages import Evidence, UnitVerdict, Verdict, WorkReply
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.report import DeltaResult, FailureResult, Report
from pleb_shared.protocol.unit import Blob, ShardRange, Unit, UnitKind, VersionSource

NOW = 1_800_000_000.0
DAY = 86_400.0
LINK = f"https://example.org/join/words#{'a' * 64}"


def event(text="Paused.", at=NOW):
    return Event(at, EventKind.PAUSE, "words", say(text))


def new_project(link=LINK):
    return NewProject(
        link=link,
        host_key_file="h",
        account_key_file="a",
        host="b" * 64,
        role="host",
        metadata=b"",
        memory=Memory(1, "c" * 64, 0, 3),
        sequence=0,
    )


@pytest.fixture
def journal(tmp_path):
    with_project = Journal(tmp_path / "journal.sqlite")
    with_project.add_project(new_project(), NOW)
    yield with_project
    with_project.close()


def manifest(number, version=3):
    return Manifest(
        assignment=number,
        nonce=f"{number:032x}",
        project="words",
        host="b" * 64,
        metadata_number=1,
        unit=Unit(
            kind=UnitKind.TRAIN,
            epoch=0,
            version=version,
            shards=ShardRange(first=0, count=1),
            seed=1,
            local_steps=5,
        ),
        version=VersionSource(
            epoch=0,
            number=version,
            digest="d" * 64,
            snapshot=Blob(digest="e" * 64, size=1),
            snapshot_number=version,
            differences=[],
        ),
        issued_at=int(NOW),
        lease_seconds=600.0,
    )


def request_of(journal, rows=()):
    sequence = journal.project(1).sequence + 1
    return RequestRow(1, sequence, b"body", tuple(row.id for row in rows), 1, 0.0, NOW)


def answered(journal, *, units=(), settled=(), verdicts=(), events=(), now=NOW):
    """Write a request and its answer; `settled`: reported rows, and what became of them."""
    rows = [row.giving_back("Too large.") for row, _, _ in settled]
    request = request_of(journal, rows)
    journal.write_request(request, rows)
    open_rows = {row.id: row for row in journal.open_assignments()}
    changes = [Change(open_rows[row.id], event, samples=samples) for row, event, samples in settled]
    reply = WorkReply(
        protocol=1,
        project="words",
        host="b" * 64,
        in_reply_to=request.sequence,
        issued_at=int(now),
        expires_at=int(now) + 60,
        metadata_number=1,
        epoch=0,
        latest_version=3,
        manifests=[manifest(n) for n in units],
        receipts=[],
        verdicts=list(verdicts),
    )
    return journal.settle_request(
        request, reply, lease_from=NOW, changes=changes, events=events, now=now
    )


def verdict(number, which=Verdict.VALID, credit=100.0, **more):
    reason = because(ReasonCode.HOSTS_AGREE, count=2)
    return UnitVerdict(assignment=number, verdict=which, credit=credit, reason=reason, **more)


def test_events_come_newest_first_and_by_pages(journal):
    for number in range(10):
        journal.note_event(event(f"Event {number}."))
    page = journal.events(None, 3)
    assert [str(one.sentence) for one in page] == ["Event 9.", "Event 8.", "Event 7."]
    assert [str(one.sentence) for one in journal.events(page[-1].id, 2)] == ["Event 6.", "Event 5."]


def test_an_event_keeps_its_sentence_for_translation(journal):
    sentence = say("Unit {unit} of {project}: {share} %", unit=7, project="words", share=0.5)
    journal.note_event(Event(NOW, EventKind.UNIT, "words", sentence))
    assert journal.events(None, 1)[0].sentence == sentence


def test_only_the_newest_events_stay(journal):
    journal.note_event(*[event(f"{number}") for number in range(KEPT_EVENTS)])
    journal.note_event(*[event(f"later {number}") for number in range(5)])
    kept = journal.events(None, 10 * KEPT_EVENTS)
    assert len(kept) == KEPT_EVENTS
    assert str(kept[-1].sentence) == "5"


def test_amounts_are_seen_at_once_and_written_with_the_next_transaction(tmp_path, journal):
    journal.count(1, NOW, bytes_sent=10, bytes_received=5)
    journal.count(1, NOW, bytes_sent=1)
    assert journal.counters(1) == {"bytes_sent": 11, "bytes_received": 5}
    assert journal.day(local_day(NOW)) == {"bytes_sent": 11, "bytes_received": 5}
    beside = sqlite3.connect(tmp_path / "journal.sqlite")
    assert beside.execute("SELECT count(*) FROM counters").fetchone() == (0,)
    journal.note_event(event())
    assert beside.execute("SELECT sum(value) FROM counters").fetchone() == (16,)
    beside.close()
    assert journal.counters(1) == {"bytes_sent": 11, "bytes_received": 5}


def test_closing_writes_what_was_counted_and_kept(tmp_path):
    journal = Journal(tmp_path / "other.sqlite")
    journal.add_project(new_project(), NOW)
    journal.count(1, NOW, compute_seconds=2.5)
    journal.keep_setting("shares", "{}")
    assert journal.setting("shares") == "{}"
    journal.close()
    again = Journal(tmp_path / "other.sqlite")
    assert again.counters(1) == {"compute_seconds": 2.5}
    assert again.setting("shares") == "{}"
    again.close()


def test_a_failed_transaction_counts_nothing_twice(journal):
    journal.count(1, NOW, bytes_sent=10)
    with pytest.raises(KeyError), journal.transaction():
        raise KeyError
    assert journal.counters(1) == {"bytes_sent": 10}
    journal.flush()
    assert journal.counters(1) == {"bytes_sent": 10}


def test_days_are_apart_and_totals_outlive_their_project(journal):
    journal.count(1, NOW, bytes_sent=1)
    journal.count(1, NOW + DAY, bytes_sent=2)
    journal.count(1, NOW + 3 * DAY, bytes_sent=4)
    days = journal.days(2)
    assert list(days) == [local_day(NOW + DAY), local_day(NOW + 3 * DAY)]
    assert [sums["bytes_sent"] for sums in days.values()] == [2, 4]
    journal.remove_project(1)
    assert journal.totals()["bytes_sent"] == 7
    journal.count(1, NOW, bytes_sent=100)  # of a project that was left
    journal.flush()
    assert journal.totals()["bytes_sent"] == 7


def test_a_unit_that_is_done_counts_with_its_samples(journal):
    rows, _ = answered(journal, units=[1, 2])
    done = (rows[0], AssignmentEvent.RECEIPT_STORED, 10)
    back = (rows[1], AssignmentEvent.RECEIPT_GIVEN_BACK, 10)
    answered(journal, settled=[done, back])
    assert journal.day(local_day(NOW)) == {"units": 1, "samples": 10}
    assert journal.counters(1)["units_given_back"] == 1


def test_verdicts_count_and_a_later_refusal_takes_the_credit_back(journal):
    answered(journal, units=[1])
    answered(journal, verdicts=[verdict(1)])
    assert journal.day(local_day(NOW)) == {"accepted": 1, "credit_flops": 100}
    later = NOW + DAY
    answered(journal, verdicts=[verdict(1, Verdict.INVALID, 0.0)], now=later)
    assert journal.day(local_day(later)) == {"accepted": -1, "credit_flops": -100}
    assert journal.totals() == {"accepted": 0, "credit_flops": 0}
    counters = journal.counters(1)
    assert (counters["verdicts_valid"], counters["verdicts_invalid"]) == (0, 1)


def test_a_verdict_that_comes_twice_counts_once(journal):
    answered(journal, units=[1])
    answered(journal, verdicts=[verdict(1)])
    answered(journal, verdicts=[verdict(1)])
    assert journal.totals() == {"accepted": 1, "credit_flops": 100}


def test_a_dropped_request_leaves_its_reports_to_the_next_one(journal):
    rows, _ = answered(journal, units=[1])
    failed = rows[0].giving_back("Too large.")
    request = request_of(journal, [failed])
    journal.write_request(request, [failed])
    assert journal.open_assignments()[0].state is AssignmentState.REPORTED
    journal.drop_request(request)
    assert journal.pending_request(1) is None
    (row,) = journal.open_assignments()
    assert (row.state, row.report, row.note) == (
        AssignmentState.COMPUTED,
        failed.report,
        "Too large.",
    )
    assert row.is_failure


def test_a_state_changes_only_as_the_table_says(journal):
    rows, _ = answered(journal, units=[1])
    with pytest.raises(WrongEventError):
        journal.settle(Change(rows[0], AssignmentEvent.UPLOAD_COMPLETE), NOW)
    assert journal.open_assignments()[0].state is AssignmentState.RECEIVED
    late = Change(rows[0], AssignmentEvent.LEASE_ENDED, note="Too slow.")
    journal.settle(late, NOW)
    journal.settle(late, NOW)  # it has ended: nothing changes, nothing is counted again
    assert journal.counters(1)["units_late"] == 1
    assert journal.history(1)[0].state is AssignmentState.LATE
    assert journal.is_spent(1, manifest(1).nonce)


def test_our_versions_outlive_the_assignments(journal):
    rows, _ = answered(journal, units=[1, 2])
    answered(journal, verdicts=[verdict(1), verdict(2, Verdict.INVALID, 0.0)])
    assert journal.our_versions(1) == [4]
    for row in rows:
        journal.settle(Change(row, AssignmentEvent.LEASE_ENDED), NOW)
    answered(journal, now=NOW + 91 * DAY)
    assert journal.history(9) == []
    assert journal.our_versions(1) == [4]


def test_a_new_epoch_has_versions_of_its_own(journal):
    answered(journal, units=[1, 2])
    answered(journal, verdicts=[verdict(1)])
    journal.set_metadata(1, b"renewed", Memory(2, "e" * 64, 0, 3))
    assert journal.our_versions(1) == [4]
    journal.set_metadata(1, b"next epoch", Memory(3, "f" * 64, 1, 0))
    assert journal.our_versions(1) == []
    answered(journal, verdicts=[verdict(2)])  # a unit of the earlier epoch
    assert journal.our_versions(1) == []


def test_events_of_an_answer_come_with_it(journal):
    _, noted = answered(journal, events=[event("One."), event("Two.")])
    assert [one.id for one in noted] == [1, 2]
    assert journal.events(None, 9) == noted[::-1]


def test_a_journal_of_version_1_keeps_all_and_its_sums(tmp_path):
    path = tmp_path / "journal.sqlite"
    old = sqlite3.connect(path)
    old.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1;")
    for number, host in ((1, "one"), (2, "two")):
        old.execute(
            """INSERT INTO projects (id, link, base_url, name, host_key_file, account_key_file,
                host, role, metadata, metadata_number, metadata_digest, epoch, latest_version,
                sequence, attached_at)
            VALUES (?, ?, ?, 'words', 'h', 'a', 'x', 'host', x'00', 7, 'd', 0, 9, 42, 1.5)""",
            (number, LINK.replace("example", host), f"https://{host}.org"),
        )
    old.execute(
        """INSERT INTO assignments (id, project, assignment, nonce, state, manifest, envelope,
            lease_ends_at, received_at) VALUES (5, 1, 50, 'n', 'received', ?, x'', 9, 1)""",
        (msgspec.json.encode(manifest(50)),),
    )
    counters = [
        (1, "units_done", 3.0),
        (1, "verdicts_valid", 2.0),
        (1, "bytes_sent", 1000.0),
        (1, "units_late", 1.0),
        (2, "units_done", 4.0),
        (2, "credit_flops", 5e12),
    ]
    old.executemany("INSERT INTO counters VALUES (?, ?, ?)", counters)
    old.execute("INSERT INTO settings VALUES ('wish', '{}')")
    old.commit()
    old.close()
    journal = Journal(path)
    assert [row.sequence for row in journal.projects()] == [42, 42]
    assert journal.open_assignments()[0].assignment == 50
    assert journal.counters(1)["units_late"] == 1
    assert journal.setting("wish") == "{}"
    assert journal.totals() == {
        "units": 7,
        "accepted": 2,
        "bytes_sent": 1000,
        "credit_flops": 5e12,
    }
    assert journal.days(30) == {}
    journal.count(1, NOW, units_done=1)
    assert journal.totals()["units"] == 8
    assert list(journal.days(30)) == [local_day(NOW)]
    journal.close()
    Journal(path).close()  # migrated once


def test_a_journal_of_version_2_keeps_what_is_to_be_reported(tmp_path):
    path = tmp_path / "journal.sqlite"
    old = sqlite3.connect(path)
    old.executescript("".join(MIGRATIONS[:2]) + "PRAGMA user_version = 2;")
    old.execute(
        """INSERT INTO projects VALUES (1, ?, 'https://example.org', 'words', 'h', 'a', 'x',
            'host', x'00', 7, 'd', 0, 9, 42, 0, 1.5)""",
        (LINK,),
    )
    report = Report(
        assignment=50,
        nonce="0" * 32,
        epoch=0,
        version=3,
        result=FailureResult(reason="Too large."),
        compute_seconds=0.0,
    )
    old.execute(
        """INSERT INTO assignments (id, project, assignment, nonce, state, manifest, envelope,
            lease_ends_at, received_at, report) VALUES (5, 1, 50, 'n', 'failed', ?, x'01', 9, 1, ?)
        """,
        (msgspec.json.encode(manifest(50)), msgspec.json.encode(report)),
    )
    old.execute("INSERT INTO requests VALUES (1, 42, x'02', '[]', 0, 9)")
    old.commit()
    old.close()
    journal = Journal(path)
    (row,) = journal.open_assignments()
    assert (row.state, row.report, row.is_failure) == (AssignmentState.COMPUTED, report, True)
    pending = journal.pending_request(1)
    assert pending is not None
    assert (pending.body, pending.max_units) == (b"\x02", 1)
    journal.close()


def test_the_local_day_follows_the_hosts_zone(monkeypatch):
    midnight = 1_799_971_200.0  # 2027-01-15 00:00 UTC
    for zone, day in (("UTC0", "2027-01-15"), ("WEST8", "2027-01-14"), ("EAST-9", "2027-01-15")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert local_day(midnight) == day
    monkeypatch.undo()
    time.tzset()


def test_a_trained_unit_waits_for_a_second_pc_a_calibration_does_not(journal):
    calibration = manifest(7)
    unit = msgspec.structs.replace(calibration.unit, kind=UnitKind.CALIBRATE)
    calibration = msgspec.structs.replace(calibration, unit=unit)
    answered(journal, units=[8])
    trained = journal.open_assignments()[0]
    assert not is_unconfirmed(trained, 1)
    done = dataclasses.replace(trained, state=AssignmentState.DONE)
    assert is_unconfirmed(done, 1)
    assert not is_unconfirmed(done, 2)
    assert not is_unconfirmed(dataclasses.replace(done, manifest=calibration), 1)


# -- lists for people ------------------------------------------------------------------------


def unit_event(template, day=0, number=1, project="words"):
    sentence = say(template, unit=number, project=project, why="x")
    return Event(NOW + day * DAY, EventKind.UNIT, project, sentence)


def test_500_units_of_a_day_are_one_row_of_the_history_for_each_outcome(journal):
    good = "Unit {unit} of {project} was accepted."
    bad = "Unit {unit} of {project} was refused: {why}"
    journal.note_event(*[unit_event(good, number=number) for number in range(500)])
    journal.note_event(unit_event(bad, number=7), event("Paused."), event("Paused."))
    journal.note_event(unit_event(good, day=1), unit_event(good, day=1, project="digits"))

    def rows(wanted=None, before=None, count=99):
        found = folded_events(journal, wanted or HistoryFilter(), before, count)
        return [(one.sentence.template, one.project, folded) for one, folded in found]

    everything = rows()
    assert everything == [
        (good, "digits", 1),
        (good, "words", 1),
        ("Paused.", "words", 1),
        ("Paused.", "words", 1),
        (bad, "words", 1),
        (good, "words", 500),
    ]
    assert rows(HistoryFilter(project="digits")) == everything[:1]
    assert rows(HistoryFilter(kinds=("pause", "run"))) == everything[2:4]
    assert rows(HistoryFilter(kinds=("unit",), templates=(bad,))) == everything[4:5]
    assert rows(HistoryFilter(since=NOW + DAY / 2)) == everything[:2]
    paged, before = [], None
    while page := folded_events(journal, HistoryFilter(), before, 2):
        paged += [(one.sentence.template, one.project, folded) for one, folded in page]
        before = page[-1][0].id
    assert paged == everything, "no row comes twice or is left out between pages"


def test_each_unit_is_in_one_part_of_the_list_with_what_its_verdict_said(journal):
    answered(journal, units=range(1, 8))
    calibration = msgspec.json.encode(
        msgspec.structs.replace(
            manifest(9), unit=msgspec.structs.replace(manifest(9).unit, kind=UnitKind.CALIBRATE)
        )
    )
    journal.db.execute("UPDATE assignments SET manifest = ? WHERE assignment = 6", (calibration,))
    ids = {row.assignment: row.id for row in journal.open_assignments()}
    ends = {
        1: AssignmentEvent.RECEIPT_STORED,
        2: AssignmentEvent.RECEIPT_STORED,
        3: AssignmentEvent.RECEIPT_STORED,
        4: AssignmentEvent.RECEIPT_REFUSED,
        5: AssignmentEvent.RECEIPT_GIVEN_BACK,
        6: AssignmentEvent.RECEIPT_STORED,
    }
    rows = {row.assignment: row for row in journal.open_assignments()}
    answered(
        journal,
        settled=[(rows[number], event, 0) for number, event in ends.items()],
        verdicts=[
            verdict(1, unit=101),
            verdict(
                2,
                Verdict.INVALID,
                unit=102,
                evidence=Evidence(distance=0.4, tolerance=0.02),
            ),
        ],
    )
    parts = {
        part: [row.assignment for row in units_of_part(journal, part, None, 9)] for part in UnitPart
    }
    assert parts == {
        UnitPart.IN_HAND: [7],
        UnitPart.WAITING: [3],
        UnitPart.ACCEPTED: [1],
        UnitPart.REFUSED: [4, 2],
        UnitPart.UNCOUNTED: [6, 5],  # a calibration, and one that was given back
    }
    assert count_parts(journal) == {part: len(units) for part, units in parts.items()}
    refused = units_of_part(journal, UnitPart.REFUSED, ids[4], 9)[0]
    assert (refused.unit, refused.distance, refused.tolerance) == (102, 0.4, 0.02)
    assert msgspec.json.decode(refused.reason, type=Sentence) == say(
        "{count} hosts agree.", count=2
    )


def test_only_a_unit_that_is_still_to_be_computed_can_be_held(journal):
    answered(journal, units=[1, 2])
    first, second = journal.open_assignments()
    assert journal.hold_unit(first.id, Held.PAUSED)
    assert journal.hold_unit(first.id, Held.NO)
    assert journal.hold_unit(first.id, Held.HANDED_BACK)
    assert not journal.hold_unit(first.id, Held.NO), "another host may have it already"
    answered(journal, settled=[(second, AssignmentEvent.RECEIPT_STORED, 0)])
    assert not journal.hold_unit(second.id, Held.PAUSED)
    assert not journal.hold_unit(999, Held.PAUSED)


def test_a_familys_name_means_all_its_members(journal):
    for name in ("pair-1", "pair-2"):
        link = f"https://example.org/join/{name}#{'a' * 64}"
        journal.add_project(dataclasses.replace(new_project(link), family="pair"), NOW)
    names = [row.name for row in find_all_attached(journal, "pair")]
    assert names == ["pair-1", "pair-2"]
    assert [row.name for row in find_all_attached(journal, "pair-2")] == ["pair-2"]
    assert [row.name for row in find_all_attached(journal, "words")] == ["words"]
    with pytest.raises(InputError, match="is attached"):
        find_all_attached(journal, "none")


def test_no_new_work_holds_for_all_devices_of_a_project(journal):
    card = dataclasses.replace(new_project(), device="cuda-0", host="f" * 64)
    journal.add_project(card, NOW)
    journal.set_no_new_work(1, on=True)
    assert [row.no_new_work for row in journal.hosts()] == [True, True]
    journal.set_no_new_work(2, on=False)
    assert [row.no_new_work for row in journal.hosts()] == [False, False]


def test_a_folder_with_own_data_is_one_for_all_devices_also_those_that_come_later(journal):
    first = journal.add_project(new_project(), NOW)
    journal.set_own_folder(first.id, "/data/scans")
    card = dataclasses.replace(new_project(), device="cuda-0", host="f" * 64)
    later = journal.add_project(card, NOW)
    assert [journal.own_folder(row.id) for row in (first, later)] == ["/data/scans"] * 2
    journal.set_own_folder(later.id, "")
    assert journal.own_folder(first.id) == ""


def test_a_journal_without_receipts_gets_those_of_the_units_that_it_still_has(tmp_path):
    path = tmp_path / "journal.sqlite"
    old = sqlite3.connect(path)
    old.executescript("".join(MIGRATIONS[:8]) + "PRAGMA user_version = 8;")
    old.execute(
        """INSERT INTO projects VALUES (1, ?, 'https://example.org', 'words', 'h', 'a', 'x',
            'host', x'00', 7, 'd', 0, 9, 42, 0, 1.5, '', 0, 'cpu', 0, '')""",
        (LINK,),
    )
    report = Report(
        assignment=50,
        nonce=f"{50:032x}",
        epoch=0,
        version=3,
        result=DeltaResult(digest="a" * 64, size=9, loss_first=2.0, loss_last=1.0),
        compute_seconds=12.0,
    )
    insert = """INSERT INTO assignments (project, assignment, nonce, state, manifest,
        lease_ends_at, received_at, ended_at, report, verdict, credit, unit)
        VALUES (1, ?, ?, 'done', ?, 9, 1, ?, ?, ?, 7.0, 3)"""
    reported = msgspec.json.encode(report)
    for number, verdict in ((50, "valid"), (51, "invalid"), (52, "")):
        given = (number, f"{number:032x}", msgspec.json.encode(manifest(number)), NOW)
        old.execute(insert, (*given, reported, verdict))
    old.commit()
    old.close()
    journal = Journal(path)
    (found,) = receipts_since(journal, "")
    assert (found.nonce, found.digest, found.unit) == (f"{50:032x}", "a" * 64, 3)
    assert (found.kind, found.epoch, found.version) == ("train", 0, 4)
    assert (found.day, found.compute_seconds, found.credit) == (local_day(NOW), 12.0, 7.0)
    assert (found.kwh, found.proof) == (0.0, Proof.NOT_LOOKED)
    journal.close()
