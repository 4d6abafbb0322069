"""A private project's pages in a real browser: by an invite, as a member, as nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pleb_agent.cli import main as agent_main
from tests.e2e.world import PROJECTS, World, run_here
from tests.system.chromium import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.chromium import Browser

pytestmark = pytest.mark.system


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as found:
        yield found


def heading(browser: Browser) -> Any:
    return browser.driver.execute_script("return document.querySelector('h1')?.textContent")


def test_a_link_with_an_invite_opens_the_join_page_and_leaves_no_trace(
    world: World, browser: Browser
) -> None:
    world.serve()
    link = world.publish(PROJECTS / "tiny", access="invited")
    browser.driver.get(link)
    browser.wait(lambda: "here that you may read" in str(heading(browser)))

    made = world.admin("invite", "new", "--project", "tiny")
    browser.driver.get("about:blank")
    browser.driver.get(made["link"])
    browser.wait(lambda: heading(browser) == "Tiny digits")
    assert "invite" not in browser.driver.current_url
    assert browser.driver.current_url == link
    assert "A private project." in browser.text("who-reads")
    shown = browser.driver.execute_script("return document.getElementById('attach-link').value")
    assert shown == made["link"]
    assert made["token"] not in browser.driver.execute_script("return document.cookie")
    assert not browser.axe()

    # the invite shows no more than there is to join
    browser.driver.get(f"{world.url}/projects/tiny")
    browser.wait(lambda: "here that you may read" in str(heading(browser)))

    # the agent joins by what the page shows, and its address opens the live page
    run_here(agent_main, "attach", shown, "--home", world.root / "anna")
    world.start_agent("anna")

    def page() -> str:
        try:
            told = run_here(agent_main, "reader", "tiny", "--home", world.root / "anna")
        except AssertionError:
            return ""
        return str(told["page"])

    browser.driver.get("about:blank")
    browser.driver.get(browser.wait(page))
    browser.wait(lambda: heading(browser) == "Tiny digits")
    assert browser.driver.current_url == f"{world.url}/projects/tiny"
    assert "members and the operator only" in browser.text("access")
    browser.wait(lambda: browser.text("link-state") == "live")  # its events come, too

    # an address that asks for more keeps what it asks for
    browser.driver.delete_all_cookies()
    browser.driver.get("about:blank")
    browser.driver.get(page().replace("/tiny#", "/tiny?from=3#showcase&"))
    browser.wait(lambda: heading(browser) == "Tiny digits")
    assert browser.driver.current_url == f"{world.url}/projects/tiny?from=3#showcase"
    assert httpx.get(f"{world.url}/projects/tiny").status_code == 404
