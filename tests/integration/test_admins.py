"""Admins elsewhere: a code that works once, signed commands, roles, what is written down."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time

import msgspec
import pytest

from pleb_coordinator.admin.admins import MakeAdmin, RevokeAdmin
from pleb_coordinator.admin.command import Actor, Desk
from pleb_coordinator.admin.table import TABLE, carry_out
from pleb_coordinator.cli import main
from pleb_coordinator.cli.remote import parse_login
from pleb_coordinator.core.admins import AdminRole
from pleb_coordinator.home.config import CoordinatorConfig, config_text
from pleb_coordinator.home.layout import Home
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.admin import AdminLogin, AdminRequest
from pleb_shared.protocol.messages import PayloadType, Role
from pleb_shared.protocol.signing import SigningKey, sign_payload
from tests.integration.http_world import http_world
from tests.integration.served import served
from tests.release_server import serving_releases

HTTPS = "https://coordinator.test"


class Remote:
    """An admin's program, which signs what it sends."""

    def __init__(self, http, name):
        self.http, self.name, self.key, self.sequence = http, name, SigningKey.generate(), 0

    @property
    def now(self):
        return int(self.http.world.clock.now)

    async def log_in(self, code, **changes):
        login = AdminLogin(
            protocols=[1],
            code=code,
            key=self.key.public,
            issued_at=self.now,
            expires_at=self.now + 60,
        )
        login = msgspec.structs.replace(login, **changes)
        body = sign_payload(strict_json.encode(login), PayloadType.ADMIN_LOGIN, self.key)
        return await self.http.client.post("/admin/login", content=body)

    def signed(self, words, *, key=None, **arguments):
        self.sequence += 1
        request = AdminRequest(
            protocols=[1],
            admin=self.name,
            sequence=self.sequence,
            command=words,
            arguments=arguments,
            issued_at=self.now,
            expires_at=self.now + 60,
        )
        return sign_payload(strict_json.encode(request), PayloadType.ADMIN, key or self.key)

    async def ask(self, words, **arguments):
        body = self.signed(words, **arguments)
        return await self.http.client.post("/admin/command", content=body)


def desk_of(http):
    (http.world.home / "coordinator.toml").write_text(config_text(CoordinatorConfig(url=HTTPS)))
    actor = Actor("", "root", AdminRole.OPERATOR)
    return Desk(Home(http.world.home), http.world.clock, actor)


async def admin(http, name, role, projects=()):
    made = carry_out(desk_of(http), MakeAdmin(name=name, role=role, projects=projects))
    remote = Remote(http, name)
    answer = await remote.log_in(parse_login(made.login)[1])
    assert answer.json() == {"name": name, "role": role}
    return remote


def story(tmp_path, tell, **options):
    async def run():
        async with http_world(tmp_path, url=HTTPS, **options) as http:
            await tell(http)

    asyncio.run(run())


def code_of(answer):
    return answer.json()["code"]


def test_a_code_works_once_and_not_for_ever(tmp_path):
    async def tell(http):
        made = carry_out(desk_of(http), MakeAdmin(name="anna", role=AdminRole.OPERATOR))
        place, code = parse_login(made.login)
        assert place.url == HTTPS
        remote = Remote(http, "anna")
        assert code_of(await remote.ask("status")) == RefusalCode.UNKNOWN_ADMIN
        assert code_of(await remote.log_in("0" * 48)) == RefusalCode.UNKNOWN_ADMIN
        assert code_of(await remote.log_in(code, key="1" * 64)) == RefusalCode.BAD_SIGNATURE
        assert (await remote.log_in(code)).status_code == 200
        thief = Remote(http, "anna")
        assert code_of(await thief.log_in(code)) == RefusalCode.UNKNOWN_ADMIN
        assert code_of(await thief.ask("status")) == RefusalCode.BAD_SIGNATURE
        status = await remote.ask("status")
        assert (status.json()["running"], status.json()["url"]) == (True, HTTPS)
        with pytest.raises(InputError, match="is an admin already"):
            carry_out(desk_of(http), MakeAdmin(name="anna"))
        late = carry_out(desk_of(http), MakeAdmin(name="late", days=1.0))
        http.world.clock.now += 86_401
        answer = await Remote(http, "late").log_in(parse_login(late.login)[1])
        assert code_of(answer) == RefusalCode.UNKNOWN_ADMIN
        carry_out(desk_of(http), MakeAdmin(name="late"))

    story(tmp_path, tell)


