"""The page over HTTP: who is let in, what every answer forbids, what strangers' words do to it."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from pleb_agent.control.views import (
    DeviceView,
    InternetView,
    MessageView,
    RuntimeView,
    SharingView,
)
from pleb_agent.core.languages import LANGUAGES
from pleb_agent.core.network_rules import reached_sentence
from pleb_agent.core.override import Override, OverrideKind
from pleb_agent.core.unit_parts import UnitPart
from pleb_agent.updates.releases import Release
from pleb_agent.web.pages import FILES
from pleb_shared.errors import InputError
from tests.integration import page_agent
from tests.integration.page_agent import LINK, PageAgent
from tests.integration.page_server import TOKEN, PageServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = (
    "/",
    "/given",
    "/given/curve?project=words",
    "/given/receipts?days=30",
    "/given/year.svg",
    "/household",
    "/household/members",
    "/projects",
    "/preferences",
    "/history",
    "/history?show=refused&days=7&project=words",
    "/history?show=work",
    *(f"/units?part={part}" for part in UnitPart),
    "/log",
    "/welcome?change=1",
    f"/welcome/project?link={LINK.replace('#', '%23')}",
    f"/welcome/facts?link={LINK.replace('#', '%23')}",
    "/welcome/limits",
    "/welcome/unit",
)
POSTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/now/pause", {"for": "1800"}),
    ("/now/boost", {}),
    ("/now/resume", {}),
    ("/now/device", {"device": "cpu"}),
    ("/now/stop", {}),
    ("/now/finish", {}),
    ("/now/try", {}),
    ("/units/act?part=in_hand", {"id": "7", "act": "pause"}),
    ("/projects/new-work", {"project": "words", "allow": "no"}),
    ("/history/forget-habits", {}),
    ("/household/act", {"act": "pause"}),
    ("/household/code", {}),
    ("/household/join", {"code": "ABCD-EFGH-JK23"}),
    ("/household/leave", {}),
    ("/now/runtime", {"kind": "cpu"}),
    ("/now/update", {}),
    ("/projects/share", {"project": "words", "share": "200"}),
    ("/projects/data", {"project": "words", "folder": "/data/scans"}),
    ("/projects/data", {"project": "words", "forget": "yes"}),
    ("/projects/link", {"project": "words"}),
    ("/projects/detach", {"project": "words"}),
    ("/preferences/set", {"name": "on_battery", "value": "on"}),
    ("/preferences/preset", {"preset": "quiet"}),
    ("/preferences/reset", {"name": "on_battery"}),
    ("/preferences/reset", {}),
    ("/preferences/autostart", {"on": "on"}),
    ("/rules/signal", {"name": "Price", "address": "/price"}),
    ("/rules/match", {"match": "any"}),
    ("/rules/forget", {"name": "Price"}),
    ("/rules/hook", {"name": "kitchen"}),
    ("/welcome/look", {"link": f"{LINK}&account=secret"}),
    ("/welcome/attach", {"link": LINK}),
    ("/welcome/train", {}),
    ("/welcome/done", {}),
)


@pytest.fixture
def server() -> Iterator[PageServer]:
    server = PageServer().start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def browser(server: PageServer) -> Iterator[httpx.Client]:
    """A client with a session and the token of its page."""
    with httpx.Client(base_url=server.url, follow_redirects=True) as client:
        page = client.get(server.open_url())
        assert page.status_code == 200
        found = re.search(r'name="pleb-token" content="([0-9a-f]{64})"', page.text)
        assert found is not None
        client.headers["X-Pleb-Token"] = found[1]
        client.headers["HX-Request"] = "true"
        yield client


# -- who is let in ------------------------------------------------------------------------------


def test_a_code_opens_the_page_once(server):
    address = server.open_url()
    with httpx.Client() as client:
        opened = client.get(address)
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        cookie = opened.headers["set-cookie"]
        for part in ("HttpOnly", "Path=/", "SameSite=strict", "Max-Age=7776000"):
            assert part in cookie
        assert server.logins.cookie_name in cookie
    again = httpx.get(address)
    assert again.status_code == 403
    assert "pleb-agent open" in again.text


def test_a_used_address_still_works_for_a_logged_in_browser(server, browser):
    assert browser.get("/open?code=used").url.path == "/"


def test_an_address_with_a_link_leads_to_the_welcome(server):
    opened = httpx.get(server.open_url() + "&link=pleb%3A%2F%2Fx%2Fjoin%2Fy%23ab")
    assert opened.headers["location"] == "/welcome?link=pleb%3A%2F%2Fx%2Fjoin%2Fy%23ab"
    outside = httpx.get(server.open_url() + "&link=//evil.example/")
    assert outside.headers["location"] == "/welcome?link=%2F%2Fevil.example%2F"


@pytest.mark.parametrize("path", [*PAGES, "/events?view=now", "/static/page.js"])
def test_without_a_session_nothing_is_shown(server, path):
    for cookie in ("", "0.0.0", "1.x." + "0" * 64):
        answer = httpx.get(server.url + path, cookies={server.logins.cookie_name: cookie})
        assert answer.status_code == 403
        assert "pleb-agent open" in answer.text
        assert "Shakespeare" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:7532"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/events?view=now", "/static/page.css"])
def test_a_foreign_host_or_origin_is_refused(browser, headers, path):
    assert browser.get(path, headers=headers).status_code == 403
    assert browser.post("/now/pause", headers=headers).status_code == 403


def test_a_foreign_host_does_not_use_up_a_code(server):
    address = server.open_url()
    assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(address).status_code == 303


@pytest.mark.parametrize(("path", "form"), POSTS)
def test_changes_without_the_token_are_refused(server, browser, path, form):
    for token in ("", "0" * 64, TOKEN):
        answer = browser.post(path, data=form, headers={"X-Pleb-Token": token})
        assert answer.status_code == 403
    assert server.agent.calls == []


@pytest.mark.parametrize(("path", "form"), POSTS)
def test_changes_with_the_token_work(server, browser, path, form):
    answer = browser.post(path, data=form)
    assert answer.status_code in {200, 204}, answer.text
    assert server.agent.calls != []
    assert browser.get(path).status_code == 405


def test_rules_are_added_changed_tried_and_removed(server, browser, tmp_path):
    price = tmp_path / "price"
    price.write_text("0.31")

    def post(path: str, **form: str) -> str:
        answer = browser.post(path, data=form)
        assert answer.status_code == 200, answer.text
        return str(answer.text)

    def rules() -> Any:
        return server.agent.reader.rules.current

    post("/rules/signal", name="Price", address=str(price), unit="€/kWh", every_seconds="")
    page = post("/rules/row", place="new", signal="Price", test="below", limit="0,25", resume="")
    assert "Price has not been read yet, which counts as “no”." in page
    (row,) = rules().rows
    assert (row.limit, row.resume) == (0.25, None)
    assert "0.31 €/kWh" in post("/rules/read", name="Price")
    post("/rules/row", place="0", signal="Price", test="below", limit="0.5", resume="0.4")
    assert [one.resume for one in rules().rows] == [0.4]
    # A new name goes along to its rows; a new kind of signal does not fit them.
    post("/rules/signal", before="Price", name="Strom", address=str(price), every_seconds="30")
    assert [one.signal for one in rules().rows] == ["Strom"]
    wrong = browser.post(
        "/rules/signal", data={"before": "Strom", "name": "Strom", "address": "hours:20:00-22:00"}
    )
    assert wrong.status_code == 422
    assert "says during or outside" in wrong.text
    price.write_text("cheap")
    assert "is no number" in post("/rules/read", name="Strom")
    for path, form in (
        ("/rules/row", {"place": "7", "signal": "Strom", "test": "below", "limit": "1"}),
        ("/rules/row", {"place": "new", "signal": "Strom", "test": "below", "limit": "warm"}),
        ("/rules/row", {"place": "new", "signal": "Moon", "test": "below", "limit": "1"}),
        ("/rules/remove", {"place": "x"}),
        ("/rules/read", {"name": "Moon"}),
        ("/rules/match", {"match": "most"}),
    ):
        assert browser.post(path, data=form).status_code == 422, (path, form)
    post("/rules/remove", place="0")
    assert rules().rows == ()
    post("/rules/forget", name="Strom")
    assert rules().signals == ()


def test_a_hooks_token_is_shown_once(server, browser):
    shown = browser.post("/rules/hook", data={"name": "kitchen"}).text
    token = re.search(r"pleb-hook-[0-9a-f]{48}", shown)
    assert token is not None
    assert server.agent.reader.hooks.find(token[0]).name == "kitchen"
    page = browser.get("/preferences").text
    assert "kitchen" in page
    assert token[0] not in page
    assert browser.post("/rules/hook", data={"name": "kitchen"}).status_code == 422
    assert "kitchen" not in browser.post("/rules/revoke", data={"name": "kitchen"}).text


def test_it_works_through_a_tunnel(server, browser):
    tunnel = {"Host": "localhost:18080", "Origin": "http://localhost:18080"}
    assert browser.post("/now/pause", headers=tunnel).status_code == 200


def test_the_session_outlives_the_server(server, browser):
    port = server.port
    server.stop()
    server.logins = PageServer(secret=server.secret).logins
    server.start()
    assert server.port == port
    assert browser.get("/").status_code == 200


def test_the_page_opens_no_api_and_the_api_no_page(server, browser):
    assert browser.get("/api/status").status_code == 403
    asked = httpx.get(server.url + "/", headers={"Authorization": f"Bearer {TOKEN}"})
    assert asked.status_code == 403


# -- what every answer forbids ------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/open?code=x", "/static/page.css", "/favicon.ico"])
def test_every_answer_has_the_security_headers(browser, path):
    headers = browser.get(path, follow_redirects=False).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    kept = "private, max-age=60" if path.startswith("/static/") else "no-store"
    assert headers["cache-control"] == kept


def test_only_the_listed_files_are_served(browser):
    for name, kind in FILES.items():
        answer = browser.get(f"/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
    for name in ("../app.py", "%2e%2e/app.py", "vendor/README.md", "", "page.js/", "vendor"):
        assert browser.get(f"/static/{name}").status_code == 404


# -- what is shown ------------------------------------------------------------------------------


def leaves(tag: str, found: dict[str, str | None]) -> bool:
    """Whether it is a link to a project's own page, which learns nothing of the agent's."""
    address = found.get("href") or ""
    return (
        tag == "a"
        and address.startswith("https://train.example:7532/")
        and (found.get("rel"), found.get("target")) == ("noopener noreferrer", "_blank")
    )


class Checker(HTMLParser):
    """Collects what must not be in a page: inline scripts, styles, handlers, foreign addresses,
    an id twice."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "style" or (tag == "script" and not found.get("src")):
            self.faults.append(f"inline {tag}")
        for name, value in attrs:
            if name == "style" or name.startswith(("on", "hx-on")):
                self.faults.append(f"{tag} {name}={value}")
            leads_out = not (value or "").startswith(("/", "#"))
            if name in {"src", "href", "action"} and leads_out and not leaves(tag, found):
                self.faults.append(f"{tag} {name}={value}")
        own = found.get("id")
        if own in self.ids:
            self.faults.append(f"id {own} twice")
        if own:
            self.ids.add(own)


