"""The pages: what people named is escaped, nothing comes from elsewhere, all states are shown."""

from __future__ import annotations

import asyncio
import re
from xml.etree import ElementTree as ET

import msgspec
import pytest

from pleb_coordinator.core.records import Evaluation, RestoreCause
from pleb_coordinator.steps import rollback
from pleb_coordinator.web_app.badge import badge_svg
from pleb_project.server.status import status_lines
from pleb_shared.protocol.ids import parse_attach_link
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.project import Target
from pleb_shared.protocol.status import NOT_COMPARABLE, ProjectStatus
from pleb_shared.tensors.layout import load_tensors
from tests.integration.http_world import http_world

EVIL = '"><script>alert(1)</script>'


def test_the_pages_of_a_young_project(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            index = (await http.client.get("/")).text
            assert 'href="/projects/tiny"' in index
            page = (await http.client.get("/projects/tiny")).text
            assert "Be the first to join" in page
            assert "No round is closed yet" in page
            join = (await http.client.get("/join/tiny")).text
            link = f"http://coordinator.test:7532/join/tiny#{http.world.root.fingerprint}"
            assert f'value="{link}"' in join
            assert f'href="{link.replace("http://", "pleb+http://")}"' in join
            assert "CC0" in join

    asyncio.run(story())


def test_a_permission_that_ends_is_said_on_every_face(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            ends = http.world.metadata.delegation.expires_at
            for now, said in (
                (ends - 11 * 86_400, ""),
                (ends - 9 * 86_400, "ends on"),
                (ends + 86_400, "ended on"),
            ):
                http.world.clock.now = float(now)
                page = (await http.client.get("/projects/tiny")).text
                status = (await http.client.get("/projects/tiny/status")).json()
                metrics = (await http.client.get("/metrics")).text
                assert status["permission_ends_at"] == ends
                assert said in status["permission_warning"]
                assert bool(status["permission_warning"]) == bool(said)
                assert ("pleb-project renew tiny" in page) == bool(said)
                left = f'pleb_permission_seconds_left{{project="tiny"}} {ends - now}'
                assert left in metrics

    asyncio.run(story())


def test_a_project_whose_results_cannot_be_compared_says_so_on_every_face(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            rules = http.world.metadata.verification
            for number, comparable in enumerate((True, False), start=2):
                verification = msgspec.structs.replace(rules, comparable=comparable)
                metadata = msgspec.structs.replace(
                    http.world.metadata, number=number, verification=verification
                )
                http.world.publish(metadata, invite=False)
                http.world.clock.now += 10
                answer = (await http.client.get("/projects/tiny/status")).content
                status = msgspec.json.decode(answer, type=ProjectStatus)
                assert status.comparable is comparable
                faces = [
                    (await http.client.get("/projects/tiny")).text,
                    (await http.client.get("/join/tiny")).text,
                    "\n".join(status_lines(status)),
                ]
                assert [NOT_COMPARABLE in face for face in faces] == [not comparable] * 3

    asyncio.run(story())


def test_what_people_call_themselves_and_their_projects_is_text(tmp_path):
    async def story():
        async with http_world(tmp_path, new_host_units=0) as http:
            world = http.world
            metadata = msgspec.structs.replace(
                world.metadata, number=2, title=EVIL, description=EVIL, contact=EVIL
            )
            world.publish(metadata, invite=False)
            host = world.volunteer("anna")
            await http.enrol(host, display_name=EVIL)
            world.work(host)
            for path in ("/", "/projects/tiny", "/projects/tiny/live", "/join/tiny"):
                page = (await http.client.get(path)).text
                assert "<script>alert" not in page
                if path != "/join/tiny":
                    assert "&lt;script&gt;alert" in page or path == "/"
            shown = (await http.client.get("/projects/tiny/live")).text
            assert "&lt;script&gt;alert" in shown

    asyncio.run(story())


def test_no_letter_on_a_page_deceives(tmp_path):
    """What cannot be seen, or turns the direction of writing, is spelled out."""
    signs = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0x200F, 0xFEFF, 0xE0041]
    signs += [0x00, 0x1B, 0x7F, 0x85, 0x9B, 0x3164, 0x115F]
    evil = "".join(f"{number:x}{chr(number)}" for number in signs)

    async def story():
        async with http_world(tmp_path, new_host_units=0) as http:
            world = http.world
            texts = {"title": evil, "description": evil, "contact": evil, "data_licence": evil}
            metadata = msgspec.structs.replace(world.metadata, number=2, **texts)
            world.publish(metadata, invite=False)
            host = world.volunteer("anna")
            await http.enrol(host, display_name=evil[:60])
            world.work(host)
            for path in ("/", "/projects/tiny", "/projects/tiny/live", "/join/tiny"):
                page = (await http.client.get(path)).text
                assert [hex(sign) for sign in signs if chr(sign) in page] == []
                assert "\\u202a" in page
            assert "\u202e" not in (await http.client.get("/projects/\u202eevil")).text

    asyncio.run(story())


@pytest.mark.parametrize("path", ["/", "/projects/tiny", "/join/tiny", "/projects/none"])
def test_pages_take_nothing_from_elsewhere(tmp_path, path):
    async def story():
        async with http_world(tmp_path) as http:
            answer = await http.client.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            sources = re.findall(r'(?:src|<link[^>]* href)="([^"]*)"', answer.text)
            assert sources
            for source in sources:
                assert source.startswith(("/static/", "/projects/tiny/badge.svg"))
                assert (await http.client.get(source)).status_code == 200
            assert " style=" not in answer.text
            assert not re.search(r"<script(?! src)", answer.text)

    asyncio.run(story())


def test_unknown_projects_have_a_page_for_people_and_a_word_for_programs(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            page = await http.client.get("/projects/none")
            assert (page.status_code, "See all projects" in page.text) == (404, True)
            status = await http.client.get("/projects/none/status")
            assert (status.status_code, status.json()["code"]) == (404, "unknown_project")
            assert (await http.client.get("/projects/none/events")).status_code == 404

    asyncio.run(story())


def test_the_status_tells_versions_hosts_and_verdicts(tmp_path):
    async def story():
        async with http_world(
            tmp_path, new_host_units=0, units=2, quorum=2, grace_seconds=0
        ) as http:
            host = http.world.volunteer("anna")
            await http.enrol(host)
            http.world.work(host, rounds=4)
            answer = await http.client.get("/projects/tiny/status")
            status = msgspec.json.decode(answer.content, type=ProjectStatus)
            assert status.version == http.world.project.version > 0
            assert [point.version for point in status.series] == list(range(status.version + 1))
            assert status.train_loss == 1.0
            assert [(h.name, h.state) for h in status.hosts] == [("anna", "active")]
            assert status.counts.verified == status.hosts[0].verified == 4
            assert {result.verdict for unit in status.units for result in unit.results} == {"valid"}
            assert all(unit.reason for unit in status.units)
            assert [c.name for c in status.contributors] == ["anna"]
            page = (await http.client.get("/projects/tiny")).text
            assert ">Teams<" not in page
            with http.world.store.write() as tx:
                tx._db.execute("UPDATE hosts SET team = '<b>club'")
            http.world.pass_time(5)
            page = (await http.client.get("/projects/tiny")).text
            teams = page[page.index(">Teams<") :]
            assert "&lt;b&gt;club</strong>" in teams
            assert "4 verified · 1 volunteer · 1 host" in teams
            assert "anna" in page
            assert "proven host" in page

    asyncio.run(story())


def test_a_check_under_way_is_not_shown(tmp_path):
    async def story():
        async with http_world(
            tmp_path, new_host_units=0, audit_rate=1.0, units=8, quorum=8
        ) as http:
            host, other = http.world.volunteer("anna"), http.world.volunteer("boris")
            await http.enrol(host)
            http.world.work(host, rounds=2)
            with http.world.store.read() as tx:
                audits = [a for u in tx.units.newest(1, 100) for a in tx.assignments.of_unit(u.id)]
            waiting = {a.unit for a in audits if a.purpose == "check" and a.state == "unsent"}
            assert waiting
            text = (await http.client.get("/projects/tiny/status")).text
            page = (await http.client.get("/projects/tiny/live")).text
            for word in ("audit", "decider", "unsent", "held until"):
                assert word not in text
                assert word not in page
            status = msgspec.json.decode(text, type=ProjectStatus)
            assert not status.units, "units of the open round are not shown"
            assert other.key.fingerprint in text

    asyncio.run(story())


def test_a_step_back_is_said_on_the_page(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            world = http.world
            trusted = world.volunteer("trusted", role=Role.TRUSTED)
            while world.project.version < 3:
                world.work(trusted)
            assert "Steps back" not in (await http.client.get("/projects/tiny")).text
            with world.store.read() as tx:
                project = tx.projects.find("tiny")
                work = rollback.plan_restoration(tx, project, 1, RestoreCause.HOLDOUT)
            row = rollback.compute(world.deps, work)
            with world.store.write() as tx:
                assert rollback.commit(tx, world.deps, work, row)
            world.clock.now += 60  # a status is read again only after a while
            for path in ("/projects/tiny", "/projects/tiny/live"):
                page = (await http.client.get(path)).text
                assert "Version 4 is version 1 again" in page
                assert "worse on the holdout" in page

    asyncio.run(story())


def test_who_works_and_who_gave_comes_before_what_is_folded(tmp_path):
    async def story():
        async with http_world(
            tmp_path, new_host_units=0, units=2, quorum=2, grace_seconds=0
        ) as http:
            await http.enrol(http.world.volunteer("left long ago"))
            http.world.clock.now += 3600
            anna = http.world.volunteer("anna")
            await http.enrol(anna)
            http.world.work(anna, rounds=4)
            page = (await http.client.get("/projects/tiny/live")).text
            order = [page.index(f'id="{name}"') for name in ("contributors-title", "model", "gone")]
            order.append(page.index('id="results"'))
            assert order == sorted(order)
            at_work, gone = page.split('<details id="gone">')
            assert "anna" in at_work
            assert "left long ago" not in at_work
            assert "left long ago" in gone

    asyncio.run(story())


def test_anybody_can_take_the_weights_of_a_public_project_from_its_page(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            page = (await http.client.get("/projects/tiny")).text
            assert 'href="/projects/tiny/model.safetensors">Download version 0<' in page
            got = await http.client.get("/projects/tiny/model.safetensors")
            assert 'filename="tiny-version-0.safetensors"' in got.headers["content-disposition"]
            weights = load_tensors(got.content)
            model = http.world.metadata.model
            assert model.base is not None
            specs = (*model.parameters, *model.buffers, *model.base.tensors)
            assert weights.keys() == {spec.name for spec in specs}
            await http.enrol(host := http.world.volunteer("anna", role=Role.TRUSTED))
            while http.world.project.version < 1:
                http.world.work(host)
            newer = await http.client.get(
                "/projects/tiny/model.safetensors", headers={"if-none-match": got.headers["etag"]}
            )
            assert newer.status_code == 200
            assert load_tensors(newer.content)["w"].tobytes() != weights["w"].tobytes()
            asked = [http.client.get("/projects/tiny/model.safetensors") for _ in range(20)]
            assert {answer.content for answer in await asyncio.gather(*asked)} == {newer.content}
            [folder] = tmp_path.rglob("models")
            assert len(list(folder.iterdir())) == 1, "older versions stay"

    asyncio.run(story())


def test_the_badge_says_what_is_measured_by_how_many(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            http.world.volunteer("anna")
            with http.world.store.write() as tx:
                place = (http.world.project.id, 0, 0, 1)
                found = Evaluation(*place, {"loss": 0.51234}, 9, http.world.clock.now)
                tx.projects.add_evaluation(found)
            answer = await http.client.get("/projects/tiny/badge.svg")
            assert answer.headers["content-type"].startswith("image/svg+xml")
            assert answer.headers["content-security-policy"] == "default-src 'none'"
            picture = ET.fromstring(answer.text)
            assert picture.get("aria-label") == (
                "trained by volunteers: version 0 · loss 0.5123 · 1 PC"
            )
            assert (await http.client.get("/projects/none/badge.svg")).status_code == 404

    asyncio.run(story())


def test_what_a_project_is_called_cannot_leave_the_badge() -> None:
    target = Target(metric="<b>&", value=0.5)
    status = ProjectStatus(project="p", target=target, metrics={"<b>&": 0.25})
    picture = ET.fromstring(badge_svg(status))
    assert "<b>& 0.25" in "".join(picture.itertext())


def test_metrics_of_each_class_are_a_table(tmp_path):
    """The curve and the summaries have those of all classes together."""

    async def story():
        async with http_world(tmp_path) as http:
            world = http.world
            trusted = world.volunteer("trusted", role=Role.TRUSTED)
            while world.project.version < 1:
                world.work(trusted)
            values = {f"confusion[{i},{j}]": 100.0 * i + j for i in range(2) for j in range(2)}
            metrics = values | {"loss": 0.5, "f1": 0.75, "recall[0]": 0.25, "recall[1]": 1.0}
            with world.store.write() as tx:
                place = (world.project.id, 0, 1, 1)
                tx.projects.add_evaluation(Evaluation(*place, metrics, 9, world.clock.now))
            world.clock.now += 60
            page = (await http.client.get("/projects/tiny")).text
            row = page[page.index("By class") : page.index('id="results"')]
            cells = re.findall(r"<t[hd][^>]*>([^<]*)</t", row)
            assert cells[1:] == [
                *("taken for 0", "taken for 1", "0", "0", "1", "1", "100", "101"),
                *("Recall", "25 %", "100 %"),
            ]
            text = (await http.client.get("/projects/tiny/status")).content
            status = msgspec.json.decode(text, type=ProjectStatus)
            assert status.metrics == metrics
            assert status.series[-1].metrics == {"f1": 0.75, "loss": 0.5}

    asyncio.run(story())


def test_below_a_base_path_every_address_on_a_page_begins_with_it(tmp_path):
    async def story():
        async with http_world(tmp_path, url="https://pleb.example.org/cluster") as http:
            http.world.volunteer("anna")
            for path in ("/", "/projects/tiny", "/projects/tiny/live", "/join/tiny", "/join/none"):
                page = (await http.client.get(path)).text
                found = re.findall(r'(?:href|src|hx-get|data-events)="(/[^"]*)"', page)
                assert all(address.startswith("/cluster/") for address in found), (path, found)
                assert found or path.endswith("/live")
            script = (await http.client.get("/static/project.js")).text
            assert "`/" not in script, "scripts take addresses from the page"
            icon = await http.client.get("/favicon.ico")
            assert icon.headers["location"] == "/cluster/static/icon.svg"
            link = (await http.client.get("/projects/tiny/status")).json()["attach_link"]
            assert parse_attach_link(link).base_url == "https://pleb.example.org/cluster"

    asyncio.run(story())
