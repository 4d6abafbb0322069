"""The first run as it will be: the real agent, a real coordinator, a second PC that confirms."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.e2e.world import PROJECTS, Running, World, run_cli
from tests.system.chromium import Browser, chromium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

PATIENCE_SECONDS = 200


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    try:
        yield world
    finally:
        world.close()


def address(world: World) -> str:
    """What `pleb-agent open` would open."""
    done = run_cli("pleb_agent", "open", "--print", "--json", "--home", world.root / "anna")
    url: str = json.loads(done.stdout)["url"]
    return url


def start(world: World) -> Running:
    """Start the agent as a volunteer's own: with the usual preferences."""
    home = world.root / "anna"
    command = [sys.executable, "-m", "pleb_agent.cli", "start", "--headless", "--threads", "1"]
    agent = Running("anna", [*command, "--home", str(home)], world.root / "anna.log").start()
    world.agents["anna"] = agent
    return agent


def other_hours() -> str:
    """Hours of work that are not now: the agent works only when asked to."""
    now = time.localtime()
    begin = (now.tm_hour + 10) % 24
    return f"mon-sun {begin:02}:00-{begin:02}:30"


def test_the_first_unit_of_a_real_agent(world: World, tmp_path: Path) -> None:
    world.serve("--with-agent")
    link = world.publish(PROJECTS / "tiny")
    home = world.root / "anna"
    run_cli("pleb_agent", "prefs", "set", f"hours={other_hours()}", "--home", home)
    agent = start(world)
    with chromium(tmp_path / "profile") as browser:
        browser.wait((home / "agentd.json").exists)
        first_run(world, browser, link)
        browser.driver.get_log("browser")

        # The agent stops and starts again: the page says so, and its log-in still works.
        agent.stop()
        browser.wait_for_text("gone", "The agent is not running")
        start(world)
        browser.wait_until_live()
        assert browser.text("pill") != ""
        browser.driver.refresh()
        assert browser.path() == "/"


def first_run(world: World, browser: Browser, link: str) -> None:
    driver = browser.driver
    driver.get(address(world))
    browser.wait_for_path("/welcome")
    browser.find("link").send_keys(link + Keys.ENTER)
    browser.wait(lambda: "Tiny digits" in browser.text("facts"))
    assert link.partition("#")[2][:64] in browser.text("facts")
    browser.find("name").send_keys("Anna")
    browser.find("attach").submit()
    browser.wait_for_path("/welcome/limits")
    driver.find_element(By.LINK_TEXT, "Continue to the first unit").click()
    browser.wait_for_path("/welcome/unit")
    driver.execute_script("window.unreloaded = true")
    browser.wait(lambda: stage(browser) == "ready")
    browser.click("train-now")
    browser.wait(lambda: stage(browser) == "accepted", PATIENCE_SECONDS)
    assert driver.execute_script("return window.unreloaded") is True
    assert "Your first unit was accepted" in browser.text("first-unit")
    browser.click("finish")
    browser.wait_for_path("/")
    browser.wait_for_text("now-cards", "Units done")

    driver.get(f"{driver.current_url}projects")
    browser.wait_for_text("project-cards", "Tiny digits")
    driver.find_element(By.CSS_SELECTOR, ".nav a[href='/given']").click()
    browser.wait_for_path("/given")
    browser.wait(lambda: driver.find_elements(By.CSS_SELECTOR, "[id^=curve-] .u-over"))
    assert browser.axe() == []
    driver.find_element(By.CSS_SELECTOR, ".nav a[href='/history']").click()
    browser.wait_for_path("/history")
    assert "confirmed" in driver.find_element(By.ID, "main").text
    origin = driver.execute_script("return location.origin")
    assert all(request.startswith(origin) for request in browser.requests())
    driver.find_element(By.CSS_SELECTOR, ".nav a[href='/']").click()
    browser.wait_for_path("/")


def stage(browser: Browser) -> str:
    found: str = browser.find("first-unit").get_attribute("data-stage") or ""
    return found