def faults(html: str) -> list[str]:
    checker = Checker()
    checker.feed(html)
    return checker.faults


HOSTILE = (
    '<script>alert(1)</script><img src=x onerror=alert(1)>" onmouseover="x \u202egnp.exe'
    "\x1b[2J {{7*7}} {text} %s ' \ufeff \u2066 \u200b \U000e0041 \u3164 \x85"
)


def everything(words: str) -> PageAgent:
    """Return an agent in which every field that a stranger can fill holds these words."""
    name = "a-name-is-never-hostile"  # protocol.ids.ProjectName
    long = words * 300
    said = page_agent.message(long)
    bad = page_agent.project(
        name,
        title=words,
        problem=long,
        url=words,
        host=words,
        account=words,
        link=words,
        waits_for_confirmation=True,
    )
    agent = PageAgent(
        activity="problem",
        message=said,
        unit=dataclasses.replace(page_agent.unit(), project=name, kind=words),
        override=Override(OverrideKind.BOOST, until=2e9),
        projects=[bad, page_agent.project("second")],
        open=[page_agent.assignment(project=name, state=words, note=words)],
        update=Release(version=words, can_install=True, sentence=long, bytes_total=9),
        runtime=RuntimeView(kind="cpu", state="failed", sentence=long, bytes_total=9),
        first_run=True,
    )
    agent.reader.facts_by_link[LINK] = page_agent.facts(
        project=name,
        title=words,
        description=long,
        contact=long,
        data_licence=long,
        comparable=False,
        url=words,
        fingerprint=words,
    )
    agent.reader.events[:] = [
        msgspec.structs.replace(event, project=words, kind=words, message=said)
        for event in agent.reader.events[:60]
    ]
    agent.household.names = [words, long]
    agent.reader.lines[:] = [{"time": "x", "level": words, "event": words, words: long}, {}]
    return agent.prefer(proxy='http://"><b>:1', pause_programs=["</textarea><b>"])


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_page_is_clean(server, browser, path, language):
    html = browser.get(path, headers={"Accept-Language": language}).text
    assert faults(html) == []
    if "<html" in html:
        assert f'<html lang="{language}" dir="ltr">' in html


