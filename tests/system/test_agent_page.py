"""The agent's page in a real browser: the real `web_app` around an agent that the test moves."""

from __future__ import annotations

import gettext
import os
import re
import string
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from typing_extensions import override

from pleb_agent.control.views import RuntimeView
from pleb_agent.core.languages import LANGUAGES
from pleb_agent.translation import catalogue as catalogues
from pleb_agent.translation import words as translation
from pleb_agent.translation.formats import FORMATS
from pleb_agent.updates.releases import Release
from tests.integration import page_agent
from tests.integration.page_agent import LINK, PageAgent
from tests.integration.page_server import PageServer
from tests.system.chromium import Browser, chromium

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.system

NOON = time.time() + 7200
LINK_QUERY = LINK.replace("#", "%23")
PAGES = {
    "now": "/",
    "units": "/units",
    "refused": "/units?part=refused",
    "given": "/given?show=energy",
    "receipts": "/given/receipts",
    "household": "/household",
    "projects": "/projects",
    "preferences": "/preferences",
    "history": "/history",
    "log": "/log?level=debug",
    "welcome": "/welcome?change=1",
    "project": f"/welcome/project?link={LINK_QUERY}",
    "wrong-link": "/welcome/project?link=nonsense",
    "limits": "/welcome/limits",
    "first-unit": "/welcome/unit",
    "problem": "/given/curve?project=gone",
}


def newcomer() -> PageAgent:
    """An agent that has just been installed."""
    return PageAgent(
        first_run=True,
        projects=[],
        unit=None,
        activity="idle",
        message=page_agent.message("No project is attached: `pleb-agent attach LINK`."),
    )


def busy() -> PageAgent:
    """An agent with everything that a page can show at once."""
    return PageAgent(
        projects=[
            page_agent.project(
                showcase="https://train.example/projects/words?from=3#showcase",
                showcase_since_ours=True,
            ),
            page_agent.project("digits", title="Digits", problem="It cannot be reached."),
        ],
        open=[page_agent.assignment(), page_agent.assignment(assignment=9)],
        update=Release("0.2.0", can_install=True, sentence="It fixes things.", bytes_total=0),
        runtime=RuntimeView(
            kind="cuda", state="fetching", sentence="", bytes_done=50 << 20, bytes_total=2 << 30
        ),
    ).prefer(threads=8, hours="mon-fri 20:00-08:00")


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[PageServer]:
    server = PageServer(getattr(request, "param", PageAgent)()).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def browser(tmp_path: Path, server: PageServer) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as browser:
        browser.driver.get(server.open_url())
        browser.wait_until_live()
        yield browser
        assert browser.complaints() == []


# -- the first run ------------------------------------------------------------------------------


