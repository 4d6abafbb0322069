"""A private project at the coordinator's door: strangers, guests, members, who was removed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pleb_coordinator.admin.command import Actor, Desk
from pleb_coordinator.admin.hosts import BanHost, UnbanHost
from pleb_coordinator.backups.mirror import MirrorFiles, files_for_mirror
from pleb_coordinator.core.access import Reader, ReaderKind, write_reader
from pleb_coordinator.core.admins import AdminRole
from pleb_coordinator.core.records import FileKind, RestoreCause
from pleb_coordinator.home.config import CoordinatorConfig, config_text
from pleb_coordinator.home.layout import Home
from pleb_coordinator.steps import rollback
from pleb_coordinator.steps.access import blobs_of, keyring_of, newest_key, remove_member
from pleb_coordinator.steps.publish import admit
from pleb_coordinator.steps.published import open_publication
from pleb_coordinator.steps.rollback import plan_restoration
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of, fingerprint_of
from pleb_shared.protocol.messages import (
    EnrolRequest,
    PayloadType,
    PublishQuestion,
    Role,
)
from pleb_shared.protocol.report import DeltaResult
from pleb_shared.protocol.sealing import Box, Reading, read_reading, seal_mark, unseal
from pleb_shared.protocol.signing import SigningKey, sign_payload
from tests.integration.http_world import HttpWorld, http_world
from tests.integration.private_world import PrivateWorld
from tests.integration.steps_world import Volunteer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HTTPS = "https://coordinator.test"
ROUTES = (
    ("GET", "/projects/{}/metadata"),
    ("GET", "/projects/{}/metadata/1"),
    ("GET", "/projects/{}/versions/0/newest"),
    ("GET", "/projects/{}/versions/0/0"),
    ("GET", "/projects/{}/log-entries"),
    ("GET", "/projects/{}/log-head"),
    ("GET", "/projects/{}/log.jsonl"),
    ("GET", "/projects/{}/status"),
    ("GET", "/projects/{}/events"),
    ("GET", "/projects/{}"),
    ("GET", "/projects/{}/live"),
    ("GET", "/projects/{}/shown"),
    ("GET", "/projects/{}/showcase"),
    ("GET", "/projects/{}/badge.svg"),
    ("GET", "/projects/{}/model.safetensors"),
    ("GET", "/join/{}"),
    ("POST", "/projects/{}/metadata"),
    ("POST", "/projects/{}/records"),
    ("POST", "/projects/{}/enrol"),
    ("POST", "/projects/{}/work"),
    ("GET", "/families/{}"),
    ("GET", "/families/{}/status"),
)


@asynccontextmanager
async def private(tmp_path: Path, **options: Any) -> AsyncIterator[HttpWorld]:
    options = {"url": HTTPS} | options
    (tmp_path / "coordinator.toml").write_text(config_text(CoordinatorConfig()))
    async with http_world(tmp_path, kind=PrivateWorld, **options) as http:
        yield http


def volunteer(name: str) -> Volunteer:
    return Volunteer(name, name, "", SigningKey.generate(), SigningKey.generate())


def enrolment(http: HttpWorld, host: Volunteer, project: str = "tiny", **changes: Any) -> bytes:
    now = int(http.world.clock.now)
    request = EnrolRequest(
        protocols=[1],
        project=project,
        host_key=host.key.public,
        account_key=host.account_key.public,
        agent="test",
        issued_at=now,
        expires_at=now + 60,
    )
    request = msgspec.structs.replace(request, **changes)
    return sign_payload(strict_json.encode(request), PayloadType.ENROL, host.key, host.account_key)


def invite_to(http: HttpWorld, **options: Any) -> str:
    assert isinstance(http.world, PrivateWorld)
    return http.world.member_invite(**options)


def revoke(http: HttpWorld, token: str) -> None:
    with http.world.store.write() as tx:
        assert tx.invites.revoke(digest_of(token.encode()))


def mark_of(sealed: bytes) -> bytes:
    mark = seal_mark(sealed)
    assert mark is not None
    return mark[1]


async def join(http: HttpWorld, host: Volunteer, invite: str | None) -> Reading:
    """Enrol by an invite; return by what the host reads from then on."""
    box = Box()
    reply = await http.enrol(host, invite=invite, seal_to=box.public)
    assert reply.box is not None
    return read_reading(box.open(reply.box, host.key.fingerprint))


def shown(reader: str) -> dict[str, str]:
    return {"authorization": f"Pleb {reader}"}


def desk(http: HttpWorld) -> Desk:
    return Desk(Home(http.world.home), http.world.clock, Actor("", "tests", AdminRole.OPERATOR))


def alike(first: str, second: str) -> bool:
    return first.replace("tiny", "NAME") == second.replace("none", "NAME")


async def all_answers(http: HttpWorld, name: str, **options: Any) -> list[tuple[int, str]]:
    found = []
    for method, path in ROUTES:
        content = None
        if path.endswith("/enrol"):
            content = enrolment(http, volunteer("stranger"), name)
        if path.endswith("/work"):
            host = volunteer("stranger")
            request = msgspec.structs.replace(http.world.request(host, 1, []), project=name)
            content = http.signed(host, request) + b"\n"
        answer = await http.client.request(method, path.format(name), content=content, **options)
        found.append((answer.status_code, answer.text))
    return found


def test_a_stranger_hears_the_same_as_of_a_project_that_does_not_exist(tmp_path):
    async def story():
        async with private(tmp_path) as http:
            stranger = {"authorization": "Pleb " + "a" * 48}
            guess = "tiny.h" + "0" * 64 + "." + "0" * 48
            for headers in ({}, stranger, shown(guess), {"cookie": f"pleb_reader_tiny={guess}"}):
                ours = await all_answers(http, "tiny", headers=headers)
                none = await all_answers(http, "none", headers=headers)
                for (route, one), other in zip(zip(ROUTES, ours, strict=True), none, strict=True):
                    assert one[0] == other[0] == 404, route
                    assert alike(one[1], other[1]), route
            index = await http.client.get("/")
            listed = await http.client.get("/coordinator")
            metrics = await http.client.get("/metrics")
            for answer in (index, listed, metrics):
                assert answer.status_code == 200
                assert "tiny" not in answer.text.lower()

    asyncio.run(story())


def test_nobody_gets_a_file_without_being_a_member(tmp_path):
    async def story():
        async with private(tmp_path) as http:
            world = http.world
            member = volunteer("anna")
            reading = await join(http, member, invite_to(http))
            blobs = [name for name, _ in world.deps.blobs.stored(FileKind.BLOB)]
            assert len(blobs) >= 5
            unknown = await http.client.get(f"/blobs/{'0' * 64}")
            for digest in blobs:
                for path in ("blobs", "parts"):
                    url = f"/{path}/{digest}"
                    etag = {"if-none-match": f'"{digest}"', "range": "bytes=0-3"}
                    for headers in ({}, etag, shown("tiny.h"), shown(f"other{reading.reader[4:]}")):
                        answer = await http.client.get(url, headers=headers)
                        assert answer.status_code == 404
                        told = answer.text.replace(digest[:12], "0" * 12)
                        assert told == unknown.text
                    answer = await http.client.get(url, headers=shown(reading.reader))
                    assert answer.status_code == 200
                    assert answer.headers["cache-control"].startswith("private")
                data = await http.client.get(f"/blobs/{digest}", headers=shown(reading.reader))
                assert unseal(data.content, reading.keyring)

    asyncio.run(story())


def test_an_invite_shows_the_project_lets_one_in_and_is_then_worth_nothing(tmp_path):
    async def story():
        async with private(tmp_path) as http:
            world, invite = http.world, invite_to(http)
            seen = await http.client.get("/projects/tiny/metadata", headers=shown(invite))
            assert seen.status_code == 200
            status = await http.client.get("/projects/tiny/status", headers=shown(invite))
            assert status.status_code == 404  # a guest sees what there is to join, and no more

            anna, ben = volunteer("anna"), volunteer("ben")
            reading = await join(http, anna, invite)
            again = await join(http, anna, invite)  # an answer that was lost
            assert again == reading
            for late in (
                await http.client.get("/projects/tiny/metadata", headers=shown(invite)),
                await http.client.post(
                    "/projects/tiny/enrol", content=enrolment(http, ben, invite=invite)
                ),
            ):
                assert (late.status_code, late.json()["code"]) == (404, "unknown_project")

            for good in ("metadata", "metadata/1", "status", "log-head", "versions/0/newest"):
                answer = await http.client.get(
                    f"/projects/tiny/{good}", headers=shown(reading.reader)
                )
                assert answer.status_code == 200, good
            assert (await http.work(anna)).key_number == reading.newest.number
            assert world.project.keys == [reading.newest.number]

    asyncio.run(story())


@pytest.mark.parametrize("fault", ["revoked", "expired", "of another", "of none", "publisher"])
def test_an_invite_that_is_not_good_lets_nobody_in(tmp_path, fault):
    async def story():
        async with private(tmp_path) as http:
            world = http.world
            others: dict[str, dict[str, Any]] = {
                "of another": {"project": "other"},
                "of none": {"project": ""},
                "publisher": {"role": Role.PUBLISHER},
            }
            options = others.get(fault, {})
            invite = invite_to(http, uses=5, **options)
            if fault == "revoked":
                revoke(http, invite)
            if fault == "expired":
                world.clock.now += 4000
            body = enrolment(http, volunteer("ben"), invite=invite)
            none = enrolment(http, volunteer("ben"), "none", invite=invite)
            answer = await http.client.post("/projects/tiny/enrol", content=body)
            other = await http.client.post("/projects/none/enrol", content=none)
            assert answer.status_code == other.status_code == 404
            assert alike(answer.text, other.text)
            seen = await http.client.get("/projects/tiny/metadata", headers=shown(invite))
            assert seen.status_code == 404

    asyncio.run(story())


def test_a_bad_signature_tells_nothing_either(tmp_path):
    async def story():
        async with private(tmp_path) as http:
            invite = invite_to(http)
            for name in ("tiny", "none"):
                body = enrolment(http, volunteer("ben"), name, invite=invite)
                envelope = msgspec.json.decode(body)
                envelope["signatures"] = msgspec.json.decode(
                    enrolment(http, volunteer("eve"), name, invite=invite)
                )["signatures"]
                answer = await http.client.post(
                    f"/projects/{name}/enrol", content=msgspec.json.encode(envelope)
                )
                assert (answer.status_code, answer.json()["code"]) == (404, "unknown_project")

    asyncio.run(story())


def test_who_is_removed_reads_nothing_more_and_cannot_come_back(tmp_path):
    async def story():
        async with private(tmp_path) as http:
            world = http.world
            shared = invite_to(http, uses=10)
            anna, ben, laptop = volunteer("anna"), volunteer("ben"), volunteer("laptop")
            laptop = msgspec_copy(laptop, account_key=ben.account_key)
            for_anna = await join(http, anna, shared)
            for_ben = await join(http, ben, shared)
            for_laptop = await join(http, laptop, None)  # of ben's account, so no invite
            assert for_laptop.keyring == for_ben.keyring
            done = BanHost(project="tiny", host=ben.key.fingerprint).carry_out(desk(http))
            assert (done.key_replaced, done.invites_revoked) == (True, 1)

            for gone in (for_ben, for_laptop):
                for path in ("metadata", "status", "events", "versions/0/0"):
                    answer = await http.client.get(
                        f"/projects/tiny/{path}", headers=shown(gone.reader)
                    )
                    assert answer.status_code == 404
            for host in (ben, laptop):
                body = enrolment(http, host, seal_to=Box().public)
                answer = await http.client.post("/projects/tiny/enrol", content=body)
                assert answer.json()["code"] == "banned"
            fresh = msgspec_copy(volunteer("fresh"), account_key=ben.account_key)
            for host, invite in ((fresh, None), (volunteer("new"), shared)):
                body = enrolment(http, host, invite=invite, seal_to=Box().public)
                answer = await http.client.post("/projects/tiny/enrol", content=body)
                assert answer.json()["code"] == "unknown_project"

            newer = await join(http, anna, None)  # enrolling again is how a member gets the key
            assert set(for_anna.keyring) < set(newer.keyring)
            project = world.project
            sealed = blobs_of(world.deps, project).sealed(b"the next version")
            assert unseal(sealed, newer.keyring) == b"the next version"
            assert mark_of(sealed) not in for_ben.keyring
            assert (await http.work(anna)).key_number == newer.newest.number

            UnbanHost(project="tiny", host=ben.key.fingerprint).carry_out(desk(http))
            assert (await join(http, ben, None)).keyring == newer.keyring

    asyncio.run(story())


def msgspec_copy(host: Volunteer, **changes: Any) -> Volunteer:
    for name, value in changes.items():
        setattr(host, name, value)
    return host


def test_a_stream_of_events_ends_when_its_reader_is_removed(tmp_path):
    async def story():
        async with private(tmp_path) as http:
            ben = volunteer("ben")
            reading = await join(http, ben, invite_to(http))
            url = "/projects/tiny/events"

            async def listen() -> str:
                async with http.client.stream("GET", url, headers=shown(reading.reader)) as answer:
                    assert answer.status_code == 200
                    return "".join([part async for part in answer.aiter_text()])

            listening = asyncio.create_task(listen())
            await asyncio.sleep(0.3)
            BanHost(project="tiny", host=ben.key.fingerprint).carry_out(desk(http))
            text = await asyncio.wait_for(listening, 30)
            assert text.count("event: status") == 1

    asyncio.run(story())


def test_without_https_there_is_no_private_project_but_on_the_same_machine(tmp_path):
    async def story():
        async with private(tmp_path, url="http://coordinator.test:7532") as http:
            invite = invite_to(http)
            body = enrolment(http, volunteer("ben"), invite=invite)
            enrolled = await http.client.post("/projects/tiny/enrol", content=body)
            seen = await http.client.get("/projects/tiny/metadata", headers=shown(invite))
            assert enrolled.status_code == seen.status_code == 404
        local = ("127.0.0.1", 4242)
        async with private(tmp_path / "b", url="http://127.0.0.1:7532", client=local) as http:
            invite = invite_to(http)
            seen = await http.client.get("/projects/tiny/metadata", headers=shown(invite))
            assert seen.status_code == 200

    (tmp_path / "b").mkdir()
    asyncio.run(story())


def test_a_browser_enters_by_the_invite_in_its_cookie(tmp_path):
    async def story():
        async with private(tmp_path) as http:
            invite = invite_to(http)
            cookies = []
            for name in ("tiny", "none"):
                answer = await http.client.post(f"/join/{name}", content=invite)
                assert answer.status_code == 204
                cookies.append(answer.headers["set-cookie"].replace(name, "NAME"))
            assert cookies[0] == cookies[1]  # it looks nothing up
            assert "HttpOnly" in cookies[0]
            assert "Secure" in cookies[0]
            assert "SameSite=strict" in cookies[0]
            http.client.cookies.clear()
            cookie = {"cookie": f"pleb_reader_tiny={invite}"}
            page = await http.client.get("/join/tiny", headers=cookie)
            assert page.status_code == 200
            assert f"&amp;invite={invite}" in page.text
            assert "A private project." in page.text
            live = await http.client.get("/projects/tiny", headers=cookie)
            assert live.status_code == 404
            reading = await join(http, volunteer("anna"), invite)
            member = {"cookie": f"pleb_reader_tiny={reading.reader}"}
            live = await http.client.get("/projects/tiny", headers=member)
            assert live.status_code == 200
            assert "members and the operator only" in live.text
            join_page = await http.client.get("/join/tiny", headers=member)
            assert "&amp;invite=" not in join_page.text
            for wrong in ("", "short", "x" * 500, "a\r\nb" * 10):
                answer = await http.client.post("/join/tiny", content=wrong)
                assert answer.status_code in {400, 413}

    asyncio.run(story())


def test_the_operator_and_the_researcher_read_it(tmp_path):
    async def story():
        async with private(tmp_path) as http:
            world = http.world
            now, secret = int(world.clock.now), world.deps.secret
            root = fingerprint_of(world.root.public)
            good = [
                Reader("tiny", ReaderKind.OPERATOR, f"{now + 60:x}"),
                Reader("tiny", ReaderKind.ROOT, root),
            ]
            bad = [
                Reader("tiny", ReaderKind.OPERATOR, f"{now - 1:x}"),
                Reader("tiny", ReaderKind.ROOT, "0" * 64),
                Reader("tiny", ReaderKind.HOST, root),
                Reader("other", ReaderKind.ROOT, root),
            ]
            for expected, readers in ((200, good), (404, bad)):
                for reader in readers:
                    headers = shown(write_reader(secret, reader))
                    answer = await http.client.get("/projects/tiny/status", headers=headers)
                    assert answer.status_code == expected, reader
            forged = write_reader(b"t" * 32, good[1])
            answer = await http.client.get("/projects/tiny/status", headers=shown(forged))
            assert answer.status_code == 404

    asyncio.run(story())


def test_another_researcher_does_not_learn_that_the_name_is_taken(tmp_path):
    async def story():
        async with private(tmp_path) as http:
            other, now = SigningKey.generate(), int(http.world.clock.now)
            answers = []
            for name in ("tiny", "none"):
                question = PublishQuestion(
                    protocols=[1],
                    project=name,
                    invite=None,
                    root_key=other.public,
                    issued_at=now,
                    expires_at=now + 60,
                )
                body = sign_payload(
                    strict_json.encode(question), PayloadType.PUBLISH_QUESTION, other
                )
                answer = await http.client.post("/publish/question", content=body)
                answers.append((answer.status_code, answer.text))
            assert answers[0] == answers[1]
            assert answers[0][0] == 403

    asyncio.run(story())


def test_a_public_project_cannot_have_a_private_ones_files_read_aloud(tmp_path):
    world = PrivateWorld(tmp_path)
    sealed = world.metadata.model.initial
    stolen = msgspec.structs.replace(
        world.metadata,
        project="thief",
        access="public",
        sealed_with=0,
    )
    with pytest.raises(Refusal, match="is sealed") as refused:
        world.publish(stolen)
    assert refused.value.code is RefusalCode.MALFORMED
    assert world.deps.blobs.exists(sealed.digest)
    other = msgspec.structs.replace(world.metadata, project="thief")
    with pytest.raises(Refusal, match="not sealed with the key"):
        world.publish(other)
    world.store.close()


def test_a_project_stays_as_private_or_public_as_it_was(tmp_path):
    world = PrivateWorld(tmp_path)
    changed = msgspec.structs.replace(
        world.metadata, number=2, epoch=1, access="public", sealed_with=0
    )
    opened = open_publication(world.envelope(changed, invite=None, key=world.root))
    with world.store.read() as tx, pytest.raises(Refusal, match="stays so"):
        admit(tx, world.deps, opened)
    world.store.close()


def test_all_that_lies_in_the_store_is_sealed_and_nothing_of_it_says_what_it_is(tmp_path):
    """Trained, and rolled back to version 0: whatever the coordinator writes is sealed."""
    world = PrivateWorld(tmp_path, versions=30)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 9:  # one of them is kept whole
        world.work(trusted)
    with world.store.read() as tx:
        work = plan_restoration(tx, tx.projects.find("tiny"), 0, RestoreCause.OPERATOR)
    row = rollback.compute(world.deps, work)
    with world.store.write() as tx:
        assert rollback.commit(tx, world.deps, work, row)
    keys = keyring_of(world.deps, world.project)
    names = [name for name, _ in world.deps.blobs.stored(FileKind.BLOB)]
    assert len(names) > 20
    for name in names:
        data = world.deps.blobs.get(name)
        assert seal_mark(data) is not None
        assert unseal(data, keys)
        for telling in (b"safetensors", b"aten.", b"weight", b"F32"):
            assert telling not in data
    with world.store.read() as tx:
        results = [bytes(data) for (data,) in tx._db.execute("SELECT data FROM deltas")]
    assert results
    assert all(seal_mark(data) for data in results)
    assert not any(mark_of(data) in keys for data in results)  # no member's key opens them
    files = files_for_mirror_of(world)
    assert seal_mark(files.log) is not None
    assert all(seal_mark(envelope) for envelope in files.metadata.values())
    assert "tiny" not in files.project
    world.store.close()


def files_for_mirror_of(world: PrivateWorld) -> MirrorFiles:
    with world.store.read() as tx:
        return files_for_mirror(tx, world.deps, tx.projects.find("tiny"))


def test_a_version_that_was_computed_before_a_key_was_replaced_is_computed_again(tmp_path):
    """Otherwise it would be sealed with a key that somebody has who was removed before it came."""
    world = PrivateWorld(tmp_path, versions=30, grace_seconds=0.0)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 1:
        world.work(trusted)
    project = world.project
    with world.store.read() as tx:
        work = plan_restoration(tx, project, 0, RestoreCause.OPERATOR)
    row = rollback.compute(world.deps, work)
    with world.store.write() as tx:
        remove_member(tx, world.deps, tx.projects.find("tiny"), "nobody")
        assert not rollback.commit(tx, world.deps, work, row)
    assert len(world.project.keys) == 2
    with world.store.read() as tx:
        work = plan_restoration(tx, tx.projects.find("tiny"), 0, RestoreCause.OPERATOR)
    row = rollback.compute(world.deps, work)
    with world.store.write() as tx:
        assert rollback.commit(tx, world.deps, work, row)
    newest = newest_key(world.deps, world.project)
    assert seal_mark(world.deps.blobs.get(row.snapshot)) == (newest.number, newest.id)
    world.store.close()


def test_every_route_about_a_project_asks_who_reads(tmp_path):
    """A route that is added later and forgets to ask is found here."""

    async def story():
        async with private(tmp_path) as http:
            asked = {path.replace("{}", "{project}") for _, path in ROUTES}
            asked |= {"/families/{family}", "/families/{family}/status", "/families/{family}/live"}
            asked |= {"/projects/{project}/metadata/{number:int}"}
            asked |= {"/projects/{project}/versions/{epoch:int}/{version}"}
            for route in http.web.app.routes:
                path = getattr(route, "path", "")
                about = "{project}" in path or "{family}" in path
                if about and not path.startswith("/operator"):
                    assert path in asked, path

    asyncio.run(story())


def test_a_result_that_is_uploaded_lies_sealed_and_is_copied_as_it_lies(tmp_path):
    async def story():
        async with private(tmp_path) as http:
            world = http.world
            anna = volunteer("anna")
            await join(http, anna, invite_to(http))
            manifest = (await http.work(anna)).manifests[0]
            report, delta = http.result(anna, manifest, attached=False)
            receipt = (await http.work(anna, [report], units=0)).receipts[0]
            answer = await http.client.patch(
                f"/uploads/{receipt.upload}", content=delta, headers={"upload-offset": "0"}
            )
            assert answer.headers["upload-complete"] == "?1"
            with world.store.read() as tx:
                stored = tx.assignments.delta(manifest.assignment)
                assert stored is not None
                [(assignment, digest)] = tx.references.delta_files()
                project = tx.projects.find("tiny")
            raw = world.deps.blobs.delta(stored)
            assert seal_mark(raw) is not None
            assert mark_of(raw) not in keyring_of(world.deps, project)
            # what backups and copies check is what lies there
            assert (assignment, digest) == (manifest.assignment, digest_of(raw))
            assert isinstance(report.result, DeltaResult)
            opened = blobs_of(world.deps, project)
            assert digest_of(opened.delta_view(stored, None)) == report.result.digest
            assert opened.delta_view(stored, report.result.digest).readonly
            with pytest.raises(Refusal, match="damaged"):
                opened.delta_view(stored, "0" * 64)
            world.deps.blobs.put_delta(manifest.assignment, raw[:-1] + b"x")
            with pytest.raises(Refusal, match="damaged"):
                opened.delta_view(stored, None)

    asyncio.run(story())