@pytest.mark.parametrize("path", PAGES)
def test_text_from_outside_is_escaped(path):
    server = PageServer(everything(HOSTILE)).start()
    try:
        with httpx.Client(base_url=server.url, follow_redirects=True) as client:
            client.get(server.open_url())
            answer = client.get(path.replace("words", "second"))
    finally:
        server.stop()
    assert answer.status_code == 200
    html = answer.text
    assert faults(html) == []
    assert "<script>alert" not in html
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\ufeff\u200b\U000e0041\u3164\x85]", html)
    assert len(html) < 250_000


@pytest.mark.parametrize(
    ("place", "shown"),
    [("attach-problem", "attach-problem"), ("", "problem"), ('"><b', "problem"), ("#x", "problem")],
)
def test_errors_appear_next_to_their_form(server, browser, place, shown):
    server.agent.failure = "The coordinator <b>cannot</b> be reached; try again later."
    answer = browser.post("/welcome/attach", data={"link": LINK}, headers={"X-Pleb-Place": place})
    assert answer.status_code == 422
    assert answer.headers["hx-retarget"] == f"#{shown}"
    assert "&lt;b&gt;cannot&lt;/b&gt; be reached" in answer.text


def test_a_link_in_the_address_opens_its_project(browser):
    del browser.headers["HX-Request"]
    arrived = browser.get("/welcome", params={"link": LINK})
    assert arrived.url.path == "/welcome/project"
    assert arrived.url.params["link"] == LINK
    secret = browser.get("/welcome", params={"link": "pleb://x/join/y#ab&account=c0ffee"})
    assert secret.url.path == "/welcome"