@pytest.mark.parametrize("server", [newcomer], indirect=True)
def test_from_the_link_to_the_first_accepted_unit(  # noqa: PLR0915 - one story
    server: PageServer, browser: Browser
) -> None:
    agent = server.agent
    browser.prefer(prefers_reduced_motion="reduce")
    assert browser.path() == "/welcome"
    assert not browser.driver.find_elements(By.CSS_SELECTOR, ".nav")

    # A wrong link is reported in its place, and can be corrected there.
    browser.find("link").send_keys(LINK[:-4] + "oops" + Keys.ENTER)
    browser.wait_for_text("look-problem", "That is no attach link")
    assert browser.find("link").get_attribute("value") == LINK[:-4] + "oops"
    browser.find("link").clear()
    browser.find("link").send_keys(LINK + Keys.ENTER)

    # Who is behind it, and what it takes.
    browser.wait_for_text("facts", "Shakespeare")  # which replaces what waited for it
    facts = browser.find("facts")
    assert browser.focused() == "Shakespeare, letter by letter"
    for words in ("Ada Lovelace", "Public domain", "ab" * 32, "training data",
                  "about 4\N{NARROW NO-BREAK SPACE}min", "61", "MB", "350", "Wh"):  # fmt: skip
        assert words in facts.text
    assert agent.status().projects == []
    browser.driver.refresh()
    browser.find("name").send_keys("Ada")
    browser.find("attach").submit()

    # The limits.
    browser.wait_for_path("/welcome/limits")
    assert ("attach", (LINK, None, "Ada")) in agent.calls
    browser.click("preset-quiet")
    browser.wait(lambda: agent.values.threads == 4)
    browser.click("autostart-on")
    browser.wait(lambda: agent.autostart.on)
    browser.driver.refresh()
    assert browser.find("preset-quiet").is_selected()
    assert browser.find("autostart-on").is_selected()
    browser.driver.find_element(By.LINK_TEXT, "Continue to the first unit").click()

    # The unit: each stage comes by itself, and survives reloading and going back.
    browser.wait_for_path("/welcome/unit")
    browser.driver.execute_script("window.unreloaded = true")
    assert "about 4\N{NARROW NO-BREAK SPACE}min" in browser.text("train-now")
    browser.click("train-now")
    browser.wait_for_text("first-unit", "Asking for a unit")
    server.do(lambda: agent.change(unit=page_agent.unit(17, 40, 17)))
    browser.wait_for_text("first-unit", "Your PC is training")
    assert browser.find("first-progress").get_attribute("value") == "17"
    assert browser.driver.find_elements(By.CSS_SELECTOR, "#first-unit .sparkline polyline")
    assert browser.axe() == []
    sent = page_agent.project(waits_for_confirmation=True, counters={"units_done": 1})
    server.do(lambda: agent.change(unit=None, projects=[sent]))
    browser.wait_for_text("first-unit", "Waiting for a second PC to confirm")
    assert browser.driver.execute_script("return window.unreloaded") is True
    browser.driver.back()
    browser.wait_for_path("/welcome/limits")
    browser.driver.forward()
    browser.wait_for_text("first-unit", "Waiting for a second PC to confirm")
    accepted = page_agent.project(counters={"units_done": 1, "verdicts_valid": 1})
    server.do(lambda: agent.change(projects=[accepted]))
    browser.wait_for_text("first-unit", "Your first unit was accepted")
    assert browser.axe() == []
    browser.click("finish")
    browser.wait_for_path("/")
    assert agent.status().first_run is False
    assert browser.driver.find_elements(By.CSS_SELECTOR, ".nav [aria-current=page]")


def test_the_coordinators_refusals_appear_next_to_the_form(
    server: PageServer, browser: Browser
) -> None:
    browser.driver.get(f"{server.url}{PAGES['project']}")
    browser.find("attach")
    server.agent.failure = "Your clock is 2 h off; set it right and try again."
    browser.find("attach").submit()
    browser.wait_for_text("attach-problem", "Your clock is 2 h off")
    server.agent.failure = ""
    browser.find("attach").submit()
    browser.wait_for_path("/projects")
    complaints = browser.complaints()
    assert len(complaints) == 1
    assert "422" in complaints[0]


# -- now ----------------------------------------------------------------------------------------


def test_the_page_follows_the_agent(server: PageServer, browser: Browser) -> None:
    agent = server.agent
    browser.driver.execute_script("window.unreloaded = true")
    assert "Free to work" in browser.text("now-sentence")

    browser.click("pause")
    browser.wait_for_text("now-controls", "Resume")
    browser.wait_for_text("now-sentence", "Paused by you")
    browser.wait_for_text("pill", "Paused")
    browser.wait(lambda: "Paused by you" in str(browser.find("said").get_attribute("textContent")))
    browser.driver.refresh()
    browser.wait_until_live()
    assert "Paused by you" in browser.text("now-sentence")
    browser.driver.execute_script("window.unreloaded = true")

    browser.click("snooze-1800")
    browser.wait(lambda: agent.reader.overrides.current.until is not None)
    browser.wait_for_text("now-state", "Resumes at")
    browser.click("resume")
    browser.wait_for_text("now-state", "Training")
    browser.click("boost")
    browser.wait_for_text("now-controls", "End the boost")

    # What changes elsewhere appears by itself, and the focus stays where it is.
    browser.find("snooze-3600").send_keys("")
    browser.driver.execute_script("document.getElementById('snooze-3600').focus()")
    server.do(lambda: agent.change(unit=page_agent.unit(33, 40, 33)))
    browser.wait(lambda: browser.find("unit-progress").get_attribute("value") == "33")
    assert browser.focused() == "snooze-3600"
    server.do(lambda: agent.change(unit=None))
    browser.wait(lambda: not browser.find("now-unit").is_displayed())
    assert browser.driver.execute_script("return window.unreloaded") is True

    # "Finish and stop" asks first.
    browser.click("stop")
    browser.driver.switch_to.alert.dismiss()
    browser.click("stop")
    browser.driver.switch_to.alert.accept()
    browser.wait_for_text("now-state", "Finishes what is in hand, and then stops.")
    assert agent.calls.count(("stop", (True,))) == 1
    assert all(request.startswith(server.url) for request in browser.requests())


