"""The operator's page: who gets in and for how long, roles, forms of other sites, confirmation."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import httpx
import pytest

from pleb_coordinator.admin.admins import OpenPage, RevokeAdmin
from pleb_coordinator.admin.command import Actor, Desk
from pleb_coordinator.admin.table import TABLE, carry_out
from pleb_coordinator.core.admins import AdminRole
from pleb_coordinator.core.records import Admin
from pleb_coordinator.home.config import CoordinatorConfig, config_text
from pleb_coordinator.home.layout import Home
from pleb_coordinator.web_app.operator_buttons import BUTTONS
from pleb_shared.protocol.messages import Role
from tests.integration.http_world import http_world

HTTPS = "https://coordinator.test"
EVIL = '"><script>alert(1)</script>'


class Browser:
    """Follows what the pages say, with one cookie."""

    def __init__(self, http):
        self.http = http
        self.client = httpx.AsyncClient(
            transport=http.client._transport, base_url=HTTPS, follow_redirects=False
        )

    def link(self, actor=None):
        (self.http.world.home / "coordinator.toml").write_text(
            config_text(CoordinatorConfig(url=HTTPS))
        )
        actor = actor or Actor("", "root", AdminRole.OPERATOR)
        desk = Desk(Home(self.http.world.home), self.http.world.clock, actor)
        return desk, carry_out(desk, OpenPage()).url

    async def enter(self, actor=None):
        _, url = self.link(actor)
        page = await self.client.get(url)
        assert page.status_code == 200
        [link] = re.findall(r'name="link" value="(\w+)"', page.text)
        answer = await self.client.post("/operator/login", data={"link": link})
        assert (answer.status_code, answer.headers["location"]) == (303, "/operator")
        return answer

    async def page(self, path="/operator"):
        answer = await self.client.get(path)
        self.token = (re.findall(r'name="form_token" value="(\w+)"', answer.text) or [""])[0]
        return answer

    async def press(self, words, *, path="/operator/do", token=None, headers=None, **fields):
        data = {"form_token": self.token if token is None else token, "words": words, **fields}
        return await self.client.post(path, data=data, headers=headers)


def story(tmp_path, tell, **options):
    @asynccontextmanager
    async def opened():
        async with http_world(tmp_path, url=HTTPS, **options) as http:
            browser = Browser(http)
            yield browser
            await browser.client.aclose()

    async def run():
        async with opened() as browser:
            await tell(browser)

    asyncio.run(run())


def admin(http, role):
    with http.world.store.write() as tx:
        tx.admins.put(Admin(role.value, role, (), "", 0.0, "1" * 64, 0.0, None, 0, revoked=False))
    return Actor(role.value, f"admin {role.value}", role)


def test_a_link_works_once_and_the_cookie_for_two_hours(tmp_path):
    async def tell(browser):
        assert (await browser.page()).status_code == 401
        _, url = browser.link()
        link = url.partition("=")[2]
        for _ in range(2):  # to look at it does not use it
            assert link in (await browser.client.get(url)).text
        answer = await browser.client.post("/operator/login", data={"link": link})
        cookie = answer.headers["set-cookie"]
        for word in ("HttpOnly", "SameSite=strict", "Secure", "Path=/operator", "Max-Age=7200"):
            assert word in cookie
        assert (await browser.page()).status_code == 200
        other = Browser(browser.http)
        again = await other.client.post("/operator/login", data={"link": link})
        assert again.status_code == 401
        assert "was used or has run out" in again.text
        _, late = browser.link()
        browser.http.world.clock.now += 121
        late = await other.client.post("/operator/login", data={"link": late.partition("=")[2]})
        assert late.status_code == 401
        assert (await browser.page()).status_code == 200
        browser.http.world.clock.now += 7200
        assert (await browser.page()).status_code == 401

    story(tmp_path, tell)


def test_a_link_is_no_cookie_and_a_cookie_is_no_link(tmp_path):
    async def tell(browser):
        _, url = browser.link()
        browser.client.cookies.set("pleb_operator", url.partition("=")[2], path="/operator")
        assert (await browser.page()).status_code == 401
        browser.client.cookies.clear()
        await browser.enter()
        cookie = browser.client.cookies["pleb_operator"]
        answer = await browser.client.post("/operator/login", data={"link": cookie})
        assert answer.status_code == 401
        await browser.page()
        await browser.press("", path="/operator/logout")
        assert (await browser.page()).status_code == 401

    story(tmp_path, tell)


def test_a_revoked_admin_is_out_at_once(tmp_path):
    async def tell(browser):
        actor = admin(browser.http, AdminRole.VIEWER)
        await browser.enter(actor)
        assert "admin viewer" in (await browser.page()).text
        desk, _ = browser.link()
        carry_out(desk, RevokeAdmin(name="viewer"))
        assert (await browser.page()).status_code == 401

    story(tmp_path, tell)


def test_a_button_asks_before_it_acts_and_is_written_down(tmp_path):
    async def tell(browser):
        world = browser.http.world
        host = world.volunteer(EVIL[:20]).key.fingerprint
        await browser.enter()
        page = (await browser.page("/operator/projects/tiny")).text
        assert f'value="{host}"' in page
        assert "<script>" not in page.replace("<script src=", "")
        fields = {"project": "tiny", "host": host, "reason": EVIL, "back": "tiny"}
        asked = await browser.press("host ban", path="/operator/ask", **fields)
        assert asked.status_code == 200
        assert "requests are refused" in asked.text
        assert 'name="days"' in asked.text
        assert "<script>" not in asked.text
        with world.store.read() as tx:
            assert not tx.hosts.find(1, host).banned_until, "it only asked"
        done = await browser.press("host ban", **fields)
        assert done.status_code == 200
        assert "Done" in done.text
        with world.store.read() as tx:
            assert tx.hosts.find(1, host).banned_until
            entry = tx.audit.last("tiny", 1)[0]
        assert (entry.who, entry.command) == ("root", "host ban")
        made = await browser.press("invite new", role="trusted", uses="3", days="2.5")
        assert re.search(r"<dd>[0-9a-f]{48}</dd>", made.text)
        wrong = await browser.press("unit cancel", unit="999999")
        assert wrong.status_code == 400
        assert "There is no unit 999999" in wrong.text
        wrong = await browser.press("unit cancel", unit="x")
        assert wrong.status_code == 400

    story(tmp_path, tell)


def test_other_sites_can_send_nothing(tmp_path):
    async def tell(browser):
        await browser.enter()
        await browser.page()
        pause = {"project": "tiny"}
        for refused in (
            await browser.press("project pause", token="", **pause),
            await browser.press("project pause", token="0" * 64, **pause),
            await browser.press("project pause", headers={"Sec-Fetch-Site": "cross-site"}, **pause),
            await browser.press("", path="/operator/logout", token=""),
        ):
            assert refused.status_code == 403
            assert browser.http.world.project.state == "active"
        assert (await browser.press("open")).status_code == 400, "there is no such button"
        again = Browser(browser.http)
        await again.enter()
        refused = await again.press("project pause", token=browser.token, **pause)
        assert refused.status_code == 403, "another session's form"
        assert (await browser.press("project pause", **pause)).status_code == 200
        assert browser.http.world.project.state == "paused"

    story(tmp_path, tell)


def test_each_role_sees_and_presses_its_own_buttons(tmp_path):
    async def tell(browser):
        browser.http.world.volunteer("other")
        for role in AdminRole:
            browser.client.cookies.clear()
            await browser.enter(admin(browser.http, role))
            text = (await browser.page()).text + (
                await browser.page("/operator/projects/tiny")
            ).text
            offered = set(re.findall(r'name="words" value="([^"]+)"', text))
            assert offered <= BUTTONS.keys()
            assert all(role.allows(TABLE[words].role) for words in offered)
            assert ("host ban" in offered) == (role is AdminRole.OPERATOR)
            assert ("project pause" in offered) == (role is not AdminRole.VIEWER)
            assert ("Who did what" in text) == (role is AdminRole.OPERATOR)
            for words in BUTTONS:
                if not role.allows(TABLE[words].role):
                    assert (await browser.press(words)).status_code == 403, words

    story(tmp_path, tell)


def test_the_overview_shows_what_went_wrong(tmp_path):
    async def tell(browser):
        world = browser.http.world
        trusted = world.volunteer("trusted", role=Role.TRUSTED)
        for number in range(3):
            world.volunteer(f"neighbour {number}", network="198.51.100.0/24")
        while world.project.version < 2:
            world.work(trusted)
        bad = world.volunteer("bad").key.fingerprint
        with world.store.write() as tx:
            found = tx.hosts.find(1, bad)
            tx._db.execute("UPDATE hosts SET refuses = :r WHERE id = :i", r=EVIL, i=found.id)
            tx.events.add(1, world.clock.now, "convicted", unit=1, host=found.id)
        await browser.enter()
        page = (await browser.page()).text
        assert "198.51.100.0/24" in page
        assert "1 host refuses what the coordinator answers" in page
        assert EVIL not in page
        assert f"<strong>{bad[:12]}</strong> convicted for unit 1" in page
        assert re.search(r'row">hour</th><td class="n">2<', page), "versions"
        assert "No backup was made yet" in page

    story(tmp_path, tell)


def test_below_a_path_of_a_proxy_everything_stays_below_it(tmp_path):
    async def run():
        async with http_world(tmp_path, url=f"{HTTPS}/pleb") as http:
            browser = Browser(http)
            _, url = browser.link()
            link = url.partition("=")[2]
            answer = await browser.client.post("/operator/login", data={"link": link})
            assert answer.headers["location"] == "/pleb/operator"
            assert "Path=/pleb/operator;" in answer.headers["set-cookie"]
            cookie = answer.headers["set-cookie"].partition(";")[0]
            page = await browser.client.get("/operator", headers={"Cookie": cookie})
            assert page.status_code == 200
            places = re.findall(r'(?:action|href|src)="(/[^"]*)"', page.text)
            assert places
            assert all(place.startswith("/pleb/") for place in places)
            await browser.client.aclose()

    asyncio.run(run())


def test_the_page_is_only_for_https_or_the_machine_itself(tmp_path):
    async def run():
        async with http_world(tmp_path) as http:
            for path in ("/operator", "/operator/login", "/operator/projects/tiny"):
                answer = await http.client.get(path)
                assert answer.status_code == 403
                assert "HTTPS" in answer.json()["message"]

    asyncio.run(run())


@pytest.mark.parametrize("body", [b"\xff", b"a=" + b"1" * 20_000, b"&".join([b"a=1"] * 100)])
def test_what_is_no_form(tmp_path, body):
    async def tell(browser):
        await browser.enter()
        await browser.page()
        answer = await browser.client.post("/operator/do", content=body)
        assert answer.status_code in {400, 403, 413}

    story(tmp_path, tell)