def test_a_wrong_link_can_be_corrected(browser):
    html = browser.get("/welcome/facts?link=https://x/join/y").text
    assert "That is no attach link" in html
    assert 'value="https://x/join/y"' in html
    assert 'aria-invalid="true"' in html


def test_a_project_of_own_data_says_what_leaves_the_pc_and_asks_for_a_folder(server, browser):
    agent = server.agent
    agent.reader.facts_by_link[LINK] = page_agent.facts(own_data=True)
    joining = browser.get(f"/welcome/facts?link={LINK.replace('#', '%23')}").text
    assert "Your data never leave this PC" in joining
    assert "choose a folder with your data under Projects" in joining
    agent.reader.shown["projects"] = [page_agent.project(own_data=True)]
    assert "No work: choose a folder with your data" in browser.get("/projects").text
    browser.post("/projects/data", data={"project": "words", "folder": " /data/scans "})
    assert ("choose_data", ("words", "/data/scans")) in agent.calls
    empty = browser.post("/projects/data", data={"project": "words", "folder": " "})
    assert (empty.status_code, "whole path" in empty.text) == (422, True)
    agent.reader.shown["projects"] = [
        page_agent.project(own_data=True, own_folder='/data/<b>"scans"')
    ]
    page = browser.get("/projects").text
    assert "No work: choose a folder" not in page
    assert "<b>" not in page
    browser.post("/projects/data", data={"project": "words", "forget": "yes"})
    assert ("forget_data", ("words",)) in agent.calls


def test_who_joins_a_family_is_told_that_it_is_several_projects(server, browser):
    page = f"/welcome/facts?link={LINK.replace('#', '%23')}"
    assert "published together" not in browser.get(page).text
    server.agent.reader.facts_by_link[LINK] = page_agent.facts(members=8)
    assert "one of 8 projects that are published together" in browser.get(page).text