def test_waiting_is_counted_down_and_cut_short(server: PageServer, browser: Browser) -> None:
    agent = server.agent
    why = page_agent.message("No work right now: all units of version 8 are assigned.")
    server.do(lambda: agent.change(unit=None, activity="idle", message=why, next_look_at=NOON))
    browser.wait_for_text("now-headline", "Waiting for Shakespeare, letter by letter")
    assert browser.text("now-sentence") == why.text
    browser.wait(lambda: re.fullmatch(r"\d+:\d\d:\d\d", browser.text_of(".countdown")))
    first = browser.text_of(".countdown")
    browser.wait(lambda: browser.text_of(".countdown") != first)
    browser.click("try-now")
    browser.wait(lambda: ("changed", ()) in agent.calls)


def test_a_unit_is_paused_and_handed_back_on_its_page(server: PageServer, browser: Browser) -> None:
    agent = server.agent
    browser.driver.get(f"{server.url}/units")
    browser.click("unit-pause-7")
    browser.wait_for_text("units-list", "is paused by you")
    browser.click("unit-resume-7")
    browser.wait(lambda: browser.driver.find_elements(By.ID, "unit-pause-7"))
    browser.click("unit-abort-7")
    browser.driver.switch_to.alert.accept()
    browser.wait_for_text("units-list", "is handed back with the next request")
    assert agent.calls.count(("unit_held", (7,))) == 3
    browser.click("part-refused")
    browser.wait_for_text("units-list", "0.42 from the result that counts; 0.031 is allowed.")


def test_no_new_work_and_finishing_are_said_and_undone(
    server: PageServer, browser: Browser
) -> None:
    agent = server.agent
    browser.click("finish")
    browser.wait_for_text("now-state", "Takes no new work, and then pauses.")
    browser.click("unfinish")
    browser.wait(lambda: browser.driver.find_elements(By.ID, "finish"))
    browser.driver.get(f"{server.url}/projects")
    button = browser.driver.find_element(By.XPATH, "//button[text()='No new work']")
    browser.click(str(button.get_attribute("id")))
    browser.wait_for_text("project-cards", "No new work, as you asked.")
    assert ("no_new_work", ("words", True)) in agent.calls


def test_habits_are_shown_and_forgotten(server: PageServer, browser: Browser) -> None:
    browser.driver.get(f"{server.url}/history?show=work")
    habits = browser.find("habits")
    assert "usually stays free for another 50\u202fmin" in habits.text
    assert "Learned from 20 times" in habits.text
    browser.click("forget-habits")
    browser.wait_for_text("habits", "is not known yet")
    assert not browser.driver.find_elements(By.ID, "forget-habits")
    assert ("forget_habits", ()) in server.agent.calls


def test_the_page_reconnects_to_a_restarted_agent(server: PageServer, browser: Browser) -> None:
    server.stop()
    browser.wait_for_text("gone", "The agent is not running")
    server.agent.change(message=page_agent.message("Here again."))
    server.start()
    browser.wait_until_live()
    assert not browser.find("gone").is_displayed()
    browser.wait_for_text("now-sentence", "Here again.")
    assert all("net::ERR_" in complaint for complaint in browser.complaints())


