"""The macOS bundle: its property lists, and the commands that would sign and package it."""

from __future__ import annotations

import plistlib
from pathlib import Path

from installers.build.build_macos import commands, finished_facts

MACOS = Path(__file__).resolve().parents[3] / "installers" / "macos"


def test_the_bundle_takes_links_and_stays_out_of_the_dock():
    facts = finished_facts({"CFBundleExecutable": "pleb-agent", "CFBundleVersion": "0"}, "0.2.0")
    assert facts["CFBundleExecutable"] == "pleb-agent"
    assert facts["CFBundleVersion"] == facts["CFBundleShortVersionString"] == "0.2.0"
    assert facts["LSUIElement"] is True
    (link,) = facts["CFBundleURLTypes"]
    assert "pleb" in link["CFBundleURLSchemes"]
    assert plistlib.loads(plistlib.dumps(facts)) == facts


def test_torchs_libraries_may_be_loaded_under_the_hardened_runtime():
    rights = plistlib.loads((MACOS / "entitlements.plist").read_bytes())
    assert rights == {"com.apple.security.cs.disable-library-validation": True}


def test_with_identities_everything_is_signed():
    sign, verify, build = commands(Path("A.app"), Path("a.pkg"), "0.2.0", "Dev", "Installer")
    assert sign[sign.index("--sign") + 1] == "Dev"
    assert {"runtime", "--timestamp", "--entitlements"} <= set(sign)
    assert verify[:2] == ["codesign", "--verify"]
    assert build[build.index("--sign") + 1] == "Installer"
    assert Path(build[build.index("--scripts") + 1]).is_dir()


def test_without_identities_the_signature_is_ad_hoc():
    sign, _, build = commands(Path("A.app"), Path("a.pkg"), "0.2.0", "", "")
    assert sign[sign.index("--sign") + 1] == "-"
    assert "--sign" not in build