def test_from_where_files_came_and_who_is_near(server, browser):
    assert "near by" not in browser.get("/projects").text
    usual = page_agent.project()
    counters = usual.counters | {"bytes_from_neighbours": 3 * 2**30, "bytes_from_coordinator": 1.0}
    server.agent.reader.shown["projects"] = [page_agent.project(counters=counters)]
    server.agent.reader.shown["sharing"] = SharingView(neighbours=2, sent_bytes=5 * 2**20)
    html = browser.get("/projects").text
    assert "Files from PCs near by" in html
    assert "Files from mirrors" not in html
    assert "2 PCs near by share a project with this one" in html


def test_who_shares_on_the_internet_sees_what_passes_and_whether_it_is_reached(server, browser):
    text = str(reached_sentence(7530, "192.88.99.1"))
    internet = InternetView(
        others=3, sent_bytes=5 * 2**20, message=MessageView(text=text, template=text, values={})
    )
    usual = page_agent.project()
    counters = usual.counters | {"bytes_from_internet": 3 * 2**30}
    server.agent.reader.shown["projects"] = [page_agent.project(counters=counters)]
    server.agent.reader.shown["sharing"] = SharingView(
        neighbours=0, sent_bytes=0, internet=internet
    )
    html = browser.get("/projects").text
    assert "Files from other volunteers" in html
    assert "3 other volunteers are known on the internet" in html
    assert "Other volunteers reach this PC at 192.88.99.1, port 7530." in html
    assert "near by" not in html


def test_account_secrets_never_appear_in_addresses(server, browser):
    secret = f"{LINK}&account=c0ffee"
    server.agent.reader.facts_by_link[secret] = page_agent.facts()
    answer = browser.post("/welcome/look", data={"link": secret})
    assert (answer.status_code, "hx-redirect" in answer.headers) == (200, False)
    assert "You are about to join" in answer.text
    addresses = re.findall(r'(?:href|hx-get|hx-post|action)="([^"]*)"', answer.text)
    assert not any("c0ffee" in address for address in addresses)
    assert 'name="link" value="' in answer.text
    open_link = browser.post("/welcome/look", data={"link": LINK})
    assert open_link.headers["hx-redirect"].startswith("/welcome/project?link=https%3A%2F%2F")


def test_a_new_user_sees_the_welcome(server, browser):
    server.agent.change(first_run=True, projects=[], unit=None)
    del browser.headers["HX-Request"]
    assert browser.get("/").url.path == "/welcome"


@pytest.mark.parametrize(
    ("form", "hours"),
    [({"for": ""}, None), ({"for": "1800"}, 0.5), ({"for": "tomorrow"}, 6.0)],
)
def test_pauses(server, browser, form, hours):
    assert "Resume" in browser.post("/now/pause", data=form).text
    paused = server.agent.reader.overrides.current
    assert paused.kind is OverrideKind.PAUSE
    if hours is None:
        assert paused.until is None
    else:
        assert hours - 0.1 < (paused.until - time.time()) / 3600 < max(0.6, 30 * (hours > 1))


@pytest.mark.parametrize("span", ["0", "-1", "x", "1e9", "99999999", "²"])
def test_a_pause_of_no_length_is_refused(server, browser, span):
    assert browser.post("/now/pause", data={"for": span}).status_code == 422
    assert server.agent.calls == []