def test_a_browser_without_log_in_is_shown_how_to_get_one(
    server: PageServer, browser: Browser
) -> None:
    browser.driver.delete_all_cookies()
    browser.driver.get(server.url)
    assert "pleb-agent open" in browser.driver.find_element(By.TAG_NAME, "main").text
    assert browser.axe() == []
    complaints = browser.complaints()
    assert all("403" in complaint for complaint in complaints)


# -- preferences and projects ---------------------------------------------------------------------


def test_preferences_are_searched_and_reset(server: PageServer, browser: Browser) -> None:
    agent = server.agent
    agent.prefer(idle_minutes=9.0)
    browser.driver.get(f"{server.url}/preferences")
    browser.wait_until_live()
    browser.find("filter").send_keys("keep_free")
    browser.wait(lambda: not browser.find("pref-idle-minutes").is_displayed())
    assert browser.find("pref-keep-free-bytes").is_displayed()
    assert not browser.find("group-1").is_displayed()
    browser.find("filter").send_keys("nonsense")
    browser.wait(lambda: browser.find("filter-none").is_displayed())
    browser.find("filter").clear()
    browser.find("filter").send_keys("x" + Keys.BACKSPACE)
    browser.wait(lambda: browser.find("pref-idle-minutes").is_displayed())
    browser.click("pref-idle-minutes-reset")
    browser.wait(lambda: agent.values.idle_minutes == 3.0)
    browser.wait(lambda: not browser.driver.find_elements(By.ID, "pref-idle-minutes-reset"))

    browser.driver.get(f"{server.url}/log?level=debug")
    browser.wait_until_live()
    rows = browser.driver.find_elements(By.CSS_SELECTOR, ".log li")
    browser.find("filter").send_keys("offline")
    browser.wait(lambda: 0 < sum(row.is_displayed() for row in rows) < len(rows))
    assert re.search(r"\d\d:\d\d:\d\d", browser.text("log-lines"))


def test_preferences_are_saved_and_survive_reloading(server: PageServer, browser: Browser) -> None:
    agent = server.agent
    browser.driver.get(f"{server.url}/preferences")
    browser.wait_until_live()
    browser.click("pref-on-battery-value")
    browser.wait(lambda: agent.values.on_battery)
    browser.wait_for_text("presets", "Your own mix")
    number = browser.find("pref-idle-minutes-value")
    number.clear()
    number.send_keys("7.5" + Keys.TAB)
    browser.wait(lambda: agent.values.idle_minutes == 7.5)
    browser.wait_for_text("pref-idle-minutes", "Saved")

    number = browser.find("pref-cache-bytes-value")
    number.clear()
    number.send_keys("0" + Keys.TAB)
    browser.wait_for_text("pref-cache-bytes-problem", "Please enter a number from")
    assert agent.values.cache_bytes == 10 * 2**30
    assert all("422" in complaint for complaint in browser.complaints())

    slider = browser.find("pref-cpu-percent-in-use-value")
    slider.send_keys(Keys.ARROW_RIGHT * 5)
    assert slider.get_attribute("aria-valuetext") == "55 %"
    browser.wait(lambda: agent.values.cpu_percent_in_use == 55)

    browser.driver.find_element(By.CSS_SELECTOR, "#pref-hours-week summary").click()
    line = browser.find("pref-hours-sun")
    line.clear()
    line.send_keys("10-12" + Keys.TAB)
    browser.wait(lambda: agent.values.hours.endswith("sun 10:00-12:00"))
    browser.driver.refresh()
    assert browser.find("pref-hours-sun").get_attribute("value") == "10:00-12:00"
    assert browser.find("pref-idle-minutes-value").get_attribute("value") == "7.5"
    assert browser.find("pref-on-battery-value").is_selected()
    browser.click("pref-hours-always")
    browser.wait(lambda: agent.values.hours == "")

    # A preset sets all of its values, and the controls follow.
    browser.click("preset-full")
    browser.wait(lambda: browser.find("pref-threads-value").get_attribute("value") == "16")
    assert browser.find("pref-while-in-use-value").is_selected()