def test_a_command_is_carried_out_once_and_written_down(tmp_path):
    async def tell(http):
        host = http.world.volunteer("other").key.fingerprint
        anna = await admin(http, "anna", AdminRole.OPERATOR)
        body = anna.signed("host ban", project="tiny", host=host[:12], days=2, reason="because")
        answer = await http.client.post("/admin/command", content=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["host"] == host
        assert answer.json()["banned_until"] == http.world.clock.now + 2 * 86_400
        again = await http.client.post("/admin/command", content=body)
        assert code_of(again) == RefusalCode.STALE_SEQUENCE
        shown = (await anna.ask("host show", project="tiny", host=host)).json()
        assert shown["state"] == "banned"
        done = (await anna.ask("log --audit")).json()
        assert [(e["who"], e["command"]) for e in done] == [
            ("root", "admin new"),
            ("admin anna", "login"),
            ("admin anna", "host ban"),
        ]
        assert done[-1]["project"] == "tiny"
        assert done[-1]["arguments"] == {"host": host, "days": 2.0, "reason": "because"}

    story(tmp_path, tell)


def test_what_is_wrong_with_a_command_is_said(tmp_path):
    async def tell(http):
        anna = await admin(http, "anna", AdminRole.OPERATOR)
        for answer, code, part in (
            (await anna.ask("host show", project="tiny", host="x"), "wrong_input", "matches no"),
            (await anna.ask("project show", project="x"), "unknown_project", "x"),
            (await anna.ask("unit shwo", unit=1), "malformed", "no command"),
            (await anna.ask("unit show"), "malformed", "unit"),
            (await anna.ask("unit show", unit=1, more=2), "malformed", "more"),
            (await anna.ask("host ban", project="tiny", host="x", days=-5), "malformed", "days"),
        ):
            assert code_of(answer) == code, answer.text
            assert part in answer.json()["message"]
        forged = anna.signed("status", key=SigningKey.generate())
        answer = await http.client.post("/admin/command", content=forged)
        assert code_of(answer) == RefusalCode.BAD_SIGNATURE
        body = anna.signed("status")
        http.world.clock.now += 3600
        answer = await http.client.post("/admin/command", content=body)
        assert code_of(answer) in {RefusalCode.EXPIRED, RefusalCode.CLOCK_SKEW}

    story(tmp_path, tell)


def test_each_role_may_do_what_the_table_says(tmp_path):
    async def tell(http):
        everybody = [await admin(http, role.value, role) for role in AdminRole]
        for role, remote in zip(AdminRole, everybody, strict=True):
            for words, entry in TABLE.items():
                answer = await remote.ask(words, nonsense=1)  # so that nothing is done
                may = role.allows(entry.role) and not entry.here_alone
                assert code_of(answer) == ("malformed" if may else "not_permitted"), words
        viewer, publisher, operator = everybody
        host = http.world.volunteer("other").key.fingerprint
        ban = {"project": "tiny", "host": host}
        assert code_of(await viewer.ask("project pause", project="tiny")) == "not_permitted"
        assert code_of(await publisher.ask("host ban", **ban)) == "not_permitted"
        assert code_of(await operator.ask("admin new", name="x")) == "not_permitted"
        with http.world.store.read() as tx:
            project = tx.projects.find("tiny")
            assert not tx.hosts.find(project.id, host).banned_until
        assert project.state == "active"
        assert (await publisher.ask("project pause", project="tiny")).json()["state"] == "paused"
        assert (await operator.ask("host ban", **ban)).status_code == 200

    story(tmp_path, tell)


def test_a_publisher_may_be_for_some_projects_alone(tmp_path):
    async def tell(http):
        world = http.world
        world.volunteer("trusted", role=Role.TRUSTED)
        world.publish(msgspec.structs.replace(world.metadata, project="other"))
        world.run()
        remote = await admin(http, "anna", AdminRole.PUBLISHER, ("other",))
        units = (await remote.ask("unit list", project="tiny")).json()
        assert units, "to look at is another thing"
        for refused in (
            await remote.ask("project pause", project="tiny"),
            await remote.ask("unit cancel", unit=units[0]["id"]),
            await remote.ask("model rollback", project="tiny", to=0),
        ):
            assert code_of(refused) == RefusalCode.NOT_PERMITTED, refused.text
        assert (await remote.ask("project pause", project="other")).json()["state"] == "paused"
        desk = desk_of(http)
        for wrong in (
            MakeAdmin(name="x", role=AdminRole.OPERATOR, projects=("tiny",)),
            MakeAdmin(name="x", role=AdminRole.PUBLISHER, projects=("unknown",)),
        ):
            with pytest.raises((InputError, Refusal)):
                carry_out(desk, wrong)

    story(tmp_path, tell)


def test_a_revoked_admin_is_refused_at_once(tmp_path):
    async def tell(http):
        anna = await admin(http, "anna", AdminRole.OPERATOR)
        carry_out(desk_of(http), RevokeAdmin(name="anna"))
        assert code_of(await anna.ask("status")) == RefusalCode.UNKNOWN_ADMIN
        with pytest.raises(InputError, match="revoked before"):
            carry_out(desk_of(http), RevokeAdmin(name="anna"))
        again = await admin(http, "anna", AdminRole.VIEWER)
        assert (await again.ask("status")).status_code == 200
        assert code_of(await anna.ask("status")) == RefusalCode.BAD_SIGNATURE

    story(tmp_path, tell)


def test_without_https_only_the_machine_itself_is_heard(tmp_path):
    async def run(client, refused):
        async with http_world(tmp_path / client, client=(client, 4242)) as http:
            answer = await Remote(http, "anna").ask("status")
            assert (code_of(answer) == RefusalCode.NOT_PERMITTED) == refused
            answer = await Remote(http, "anna").log_in("0" * 48)
            assert (code_of(answer) == RefusalCode.NOT_PERMITTED) == refused

    for client, refused in (("203.0.113.7", True), ("127.0.0.1", False), ("::1", False)):
        (tmp_path / client).mkdir()
        asyncio.run(run(client, refused))


def test_a_long_command_is_done_by_another_process_one_at_a_time(tmp_path):
    async def tell(http):
        anna = await admin(http, "anna", AdminRole.OPERATOR)
        http.world.volunteer("trusted", role=Role.TRUSTED)
        first = asyncio.create_task(anna.ask("model verify", project="tiny"))
        await asyncio.sleep(0.05)
        second = await anna.ask("doctor", blobs=1)
        found = (await first).json()
        assert (found["verified"], found["project"]) == (True, "tiny")
        assert code_of(second) == RefusalCode.RATE_LIMITED
        assert code_of(await anna.ask("model verify", project="x")) == "unknown_project"
        assert code_of(await anna.ask("backup --again")) == "wrong_input", "none was made yet"
        assert (
            (await anna.ask("project delete", project="tiny"))
            .json()["message"]
            .startswith("tiny is active: archive it first")
        )

    story(tmp_path, tell)


def test_packages_are_fetched_listed_and_removed_from_elsewhere(tmp_path):
    name, content = "pleb-agent_0.1.0-1_amd64.deb", b"!<arch>\ndebian-binary" + b"d" * 300_000

    async def tell(http):
        remote = await admin(http, "anna", AdminRole.OPERATOR)
        digest = hashlib.sha256(content).hexdigest()
        with serving_releases() as releases:
            releases.files[f"/{name}"] = content
            url = f"{releases.url}/{name}"
            answer = await remote.ask("packages fetch", url=url, sha256=digest)
            assert answer.status_code == 200, answer.text
            wrong = await remote.ask("packages fetch", url=url, sha256="0" * 64)
            assert "is damaged or another release" in wrong.json()["message"]
        (found,) = (await remote.ask("packages list")).json()
        assert (found["name"], found["sha256"], found["source"]) == (name, digest, url)
        assert (await http.client.get(f"/downloads/{name}")).content == content
        here = await remote.ask("packages add", file="/etc/passwd")
        assert code_of(here) == RefusalCode.NOT_PERMITTED
        assert "works only on the coordinator's machine" in here.json()["message"]
        viewer = await admin(http, "otto", AdminRole.VIEWER)
        assert code_of(await viewer.ask("packages remove", name=name)) == RefusalCode.NOT_PERMITTED
        assert (await remote.ask("packages remove", name=name)).json() == {"removed": name}
        assert (await viewer.ask("packages list")).json() == []

    story(tmp_path, tell)


@pytest.fixture
def run(capsys):
    def command(*words, home):
        code = main([*words, "--home", str(home), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return command


def test_the_command_line_does_there_what_it_does_here(tmp_path, run):
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    with served(there) as server:
        server.world.clock.now = time.time()
        (there / "coordinator.toml").write_text(
            config_text(CoordinatorConfig(url=f"http://127.0.0.1:{server.port}"))
        )
        code, made = run("admin", "new", "anna", "--role", "operator", home=there)
        assert code == 0
        code, found = run("login", made["login"], home=here)
        assert (code, found["role"]) == (0, "operator")
        assert all(file.stat().st_mode & 0o077 == 0 for file in (here / "logins").iterdir())
        url = ("--coordinator", found["url"])
        for words in (["project", "list"], ["host", "list", "tiny"], ["unit", "list", "tiny"]):
            assert run(*words, home=here) == run(*words, home=there)
            assert run(*words, *url, home=here) == run(*words, home=there)
        assert run("project", "pause", "tiny", home=here) == (
            0,
            {"project": "tiny", "state": "paused"},
        )
        assert run("project", "show", "tiny", home=there)[1]["state"] == "paused"
        code, invite = run("invite", "new", "--role", "trusted", *url, home=here)
        assert (code, len(invite["token"])) == (0, 48)
        code, error = run("unit", "show", "999999", *url, home=here)
        assert (code, error["error"]) == (2, "InputError")
        code, error = run("admin", "new", "eve", *url, home=here)
        assert code == 4
        assert "only on the coordinator's machine" in error["message"]
        code, error = run("login", made["login"], home=here)
        assert code == 4
        assert "works once" in error["message"]
        code, error = run("status", "--coordinator", "https://other.test", home=here)
        assert code == 2
        assert "not logged in to https://other.test" in error["message"]
        assert run("admin", "revoke", "anna", *url, home=here)[0] == 0
        assert run("status", *url, home=here)[0] == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://a.test",
        "https://a.test#zz",
        "http://a.test#" + "0" * 48,
        "ftp://a.test#" + "0" * 48,
        "https://a@b.test#" + "0" * 48,
        "https://[a.test#" + "0" * 48,
        "https://a.test:x#" + "0" * 48,
        "https://a.test#" + "0" * 48 + "+12",
    ],
)
def test_what_is_no_address_to_log_in_with(text):
    with pytest.raises(InputError):
        parse_login(text)


def test_only_who_may_can_ask(tmp_path):
    desk = Desk(Home(tmp_path), lambda: 0.0, Actor("anna", "admin anna", AdminRole.VIEWER))
    with pytest.raises(Refusal, match="is for the role operator"):
        carry_out(desk, RevokeAdmin(name="bert"))