@pytest.mark.parametrize(
    ("form", "name", "value"),
    [
        ({"name": "on_battery", "value": "on"}, "on_battery", True),
        ({"name": "on_battery"}, "on_battery", False),
        ({"name": "threads", "value": "3"}, "threads", 3),
        ({"name": "idle_minutes", "value": "7,5"}, "idle_minutes", 7.5),
        ({"name": "memory_bytes_idle", "value": "4"}, "memory_bytes_idle", 4 * 2**30),
        ({"name": "memory_bytes_idle", "value": ""}, "memory_bytes_idle", None),
        (
            {"name": "pause_programs", "value": "steam\r\nvlc\r\n"},
            "pause_programs",
            ["steam", "vlc"],
        ),
        ({"name": "hours", "mon": "8-12", "tue": "8-12"}, "hours", "mon-tue 8:00-12:00"),
        ({"name": "hours", "mon": "8-12", "always": "1"}, "hours", ""),
    ],
)
def test_preferences_are_saved_as_they_change(server, browser, form, name, value):
    answer = browser.post("/preferences/set", data=form)
    assert answer.status_code == 200
    assert "Saved" in answer.text
    assert getattr(server.agent.values, name) == value


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"name": "threads", "value": "0"}, "from 1 to"),
        *(
            ({"name": name, "value": value}, "Please enter a number from")
            for name, value in (
                ("threads", "1.5"),
                ("threads", "x"),
                ("threads", "inf"),
                ("threads", "nan"),
                ("battery_percent", "101"),
                ("hottest_celsius", "12"),
                ("cache_bytes", "1e99"),
                ("cache_bytes", ""),
                ("idle_minutes", "-1"),
                ("cpu_percent_idle", "0"),
            )
        ),
        ({"name": "hours", "mon": "8"}, "20:00-08:00"),
        ({"name": "hours"}, "reload the page"),
        ({"name": "nonsense", "value": "1"}, "no preference"),
        ({}, "no preference"),
    ],
)
def test_a_wrong_preference_is_refused_and_changes_nothing(server, browser, form, says):
    before = server.agent.values
    answer = browser.post("/preferences/set", data=form)
    assert answer.status_code == 422
    assert says in answer.text
    assert server.agent.values == before


@pytest.mark.parametrize("share", ["0", "1001", "none", "x", "", "²"])
def test_a_wrong_share_is_refused_and_changes_nothing(server, browser, share):
    answer = browser.post("/projects/share", data={"project": "words", "share": share})
    assert answer.status_code == 422
    assert "from 1 to 1,000." in answer.text
    assert server.agent.values.shares == {}


def test_the_chosen_language_is_kept(server, browser):
    answer = browser.post("/preferences/set", data={"name": "language", "value": "de"})
    assert answer.headers["hx-redirect"] == "/preferences"
    assert "Einstellungen" in browser.get("/preferences").text


def test_forms_have_bounds(browser):
    assert browser.post("/now/pause", content=b"for=" + b"1" * 70_000).status_code == 422
    assert browser.post("/now/pause", content=b"a=1&" * 5_000).status_code == 422
    assert browser.post("/now/pause", content=b"for=\xff").status_code == 422


# -- the stream ---------------------------------------------------------------------------------