@pytest.mark.parametrize("server", [busy], indirect=True)
def test_projects_are_shared_linked_and_left(server: PageServer, browser: Browser) -> None:
    agent = server.agent
    browser.driver.get(f"{server.url}/projects")
    browser.wait_until_live()
    slug, other = (
        str(section.get_attribute("id")).removeprefix("project-")
        for section in browser.driver.find_elements(By.CSS_SELECTOR, ".project")
    )
    browser.find(f"share-{slug}-value").send_keys(Keys.ARROW_RIGHT * 10)
    browser.wait(lambda: agent.values.shares.get("words") == 200)

    browser.driver.find_element(By.CSS_SELECTOR, f"#account-{slug} summary").click()
    browser.click(f"link-button-{slug}")
    browser.wait_for_text(f"link-{slug}", "Anyone who has this text")
    text = browser.find(f"link-text-{slug}").get_attribute("value")
    assert str(text).startswith("pleb-account")

    # What comes from the agent meanwhile closes nothing that is open.
    more = page_agent.project(counters={"verdicts_valid": 77})
    server.do(lambda: agent.change(projects=[more, *agent.status().projects[1:]]))
    browser.wait_for_text(f"project-{slug}", "77")
    assert browser.find(f"link-text-{slug}").is_displayed()

    browser.driver.find_element(By.CSS_SELECTOR, f"#leave-{other} summary").click()
    browser.click(f"detach-{other}")
    browser.driver.switch_to.alert.accept()
    browser.wait(lambda: "Digits" not in browser.text("project-cards"))
    assert agent.calls[-1] == ("detach", ("digits",))


# -- for everybody --------------------------------------------------------------------------------


def test_the_keyboard_is_enough(server: PageServer, browser: Browser) -> None:
    browser.press(Keys.TAB)
    assert browser.focused() == "Skip to the content"
    browser.press(Keys.ENTER)
    browser.tab_to("pause", most=3)
    browser.press(Keys.ENTER)
    browser.wait(lambda: browser.focused() == "resume")
    browser.tab_to("snooze-tomorrow", most=8)
    browser.press(Keys.SPACE)
    browser.wait(lambda: server.agent.reader.overrides.current.until is not None)
    browser.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.SHIFT + Keys.TAB)

    browser.driver.get(f"{server.url}/preferences")
    browser.wait_until_live()
    browser.tab_to("preset-balanced")
    browser.press(Keys.ARROW_LEFT)
    browser.wait(lambda: server.agent.values.threads == 4)
    browser.tab_to("pref-while-in-use-value")
    browser.press(Keys.SPACE)
    browser.wait(lambda: server.agent.values.while_in_use)
    browser.tab_to("pref-threads-value")
    browser.press(Keys.ARROW_RIGHT)
    browser.wait(lambda: server.agent.values.threads == 5)


def test_colours_follow_the_system_or_the_switch(server: PageServer, browser: Browser) -> None:
    def ground() -> str:
        script = "return getComputedStyle(document.body).backgroundColor"
        found: str = browser.driver.execute_script(script)
        return found

    browser.prefer(prefers_color_scheme="light")
    light = ground()
    browser.prefer(prefers_color_scheme="dark")
    dark = ground()
    assert light != dark
    browser.click("theme")
    assert (ground(), browser.text("theme")) == (light, "Colours: light")
    browser.driver.refresh()
    browser.wait_until_live()
    assert (ground(), browser.text("theme")) == (light, "Colours: light")
    browser.prefer(prefers_color_scheme="light")
    browser.click("theme")
    assert (ground(), browser.text("theme")) == (dark, "Colours: dark")
    browser.click("theme")
    assert (ground(), browser.text("theme")) == (light, "Colours: as the system")


