"""`pleb-agent verify`: receipts are found in the signed log, and no forged one is believed."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.control.receipt_reader import verify_projects
from pleb_agent.control.requests import VerifyRequest
from pleb_agent.core.trust import Memory
from pleb_agent.journal.journal import Journal
from pleb_agent.journal.keys import KeyStore
from pleb_agent.journal.receipts import Proof, receipts_of_project, receipts_since
from pleb_agent.journal.rows import AssignmentRow, NewProject, RequestRow
from pleb_agent.loop.attach import Attaching
from pleb_coordinator.backups.mirror import files_for_mirror, sync_mirror
from pleb_coordinator.backups.mirror_target import FolderTarget
from pleb_coordinator.core.records import RestoreCause
from pleb_shared.errors import InputError, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import PayloadType, Role, UnitVerdict, Verdict, WorkReply
from pleb_shared.protocol.report import DeltaResult
from pleb_shared.protocol.signing import SigningKey, open_envelope, sign_payload
from pleb_shared.protocol.version_log import LogEntry, LogHead, log_lines
from pleb_shared.tensors.packing import pack
from pleb_system.network_errors import NetworkError
from tests.integration.steps_world import START, World, report
from tests.integration.test_mirrors import static, web_server

if TYPE_CHECKING:
    from pathlib import Path

NOW = START + 50.0


class Home:
    """A volunteer's journal beside the coordinator's real steps."""

    def __init__(self, tmp_path: Path, **options) -> None:
        home = tmp_path / "home"
        home.mkdir(parents=True)
        self.world = World(home, versions=100, **options)
        self.trusted = self.world.volunteer("trusted", role=Role.TRUSTED)
        self.host = self.world.volunteer("me")
        self.journal = Journal(tmp_path / "journal.sqlite")
        self.mirror = tmp_path / "mirror"
        with self.world.store.read() as tx:
            envelope = tx.projects.envelope(tx.projects.find("tiny").id, 1)
        self.row = self.journal.add_project(
            NewProject(
                link=f"http://127.0.0.1:9/join/tiny#{self.world.root.fingerprint}",
                host_key_file="h",
                account_key_file="a",
                host=self.host.key.fingerprint,
                role="host",
                metadata=envelope,
                memory=Memory(1, digest_of(envelope), 0, 0),
                sequence=0,
            ),
            NOW,
        )
        self.attaching = Attaching(
            self.journal,
            KeyStore(tmp_path / "keys"),
            lambda: NOW,
            CoordinatorClient.for_link,
        )

    def settle(self, manifests=(), verdicts=()) -> list[AssignmentRow]:
        """Let the journal take what the coordinator answered."""
        reply = WorkReply(
            protocol=1,
            project="tiny",
            host=self.row.host,
            in_reply_to=1,
            issued_at=0,
            expires_at=1,
            metadata_number=1,
            epoch=0,
            latest_version=self.world.project.version,
            manifests=list(manifests),
            receipts=[],
            verdicts=list(verdicts),
        )
        request = RequestRow(self.row.id, 1, b"", (), 1, 0.0, 0.0)
        rows, _ = self.journal.settle_request(
            request, reply, lease_from=NOW, changes=[], events=[], now=NOW
        )
        return rows

    def do_unit(self) -> None:
        """Take a unit, report it, and write what the journal of a real agent would have."""
        _, manifests, _, verdicts = self.world.exchange(self.host, 1, [], [])
        self.settle(verdicts=verdicts)
        for manifest in manifests:
            (row,) = self.settle([manifest])
            delta = self.world.train(self.host, manifest)
            packed = pack(delta)
            result = DeltaResult(
                digest=digest_of(delta),
                size=len(packed),
                attached=True,
                loss_first=2.0,
                loss_last=1.0,
            )
            self.journal.count_energy(row.id, 0.5, 0.2)
            self.journal.save_report(row.reporting(result, compute_seconds=7.0))
            self.host.held = []
            _, _, _, verdicts = self.world.exchange(
                self.host, 0, [report(manifest, result)], [packed]
            )
            self.settle(verdicts=verdicts)

    def work(self, version: int) -> None:
        """Make versions with two units of ours in each."""
        while self.world.project.version < version:
            self.do_unit()
            self.world.work(self.trusted)
        _, _, _, verdicts = self.world.exchange(self.host, 0, [], [])
        self.settle(verdicts=verdicts)

    def sync(self) -> None:
        project = self.world.project
        with self.world.store.read() as tx:
            wanted = files_for_mirror(tx, self.world.deps, project)
        sync_mirror(self.world.deps.blobs, FolderTarget(self.mirror), wanted)

    def verify(self, *, again: bool = False, folder: Path | None = None):
        with web_server(static(folder or self.mirror)) as url:
            request = VerifyRequest(mirror=url, again=again)
            (found,) = asyncio.run(verify_projects(self.attaching, request)).projects
        return found

    def file(self, name: str) -> Path:
        return self.mirror / "projects" / "tiny" / name


@pytest.fixture
def home(tmp_path):
    found = Home(tmp_path)
    with closing(found.journal):
        yield found


def test_receipts_add_up_to_the_log(home):
    """Each accepted unit is in exactly one version, and the log has no other unit of ours."""
    home.work(4)
    home.sync()
    receipts = receipts_of_project(home.journal, home.row)
    assert len(receipts) >= 4
    found = home.verify()
    assert (found.newest, found.missing, found.later) == (home.world.project.version, 0, 0)
    assert found.units == len(receipts) == sum(one.units for one in found.versions)
    assert {one.proof for one in receipts_since(home.journal, "")} == {Proof.IN}
    newest = home.world.project.version
    with home.world.store.read() as tx:
        ours = [
            one
            for number in range(1, newest + 1)
            for each in tx.versions.get(1, 0, number).inputs
            for one in tx.assignments.of_unit(each.unit)
            if one.verdict is Verdict.VALID
            and tx.hosts.get(one.host or 0).fingerprint == home.row.host
        ]
    assert found.units == len(ours)
    assert {one.nonce for one in receipts} == {one.nonce for one in ours}


def test_a_receipt_says_what_the_unit_took(home):
    home.work(1)
    one = receipts_of_project(home.journal, home.row)[0]
    assert (one.kwh, one.measured_kwh, one.compute_seconds) == (0.5, 0.2, 7.0)
    assert (one.project, one.version, one.epoch) == ("tiny", 1, 0)
    assert one.unit > 0


def test_a_unit_that_is_disproved_later_has_no_receipt(home):
    home.work(1)
    before = receipts_of_project(home.journal, home.row)
    with closing(home.journal.db.execute("SELECT assignment FROM assignments")) as rows:
        numbers = [row[0] for row in rows]
    home.settle(
        verdicts=[
            UnitVerdict(assignment=number, verdict=Verdict.INVALID, credit=0.0)
            for number in numbers
        ]
    )
    assert before
    assert receipts_of_project(home.journal, home.row) == []


def test_a_second_look_reads_no_list_again(home):
    home.work(2)
    home.sync()
    first = home.verify()
    shutil.rmtree(home.mirror / "blobs")
    (home.mirror / "blobs").mkdir()
    assert home.verify().units == first.units
    with pytest.raises(NetworkError, match="does not have the list of results of version 1"):
        home.verify(again=True)


def test_units_that_the_log_does_not_have_yet(home):
    home.work(1)
    home.sync()
    home.work(2)
    found = home.verify()
    assert (found.newest, found.units, found.later) == (1, 2, 2)


def test_units_of_a_version_that_was_taken_back(home):
    home.work(3)
    project = home.world.project
    with home.world.store.write() as tx:
        tx.projects.set_restoring(project.id, 1, RestoreCause.HOLDOUT)
    home.world.run()
    home.sync()
    found = home.verify()
    assert [one.version for one in found.versions] == [1]
    assert found.taken_back == 4


def test_a_mirror_without_the_coordinator_long_after_the_permission_has_ended(home):
    home.work(1)
    home.sync()
    later = NOW + 3 * 365 * 86_400
    home.attaching = Attaching(
        home.journal, home.attaching.keys, lambda: later, CoordinatorClient.for_link
    )
    assert home.verify().units == 2


# -- forged ----------------------------------------------------------------------------------


def entries_of(home) -> list[LogEntry]:
    lines = home.file("log-entries").read_bytes().split(b"\n")
    return [msgspec.json.decode(line, type=LogEntry) for line in lines]


def head_of(home) -> LogHead:
    return open_envelope(
        home.file("log-head").read_bytes(),
        PayloadType.LOG_HEAD,
        LogHead,
        home.world.online.public,
    )


def write_log(home, entries, key: SigningKey, **changes) -> None:
    """Forge a whole log that is right in itself, signed by this key."""
    lines = list(log_lines(entries))
    changes = {"entries": len(lines), "last": digest_of(lines[-1])} | changes
    head = msgspec.structs.replace(head_of(home), **changes)
    home.file("log-entries").write_bytes(b"\n".join(lines))
    payload = sign_payload(strict_json.encode(head), PayloadType.LOG_HEAD, key)
    home.file("log-head").write_bytes(payload)


def stranger_signs(home):
    write_log(home, entries_of(home), SigningKey.generate())


def researcher_of_another_project_signs(home):
    write_log(home, entries_of(home), home.world.root)


def another_project(home):
    write_log(home, entries_of(home), home.world.online, project="other")


def from_the_future(home):
    write_log(home, entries_of(home), home.world.online, issued_at=int(NOW + 3600))


def before_the_permission(home):
    write_log(home, entries_of(home), home.world.online, issued_at=int(START - 86_400))


def version_altered(home):
    entries = entries_of(home)
    entries[1] = msgspec.structs.replace(entries[1], digest="f" * 64)
    home.file("log-entries").write_bytes(b"\n".join(log_lines(entries)))


def version_left_out(home):
    lines = home.file("log-entries").read_bytes().split(b"\n")
    home.file("log-entries").write_bytes(b"\n".join(lines[:1] + lines[2:]))


def cut_off(home):
    lines = home.file("log-entries").read_bytes().split(b"\n")
    home.file("log-entries").write_bytes(b"\n".join(lines[:-1]))


def list_altered(home):
    for entry in entries_of(home)[1:]:
        assert entry.results is not None
        path = home.mirror / "blobs" / entry.results.digest
        path.write_bytes(bytes(32) + path.read_bytes()[32:])


def other_root(home):
    with home.world.store.read() as tx:
        envelope = tx.projects.envelope(1, 1)
    payload = msgspec.json.decode(envelope)
    payload["signatures"] = msgspec.json.decode(
        sign_payload(b"{}", PayloadType.METADATA, SigningKey.generate())
    )["signatures"]
    home.file("metadata").write_bytes(msgspec.json.encode(payload))


def garbage(home):
    home.file("log-head").write_bytes(b"<html>")


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (stranger_signs, "not signed by the project's coordinator"),
        (researcher_of_another_project_signs, "not signed by the project's coordinator"),
        (another_project, "not signed by the project's coordinator"),
        (from_the_future, "not signed by the project's coordinator"),
        (before_the_permission, "clock"),
        (version_altered, "not the one that the coordinator has signed"),
        (version_left_out, "cut off|not the one that the coordinator has signed"),
        (cut_off, "was cut off"),
        (list_altered, "is not the one that the log names"),
        (other_root, "metadata of tiny was refused"),
        (garbage, "not signed by the project's coordinator"),
    ],
)
def test_a_forged_log_is_refused_and_nothing_is_written(home, forge, says):
    home.work(3)
    home.sync()
    forge(home)
    with pytest.raises(TrustError, match=says):
        home.verify()
    assert {one.proof for one in receipts_since(home.journal, "")} == {Proof.NOT_LOOKED}


def test_another_history_is_refused_even_if_it_is_signed(home):
    """The coordinator itself lies: it shows a log without a version that it signed before."""
    home.work(3)
    home.sync()
    home.verify()
    entries = entries_of(home)
    entries[2] = msgspec.structs.replace(entries[2], results=entries[3].results)
    write_log(home, entries, home.world.online)
    with pytest.raises(TrustError, match="another history"):
        home.verify()


def test_an_old_copy_is_no_other_history(home, tmp_path):
    home.work(2)
    home.sync()
    old = tmp_path / "old"
    shutil.copytree(home.mirror, old)
    home.work(3)
    home.sync()
    assert home.verify().newest == 3
    assert home.verify(folder=old).newest == 2
    assert home.verify().newest == 3


@contextmanager
def empty(tmp_path):
    with web_server(static(tmp_path / "empty")) as url:
        yield url


def test_a_server_that_has_nothing(home, tmp_path):
    with empty(tmp_path) as url, pytest.raises(NetworkError, match="does not have the log of tiny"):
        asyncio.run(verify_projects(home.attaching, VerifyRequest(mirror=url)))


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (VerifyRequest(mirror="nowhere"), "not a mirror's address"),
        (VerifyRequest(project="unknown"), "No project 'unknown'"),
    ],
)
def test_wrong_words(home, request_, says):
    with pytest.raises(InputError, match=says):
        asyncio.run(verify_projects(home.attaching, request_))
