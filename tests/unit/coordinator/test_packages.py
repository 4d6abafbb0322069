"""Which package suits a visitor: names of files, what browsers say, the order."""

from __future__ import annotations

import pytest

from pleb_coordinator.core.packages import (
    Package,
    PackageKind,
    System,
    Visitor,
    best_first,
    parse_package_name,
    visitor_of,
)

CHROME = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
FIREFOX = "Mozilla/5.0 ({}; rv:145.0) Gecko/20100101 Firefox/145.0"

NAMES = [
    ("pleb-agent_0.1.0-1_amd64.deb", PackageKind.DEB, "0.1.0", "x86_64", False),
    ("pleb-agent_0.1.0-1_arm64-unsigned.deb", PackageKind.DEB, "0.1.0", "arm64", True),
    ("pleb-agent-0.1.0-1.x86_64.rpm", PackageKind.RPM, "0.1.0", "x86_64", False),
    ("pleb-agent-0.1.0-1-x86_64.pkg.tar.zst", PackageKind.ARCH, "0.1.0", "x86_64", False),
    ("pleb-agent-0.2.0-linux-aarch64.tar.xz", PackageKind.ARCHIVE, "0.2.0", "arm64", False),
    ("pleb-agent-0.1.0-windows-setup.exe", PackageKind.WINDOWS, "0.1.0", "", False),
    ("pleb-agent-0.1.0-windows-setup-unsigned.exe", PackageKind.WINDOWS, "0.1.0", "", True),
    ("pleb-agent-0.1.0-macos.pkg", PackageKind.MACOS, "0.1.0", "", False),
]


@pytest.mark.parametrize(("name", "kind", "version", "processor", "unsigned"), NAMES)
def test_a_package_is_known_by_its_name(name, kind, version, processor, unsigned):
    found = parse_package_name(name)
    assert found is not None
    assert (found.kind, found.version, found.processor, found.unsigned) == (
        kind, version, processor, unsigned,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "SHA256SUMS",
        "cpu-linux-x86_64-py3.11-torch2.13.0.tar.xz",
        "pleb-agent_0.1.0-1_amd64.deb.asc",
        "../pleb-agent_0.1.0-1_amd64.deb",
        "pleb-agent_0.1.0-1_amd64.deb\n",
        "pleb-agent__amd64.deb",
        "other_0.1.0-1_amd64.deb",
        "",
    ],
)
def test_other_files_are_no_packages(name):
    assert parse_package_name(name) is None


@pytest.mark.parametrize(
    ("agent", "platform", "visitor"),
    [
        (CHROME.format("X11; Linux x86_64"), '"Linux"', Visitor(System.LINUX, "x86_64")),
        (FIREFOX.format("X11; Ubuntu; Linux x86_64"), "", Visitor(System.DEBIAN, "x86_64")),
        (FIREFOX.format("X11; Ubuntu; Linux x86_64"), '"Linux"', Visitor(System.DEBIAN, "x86_64")),
        (FIREFOX.format("X11; Fedora; Linux x86_64"), "", Visitor(System.FEDORA, "x86_64")),
        (FIREFOX.format("X11; Linux aarch64"), "", Visitor(System.LINUX, "arm64")),
        (
            CHROME.format("Windows NT 10.0; Win64; x64"),
            '"Windows"',
            Visitor(System.WINDOWS, "x86_64"),
        ),
        (FIREFOX.format("Windows NT 10.0; Win64; x64"), "", Visitor(System.WINDOWS, "x86_64")),
        (CHROME.format("Macintosh; Intel Mac OS X 10_15_7"), '"macOS"', Visitor(System.MACOS)),
        (CHROME.format("Linux; Android 10; K"), '"Android"', Visitor(System.OTHER)),
        (CHROME.format("iPhone; CPU iPhone OS 17_0 like Mac OS X"), "", Visitor(System.OTHER)),
        (CHROME.format("X11; CrOS x86_64"), '"Chrome OS"', Visitor(System.OTHER, "x86_64")),
        ("", "", Visitor(System.OTHER)),
        ("curl/8", '"Windows"', Visitor(System.WINDOWS)),
        ("A" * 100_000, '"' * 100, Visitor(System.OTHER)),
    ],
)  # fmt: skip
def test_a_browser_says_what_it_runs_on(agent, platform, visitor):
    assert visitor_of(agent, platform) == visitor


def package(name: str, at: float = 1.0) -> Package:
    found = parse_package_name(name)
    assert found is not None
    return Package(name, found.kind, found.version, found.processor, 9, "0" * 64, at)


ALL = [package(name) for name, *_ in NAMES]


@pytest.mark.parametrize(
    ("visitor", "names"),
    [
        (
            Visitor(System.DEBIAN, "x86_64"),
            ["pleb-agent_0.1.0-1_amd64.deb"],
        ),
        (
            Visitor(System.LINUX, "x86_64"),
            [
                "pleb-agent_0.1.0-1_amd64.deb",
                "pleb-agent-0.1.0-1.x86_64.rpm",
                "pleb-agent-0.1.0-1-x86_64.pkg.tar.zst",
            ],
        ),
        (
            Visitor(System.DEBIAN, "arm64"),
            ["pleb-agent_0.1.0-1_arm64-unsigned.deb", "pleb-agent-0.2.0-linux-aarch64.tar.xz"],
        ),
        (
            Visitor(System.DEBIAN),
            [
                "pleb-agent_0.1.0-1_amd64.deb",
                "pleb-agent_0.1.0-1_arm64-unsigned.deb",
                "pleb-agent-0.2.0-linux-aarch64.tar.xz",
            ],
        ),
        (Visitor(System.WINDOWS, "x86_64"), ["pleb-agent-0.1.0-windows-setup-unsigned.exe"]),
        (Visitor(System.MACOS), ["pleb-agent-0.1.0-macos.pkg"]),
        (Visitor(System.OTHER), []),
    ],
)
def test_what_suits_comes_first_and_all_else_is_kept(visitor, names):
    fitting, others = best_first(ALL, visitor)
    assert [found.name for found in fitting] == names
    shown = {found.name for found in [*fitting, *others]}
    # Of two set-ups for Windows, the one that was added last counts.
    assert shown == {found.name for found in ALL} - {"pleb-agent-0.1.0-windows-setup.exe"}


def test_a_newer_release_replaces_the_one_before():
    older = package("pleb-agent_0.1.0-1_amd64.deb", at=5)
    newer = package("pleb-agent_0.2.0-1_amd64.deb", at=6)
    fitting, others = best_first([newer, older], Visitor(System.DEBIAN, "x86_64"))
    assert (fitting, others) == ([newer], [])