def test_reduced_motion_is_respected(browser: Browser) -> None:
    moving = "return document.getAnimations().length"
    assert browser.driver.execute_script(moving) > 0
    browser.prefer(prefers_reduced_motion="reduce")
    assert browser.driver.execute_script(moving) == 0


@pytest.mark.parametrize("server", [busy], indirect=True)
@pytest.mark.parametrize("language", ["en", "de", "pl"])
@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_sticks_out(server: PageServer, tmp_path: Path, language: str, width: int) -> None:
    with chromium(tmp_path / "profile", language) as browser:
        browser.driver.get(server.open_url())
        browser.resize(width)
        for name, path in PAGES.items():
            browser.driver.get(server.url + path)
            browser.wait_until_live()
            settle(browser)
            assert browser.overhang() <= 0, name
            label = browser.driver.find_element(By.TAG_NAME, "html").get_attribute("lang")
            assert label == language


@pytest.mark.parametrize("server", [busy], indirect=True)
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_serious(server: PageServer, browser: Browser, colours: str) -> None:
    browser.prefer(prefers_color_scheme=colours, prefers_reduced_motion="reduce")
    for name, path in PAGES.items():
        browser.driver.get(server.url + path)
        browser.wait_until_live()
        settle(browser)
        browser.driver.execute_script(
            "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
        )
        assert browser.axe() == [], name
        assert all(request.startswith(server.url) for request in browser.requests()), name
    complaints = browser.complaints()
    assert all(PAGES["problem"] in complaint for complaint in complaints), complaints


def settle(browser: Browser) -> None:
    """Wait until what a page loads after itself has come."""
    loading = "[hx-trigger=load] > progress, .curve > p.quiet:only-child"
    waiting = f"return document.querySelectorAll('{loading}').length"
    browser.wait(lambda: browser.driver.execute_script(waiting) == 0)


# -- a language that is written from right to left ----------------------------------------------


class Mirrored(gettext.NullTranslations):
    """A pseudo-locale: each English letter as one of Arabic's, braces and their names as they are.

    What a page still shows in Latin letters is not translated, or comes from outside.
    """

    LETTERS = str.maketrans(string.ascii_lowercase, "ابتثجحخدذرزسشصضطظعغفقكلمنه")

    @override
    def gettext(self, message: str) -> str:
        parts = re.split(r"(\{[^}]*\})", message.lower())
        return "".join(
            part if part.startswith("{") else part.translate(self.LETTERS) for part in parts
        )

    @override
    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid1 if n == 1 else msgid2)


@pytest.fixture
def arabic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(LANGUAGES, "ar", "Pseudo")
    monkeypatch.setitem(FORMATS, "ar", FORMATS["en"])
    known = catalogues.catalogue

    def played(tag: str) -> gettext.NullTranslations:
        return Mirrored() if tag == "ar" else known(tag)

    monkeypatch.setattr(translation, "catalogue", played)
    translation.words_for.cache_clear()
    yield
    translation.words_for.cache_clear()


@pytest.mark.parametrize("server", [busy], indirect=True)
def test_pages_are_laid_out_from_right_to_left(
    arabic: None, server: PageServer, tmp_path: Path
) -> None:
    with chromium(tmp_path / "profile", "ar") as browser:
        browser.driver.get(server.open_url())
        browser.wait_until_live()
        for width in (375, 1280):
            browser.resize(width)
            for name, path in PAGES.items():
                browser.driver.get(server.url + path)
                root = browser.driver.find_element(By.TAG_NAME, "html")
                assert root.get_attribute("dir") == "rtl"
                assert browser.overhang() <= 0, (name, width)
                assert browser.axe() == [], name
                if width == 1280 and name in {"now", "preferences", "history", "units"}:
                    side = browser.driver.find_element(By.CSS_SELECTOR, ".side").rect
                    heading = browser.driver.find_element(By.TAG_NAME, "h1").rect
                    assert side["x"] > heading["x"], "the menu is on the right"
                picture = Path(os.environ.get("PLEB_PICTURES", tmp_path))
                browser.keep_picture(picture / f"rtl-{name}-{width}.png")
