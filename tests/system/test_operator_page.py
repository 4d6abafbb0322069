"""The operator's page in a real browser: the cookie, the forms and the policy hold there, too."""

from __future__ import annotations

import time

import pytest
from selenium.webdriver.common.by import By

from pleb_coordinator.admin.admins import OpenPage
from pleb_coordinator.admin.command import Actor, Desk
from pleb_coordinator.admin.table import carry_out
from pleb_coordinator.core.admins import AdminRole
from pleb_coordinator.home.config import CoordinatorConfig, config_text
from pleb_coordinator.home.layout import Home
from tests.integration.served import served
from tests.system.chromium import chromium

pytestmark = pytest.mark.system
TOO_WIDE = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"


def press(browser, label):
    buttons = browser.driver.find_elements(By.CSS_SELECTOR, "main button")
    next(button for button in buttons if button.text == label).click()


def test_an_operator_comes_in_by_the_link_and_pauses_a_project(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    with served(home) as server, chromium(tmp_path / "profile") as browser:
        server.world.clock.now = time.time()
        host = server.world.volunteer("other").key.fingerprint
        base = f"http://127.0.0.1:{server.port}"
        (home / "coordinator.toml").write_text(config_text(CoordinatorConfig(url=base)))
        desk = Desk(Home(home), server.world.clock, Actor("", "root", AdminRole.OPERATOR))
        browser.driver.get(carry_out(desk, OpenPage()).url)
        press(browser, "Log in")
        browser.wait(lambda: "Hosts by class" in browser.driver.page_source)
        assert browser.driver.current_url == f"{base}/operator"
        assert "pleb_operator" not in browser.driver.execute_script("return document.cookie")
        press(browser, "Pause")
        browser.wait(lambda: "No more units are issued" in browser.driver.page_source)
        assert server.world.project.state == "active", "it only asked"
        press(browser, "Pause")
        browser.wait(lambda: "Pause: done." in browser.driver.page_source)
        assert server.world.project.state == "paused"
        for path in ("/operator", "/operator/projects/tiny"):
            for width in (1280, 500):
                browser.driver.set_window_size(width, 900)
                browser.driver.get(base + path)
                assert not browser.driver.execute_script(TOO_WIDE), (path, width)
        assert host[:12] in browser.driver.page_source
        browser.driver.find_element(By.CSS_SELECTOR, "header button").click()
        browser.wait(lambda: "You are not logged in" in browser.driver.page_source)
        browser.driver.get(f"{base}/operator")
        assert "You are not logged in" in browser.driver.page_source
        told = [one for one in browser.driver.get_log("browser") if "401" not in one["message"]]
        assert told == []
