"""The committed icons and the launcher entry are what their sources say."""

from __future__ import annotations

import configparser
import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[4]
DESKTOP = ROOT / "installers/desktop"
STATES = ROOT / "agent/pleb_agent/tray/icons/hicolor"
PIXELS = ROOT / "agent/pleb_agent/tray/icons/pixels"
DRAWING = runpy.run_path(str(DESKTOP / "draw_icons.py"))
COLOURS = {"": None, "-on-dark": DRAWING["ON_DARK"], "-on-light": DRAWING["ON_LIGHT"]}


@pytest.mark.parametrize("variant", COLOURS)
@pytest.mark.parametrize("state", DRAWING["SIGNS"])
def test_icons_of_states_are_what_the_script_draws(state: str, variant: str) -> None:
    colour = COLOURS[variant] or DRAWING["COLOURS"][state]
    name, shapes = f"pleb-agent-{state}{variant}", DRAWING["SIGNS"][state]
    svg = (STATES / f"scalable/status/{name}.svg").read_text("utf-8")
    assert svg == DRAWING["svg_of"](shapes, colour)
    with Image.open(STATES / f"22x22/status/{name}.png") as file:
        drawn = DRAWING["painted"](shapes, colour, 22)
        assert file.convert("RGBA").tobytes() == drawn.tobytes()
    assert (PIXELS / f"{name}-22.argb").read_bytes() == DRAWING["argb_of"](drawn)


def test_the_programs_icon_is_what_the_script_draws() -> None:
    folder = DESKTOP / "icons/hicolor"
    svg = (folder / "scalable/apps/pleb-agent.svg").read_text("utf-8")
    assert svg == DRAWING["app_svg"]()
    for size in DRAWING["APP_SIZES"]:
        with Image.open(folder / f"{size}x{size}/apps/pleb-agent.png") as file:
            assert file.size == (size, size)


def test_the_icon_of_windows_and_of_macos_have_every_size() -> None:
    with Image.open(DESKTOP / "icons/pleb-agent.ico") as file:
        assert {size[0] for size in file.info["sizes"]} == set(DRAWING["ICO_SIZES"])
    with Image.open(DESKTOP / "icons/pleb-agent.icns") as file:
        widths = {size[0] * size[2] for size in file.info["sizes"]}
        assert {32, 64, 128, 256, 512, 1024} <= widths


NAME = ("Desktop Entry", "Name")


def launcher() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=["="])
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "agent/pleb_agent/desktop/pleb-agent.desktop", "utf-8")
    return parser


def test_the_launcher_opens_the_page_and_takes_links() -> None:
    entry = launcher()["Desktop Entry"]
    assert entry["Exec"] == "pleb-agent open %u"
    assert set(entry["MimeType"].split(";")) == {
        "x-scheme-handler/pleb",
        "x-scheme-handler/pleb+http",
        "",
    }
    assert (DESKTOP / f"icons/hicolor/scalable/apps/{entry['Icon']}.svg").is_file()


def test_every_command_of_the_launcher_is_one_of_ours() -> None:
    from pleb_agent.cli.parser import make_parser

    parser = make_parser()
    for section in launcher().sections():
        command = launcher()[section]["Exec"].replace("%u", "").split()
        assert command[0] == "pleb-agent"
        assert parser.parse_args(command[1:]).command == command[1]


def test_every_action_is_described() -> None:
    names = launcher()["Desktop Entry"]["Actions"].strip(";").split(";")
    assert [f"Desktop Action {name}" for name in names] == launcher().sections()[1:]


def test_every_name_is_translated() -> None:
    for section in launcher().sections():
        keys = set(launcher()[section])
        plain = {key for key in keys if re.fullmatch("Name|GenericName|Comment", key)}
        assert {f"{key}[de]" for key in plain if (section, key) != NAME} <= keys
