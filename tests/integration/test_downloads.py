"""Packages on the join page and what serves them: right one first, ranges, headers, bounds."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from pleb_coordinator.api.context import MOST_DOWNLOADS_EACH
from pleb_coordinator.home.config import CoordinatorConfig
from pleb_coordinator.home.downloads import Downloads
from tests.integration.http_world import http_world

DEB = "pleb-agent_0.1.0-1_amd64.deb"
SETUP = "pleb-agent-0.1.0-windows-setup.exe"
BYTES = {DEB: b"!<arch>\ndebian-binary" + bytes(range(256)) * 4000, SETUP: b"MZ" + b"s" * 999}
LINUX = {"user-agent": "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:145.0) Gecko Firefox/145.0"}
WINDOWS = {"sec-ch-ua-platform": '"Windows"', "user-agent": "Mozilla/5.0 (Windows NT 10.0; Win64)"}
PHONE = {"user-agent": "Mozilla/5.0 (Linux; Android 10; K) Chrome/142.0 Mobile Safari/537.36"}
INDEX = "https://download.pytorch.org/whl/cpu"


@pytest.fixture
def offered(tmp_path):
    downloads = Downloads(tmp_path / "downloads")
    for name, content in BYTES.items():
        downloads.add(name, [content], at=1.0)
    return downloads


def test_the_right_package_comes_first_then_open_then_the_others_then_pip(tmp_path, offered):
    async def story():
        async with http_world(tmp_path) as http:
            for headers, first, label in (
                (LINUX, DEB, "Download for Debian/Ubuntu"),
                (WINDOWS, SETUP, "Download for Windows"),
            ):
                answer = await http.client.get("/join/tiny", headers=headers)
                assert answer.headers["vary"] == "User-Agent, Sec-CH-UA-Platform"
                page = answer.text
                marks = [label, "Open in Pleb", "Other systems", "python3 -m pip"]
                places = [page.index(mark) for mark in marks]
                assert places == sorted(places)
                (other,) = {DEB, SETUP} - {first}
                assert f'id="download" href="/downloads/{first}"' in page
                assert page.index(other) > places[2]
                assert hashlib.sha256(BYTES[first]).hexdigest() in page
                assert f"pip install --extra-index-url {INDEX}" in page
            page = (await http.client.get("/join/tiny", headers=PHONE)).text
            assert 'id="no-system"' in page
            assert 'id="download"' not in page

    asyncio.run(story())


def test_without_packages_there_is_the_release_page_or_pip(tmp_path):
    async def page(where, config):
        async with http_world(where, config=config) as http:
            return (await http.client.get("/join/tiny", headers=LINUX)).text

    where = "https://releases.example.org/pleb"
    for name, config in (("a", CoordinatorConfig()), ("b", CoordinatorConfig(releases=where))):
        (tmp_path / name).mkdir()
        found = asyncio.run(page(tmp_path / name, config))
        assert (f'id="download" href="{where}"' in found) == bool(config.releases)
        assert ('id="no-package"' in found) != bool(config.releases)
        assert ('id="pip" open' in found) != bool(config.releases)


def test_the_host_and_who_runs_it_are_named_before_anything(tmp_path, offered):
    async def story():
        async with http_world(tmp_path) as http:
            page = (await http.client.get("/join/tiny", headers=LINUX)).text
            assert "at coordinator.test:7532" in page
            assert page.index("Run by") < page.index("Download for")
            assert "kWh" in page

    asyncio.run(story())


def test_a_package_is_served_whole_and_in_parts(tmp_path, offered):
    content, path = BYTES[DEB], f"/downloads/{DEB}"

    async def story():
        async with http_world(tmp_path) as http:
            whole = await http.client.get(path)
            assert whole.content == content
            assert whole.headers["content-type"] == "application/vnd.debian.binary-package"
            assert whole.headers["content-disposition"] == f'attachment; filename="{DEB}"'
            assert whole.headers["x-content-type-options"] == "nosniff"
            assert int(whole.headers["content-length"]) == len(content)
            tag = whole.headers["etag"]
            assert tag == f'"{hashlib.sha256(content).hexdigest()}"'
            head = await http.client.head(path)
            assert (head.content, head.headers["etag"]) == (b"", tag)
            part = await http.client.get(path, headers={"range": "bytes=1000-1999"})
            assert (part.status_code, part.content) == (206, content[1000:2000])
            assert part.headers["content-range"] == f"bytes 1000-1999/{len(content)}"
            rest = await http.client.get(
                path, headers={"range": f"bytes={len(content) - 5}-", "if-range": tag}
            )
            assert rest.content == content[-5:]
            other = await http.client.get(path, headers={"range": "bytes=5-", "if-range": '"old"'})
            assert (other.status_code, other.content) == (200, content), "of another release"
            same = await http.client.get(path, headers={"if-none-match": tag})
            assert (same.status_code, same.content) == (304, b"")
            past = await http.client.get(path, headers={"range": f"bytes={len(content)}-"})
            assert past.status_code == 416

    asyncio.run(story())


@pytest.mark.parametrize(
    "name", ["packages.json", "packages.lock", "stray.deb", "..%2fcoordinator.toml", "none"]
)
def test_only_what_is_listed_is_served(tmp_path, offered, name):
    (tmp_path / "downloads" / "stray.deb").write_bytes(b"x")

    async def story():
        async with http_world(tmp_path) as http:
            assert (await http.client.get(f"/downloads/{name}")).status_code == 404

    asyncio.run(story())


def test_what_was_removed_or_cut_short_is_offered_no_more(tmp_path, offered):
    async def story():
        async with http_world(tmp_path) as http:
            assert SETUP in (await http.client.get("/join/tiny", headers=WINDOWS)).text
            Downloads(tmp_path / "downloads").remove(SETUP)
            assert SETUP not in (await http.client.get("/join/tiny", headers=WINDOWS)).text
            (tmp_path / "downloads" / DEB).write_bytes(b"!<arch>\n")
            assert (await http.client.get(f"/downloads/{DEB}")).status_code == 404
            assert DEB not in (await http.client.get("/join/tiny", headers=LINUX)).text

    asyncio.run(story())


def test_an_address_has_a_bounded_number_of_downloads_at_a_time(tmp_path, offered):
    async def story():
        async with http_world(tmp_path) as http:
            places = http.web.api.downloads
            for _ in range(MOST_DOWNLOADS_EACH):
                places.take("203.0.113.7")
            refused = await http.client.get(f"/downloads/{DEB}")
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0
            places.give_back("203.0.113.7")
            assert (await http.client.get(f"/downloads/{DEB}")).status_code == 200
            assert places.taken == MOST_DOWNLOADS_EACH - 1, "its place was given back"

    asyncio.run(story())
