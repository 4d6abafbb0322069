"""Finishes the macOS app bundle and makes the package of it; runs on macOS only.

    python -m installers.build.build_macos --app dist/agent/pleb-agent.app --out dist
    ... --identity "Developer ID Application: ..." \
        --installer-identity "Developer ID Installer: ..."

Without identities the app is signed ad hoc, and Gatekeeper asks before it opens the package.
"""

from __future__ import annotations

import argparse
import plistlib
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from installers.build.build_agent import version_of_tree

__all__ = ["commands", "finished_facts"]

MACOS: Final = Path(__file__).resolve().parents[1] / "macos"
NAME: Final = "Pleb-Cluster.app"
IDENTIFIER: Final = "org.pleb-cluster"


def finished_facts(made_by_pyinstaller: dict[str, Any], version: str) -> dict[str, Any]:
    """Return the bundle's Info.plist: links, no Dock icon, this version."""
    ours: dict[str, Any] = plistlib.loads((MACOS / "Info.plist").read_bytes())
    versions = {"CFBundleShortVersionString": version, "CFBundleVersion": version}
    return made_by_pyinstaller | ours | versions


def commands(
    app: Path, package: Path, version: str, identity: str, installer_identity: str
) -> list[list[str]]:
    """Return the command lines that sign the app and make the package, in this order."""
    sign = ["codesign", "--force", "--deep", "--sign", identity or "-"]
    if identity:
        entitlements = str(MACOS / "entitlements.plist")
        sign += ["--options", "runtime", "--timestamp", "--entitlements", entitlements]
    build = [
        "pkgbuild", "--component", str(app), "--install-location", "/Applications",
        "--scripts", str(MACOS / "scripts"), "--identifier", IDENTIFIER, "--version", version,
    ]  # fmt: skip
    if installer_identity:
        build += ["--sign", installer_identity, "--timestamp"]
    return [
        [*sign, str(app)],
        ["codesign", "--verify", "--strict", str(app)],
        [*build, str(package)],
    ]


def main() -> None:
    """Read the command line, build, and print the package's path."""
    parser = argparse.ArgumentParser(description="Make the macOS package.")
    parser.add_argument("--app", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("dist"))
    parser.add_argument("--version", default=version_of_tree())
    parser.add_argument("--identity", default="")
    parser.add_argument("--installer-identity", default="")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    app = out / NAME
    shutil.copytree(arguments.app, app, symlinks=True)
    facts = app / "Contents" / "Info.plist"
    facts.write_bytes(
        plistlib.dumps(finished_facts(plistlib.loads(facts.read_bytes()), arguments.version))
    )
    package = out / f"pleb-agent-{arguments.version}-macos.pkg"
    for command in commands(
        app, package, arguments.version, arguments.identity, arguments.installer_identity
    ):
        subprocess.run(command, check=True)
    print(package)


if __name__ == "__main__":
    main()