class Stream:
    """Reads one stream of events in a thread."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        self.parts: list[dict[str, Any]] = []
        self.came = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(client, url), daemon=True)
        self._thread.start()

    def _read(self, client: httpx.Client, url: str) -> None:
        try:
            with client.stream("GET", url, timeout=30) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        with self.came:
                            self.parts.append(json.loads(line[6:]))
                            self.came.notify_all()
        except httpx.HTTPError:
            return  # the server went away

    def wait_for(self, words: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((part for part in self.parts if words in part["html"]), None)

        with self.came:
            assert self.came.wait_for(lambda: found() is not None, timeout=20), words
            part = found()
        assert part is not None
        return part


def test_the_stream_sends_what_changed_and_nothing_else(server, browser):
    stream = Stream(browser, "/events?view=now")
    stream.wait_for("now-cards")
    begun = len(stream.parts)
    assert {part["id"] for part in stream.parts} == {
        "pill", "said", "now-state", "now-controls", "now-unit", "now-devices", "now-offers",
        "now-cards",
    }  # fmt: skip
    server.do(server.agent.change)
    server.do(lambda: server.agent.change(unit=page_agent.unit(13, 40, 13)))
    part = stream.wait_for('value="13"')
    assert part["id"] == "now-unit"
    assert "<dd>CPU <small>AVX2</small></dd>" in part["html"]
    assert [later["id"] for later in stream.parts[begun:]] == ["now-unit"]
    assert all(faults(each["html"]) == [] for each in stream.parts)


def test_the_stream_continues_when_a_part_fails(server, browser, monkeypatch):
    def gone(_reader: object, _project: str) -> None:
        raise InputError("No such project is attached.")

    stream = Stream(browser, "/events?view=projects")
    stream.wait_for("project-cards")
    monkeypatch.setattr(type(server.agent.reader), "facts", gone)
    server.do(lambda: server.agent.change(message=page_agent.message("Still here.")))
    stream.wait_for("Still here.")
    monkeypatch.undo()
    more = [*server.agent.status().projects, page_agent.project("second")]
    server.do(lambda: server.agent.change(projects=more))
    stream.wait_for('name="project" value="second"')


@pytest.mark.parametrize(
    ("view", "part"),
    [("first-unit", "first-unit"), ("projects", "project-cards"), ("given", "said"), ("", "pill")],
)
def test_each_view_has_its_parts(server, browser, view, part):
    stream = Stream(browser, f"/events?view={view}")
    stream.wait_for(f'id="{part}"')


def test_each_device_says_what_it_does_and_can_be_paused_alone(server, browser):
    said = MessageView(text="Free to work.", template="Free to work.")
    cpu = DeviceView(
        name="cpu",
        title="CPU",
        activity="working",
        message=said,
        reason="ready",
        share_percent=100,
        celsius=None,
        paused=False,
        unit=None,
        units_finished=1,
    )
    card = msgspec.structs.replace(
        cpu, name="cuda-0", title="RTX <b>4060</b>", celsius=71.0, unit=page_agent.unit()
    )
    server.agent.change(devices=[cpu])
    assert "Pause only this" not in browser.get("/").text
    server.agent.change(devices=[cpu, card])
    page = browser.get("/").text
    assert page.count("Pause only this") == 2
    assert "RTX &lt;b&gt;4060" in page
    assert "71 °C" in page
    off = msgspec.structs.replace(card, reason="device_off")
    server.agent.change(devices=[cpu, off])
    assert browser.get("/").text.count("Pause only this") == 1
    calls = len(server.agent.calls)
    assert browser.post("/now/device", data={"device": "cpu"}).status_code == 200
    assert len(server.agent.calls) > calls
    assert [name for name, _ in server.agent.controller.overrides.device_pauses] == ["cpu"]
    browser.post("/now/device", data={"device": "cpu", "resume": "yes"})
    assert not server.agent.controller.overrides.device_pauses
    assert "no device" in browser.post("/now/device", data={"device": "cuda-9"}).text


def test_a_reset_sets_the_defaults_and_spares_language_and_shares(
    server: PageServer, browser: httpx.Client
) -> None:
    agent = server.agent
    agent.prefer(
        on_battery=True, hours="mon 8:00-9:00", language="de", shares={"words": 200}, threads=3
    )
    one = browser.post("/preferences/reset", data={"name": "hours"})
    assert one.status_code == 200
    assert (agent.values.hours, agent.values.on_battery) == ("", True)
    page = browser.get("/preferences").text
    assert page.count('class="mark"') == 3, "on_battery, threads and language differ"
    assert browser.post("/preferences/reset").status_code == 200
    values = agent.values
    assert (values.on_battery, values.threads) == (False, page_agent.CORES // 2)
    assert (values.language, values.shares) == ("de", {"words": 200})


def test_a_switch_that_is_off_greys_what_needs_it(
    server: PageServer, browser: httpx.Client
) -> None:
    assert "“Work on battery” is off" in browser.get("/preferences").text
    answer = browser.post("/preferences/set", data={"name": "on_battery", "value": "on"})
    assert 'hx-target="#pref-battery-percent"' in answer.text, "it follows at once"
    assert "“Work on battery” is off" not in browser.get("/preferences").text


@pytest.mark.parametrize(("path", "name"), [("save", "log.jsonl"), ("report", "report.zip")])
def test_log_and_report_are_saved_as_files(browser: httpx.Client, path: str, name: str) -> None:
    answer = browser.get(f"/log/{path}")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="pleb-agent-{name}"'


def test_the_card_leads_to_what_the_model_does(server, browser):
    agent = server.agent
    assert "See what the model does" not in browser.get("/projects").text
    page = "https://train.example/projects/words?from=3#showcase&reader=<b>"
    agent.reader.shown["projects"] = [page_agent.project(showcase=page)]
    shown = browser.get("/projects").text
    assert f'href="{page.replace("&", "&amp;").replace("<b>", "&lt;b&gt;")}"' in shown
    assert ">See what the model does<" in shown
    agent.reader.shown["projects"] = [page_agent.project(showcase=page, showcase_since_ours=True)]
    assert "before your work and now" in browser.get("/projects").text
