"""Makes the Windows set-up of a built agent, with makensis, which runs on Linux too.

    python -m installers.build.build_windows --agent dist/agent/pleb-agent --out dist

The payload must have been built on Windows: PyInstaller builds for the system that it runs on.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Final

from pleb_agent.program.installed import BUILD_FOLDER, InstallKind, read_build

__all__ = ["build_setup"]

INSTALLERS: Final = Path(__file__).resolve().parents[1]


def build_setup(agent: Path, version: str, out: Path) -> Path:
    """Return the set-up; a warning from makensis is an error."""
    out.mkdir(parents=True, exist_ok=True)
    setup = out / f"pleb-agent-{version}-windows-setup.exe"
    defines = {
        "PAYLOAD": agent,
        "VERSION": version,
        "OUT": setup,
        "ICONS": INSTALLERS / "desktop" / "icons",
    }
    subprocess.run(
        ["makensis", "-V2", "-WX", *(f"-D{name}={value}" for name, value in defines.items()),
         str(INSTALLERS / "windows" / "pleb-agent.nsi")],
        check=True,
    )  # fmt: skip
    return setup


def main() -> None:
    """Read the command line, build, and print the set-up's path."""
    parser = argparse.ArgumentParser(description="Make the Windows set-up.")
    parser.add_argument("--agent", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("dist"))
    arguments = parser.parse_args()
    agent: Path = arguments.agent.absolute()
    word = agent / "_internal" / BUILD_FOLDER / "packaged-by"
    word.write_text(InstallKind.WINDOWS + "\n", encoding="ascii")
    version = read_build(agent, agent / "_internal").version
    print(build_setup(agent, version, arguments.out.absolute()))


if __name__ == "__main__":
    main()
