"""Builds the agent with PyInstaller: one folder, one binary, without torch.

    python -m installers.build.build_agent --out dist/agent
    python -m installers.build.build_agent --out dist/agent --update-url https://updates.example \
        --root keys/root.json --version 0.2.0

The folder works as it is; `build_packages.py` makes packages of it. Everything of the standard
library that torch may import is in it, since torch itself comes later, as a runtime.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from installers.build.requirements import closure, requirements
from pleb_agent.program.installed import BUILD_FOLDER, BuildFacts, InstallKind

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["build", "describe", "version_of_tree"]

ROOT: Final = Path(__file__).resolve().parents[2]
ENTRY: Final = Path(__file__).with_name("entry.py")
PACKAGES: Final = {
    "pleb_agent": ROOT / "agent",
    "pleb_shared": ROOT / "shared",
    "pleb_system": ROOT / "shared",
}
NAME: Final = "pleb-agent"
KIND: Final = {"win32": "windows", "darwin": "macos"}.get(sys.platform, "archive")
RELEASE_EPOCH: Final = "1767225600"
"""2026-01-01: the timestamp of everything that is built."""

NEVER_IMPORTED: Final = frozenset({
    "antigravity", "distutils", "ensurepip", "idlelib", "lib2to3", "test", "this", "tkinter",
    "turtle", "turtledemo", "venv", "_tkinter", "pydoc_data",
})  # fmt: skip
"""Parts of the standard library."""

RUNTIMES: Final = (
    "torch", "numpy", "safetensors", "sympy", "networkx", "mpmath", "fsspec", "filelock",
)  # fmt: skip
"""The worker finds them in a folder of their own."""
UNUSED: Final = (
    "IPython", "dotenv", "httptools", "pygments", "rich", "trio", "uvloop", "websockets",
    "watchfiles", "wsproto", "yaml", "h2", "socksio", "brotli", "zstandard", "simplejson",
    "setuptools", "pip", "pkg_resources", "wheel", "tkinter", "sqlalchemy", "scipy",
)  # fmt: skip
"""Optional imports of our dependencies, for features that we do not use."""
TRAY_ELSEWHERE: Final = ("pystray", "PIL", "Xlib")
"""On Linux the tray uses D-Bus through jeepney alone."""
TRAY_DISTRIBUTIONS: Final = {"pystray", "pillow", "python-xlib"}

NO_HOOKS: Final = ("pyi_rth_inspect", "pyi_rth_multiprocessing", "pyi_rth_pkgutil")
"""What PyInstaller would run at each start: 5 MB in every process of ours. They help programs to
find the source of frozen modules, to list those, and to start workers by multiprocessing."""


def build(out: Path, facts: BuildFacts, root: bytes = b"", kind: str = KIND) -> Path:
    """Return the folder with the binary, `out/pleb-agent`."""
    with tempfile.TemporaryDirectory(prefix="pleb-build-") as work:
        described = Path(work, BUILD_FOLDER)
        describe(described, facts, root, kind)
        _run_pyinstaller(out, Path(work), described)
    return out / NAME


def describe(described: Path, facts: BuildFacts, root: bytes, kind: str) -> None:
    """Record what a build is, in its folder `pleb-build` (`program/installed.py` reads it)."""
    described.mkdir(exist_ok=True)
    words = {"version": facts.version, "update_url": facts.update_url}
    (described / "build.json").write_text(json.dumps(words) + "\n", encoding="utf-8")
    (described / "packaged-by").write_text(InstallKind(kind) + "\n", encoding="ascii")
    if facts.update_url:
        (described / "root.json").write_bytes(root)


def look() -> list[str]:
    """Return the options for the desktops: icons, and no window of a console."""
    icons = ROOT / "installers" / "desktop" / "icons"
    if sys.platform == "win32":  # hidden unless somebody started it from a console
        return ["--hide-console=hide-early", f"--icon={icons / 'pleb-agent.ico'}"]
    if sys.platform == "darwin":  # links arrive as events; the loader makes arguments of them
        icon = f"--icon={icons / 'pleb-agent.icns'}"
        return ["--windowed", "--argv-emulation", icon, "--osx-bundle-identifier=org.pleb-cluster"]
    return ["--strip"]


def options() -> list[str]:
    """Return PyInstaller's options that say what belongs in the folder."""
    hidden = [*standard_library(), *own_modules()]
    excluded = [*RUNTIMES, *UNUSED, *(TRAY_ELSEWHERE if sys.platform == "linux" else ())]
    return [
        *(f"--hidden-import={name}" for name in hidden),
        *(f"--exclude-module={name}" for name in excluded),
        *(f"--add-data={path}{os.pathsep}{folder}" for path, folder in own_data()),
        *(f"--paths={path}" for path in PACKAGES.values()),
        *(f"--copy-metadata={name}" for name in distributions()),
    ]


def distributions() -> list[str]:
    """Return the distributions that are frozen: their licences travel with them."""
    elsewhere = TRAY_DISTRIBUTIONS if sys.platform == "linux" else set()
    return sorted(closure("pleb-cluster", requirements()) - {"numpy", "safetensors"} - elsewhere)


def standard_library() -> Iterator[str]:
    """Yield every module of the standard library that this system has and torch may import."""
    for name in sorted(sys.stdlib_module_names - NEVER_IMPORTED):
        spec = importlib.util.find_spec(name) if name != "__main__" else None
        if spec is None:
            continue
        yield name
        for found in pkgutil.walk_packages(spec.submodule_search_locations or (), f"{name}."):
            if not NEVER_IMPORTED & set(found.name.split(".")) and "tests" not in found.name:
                yield found.name


def own_modules() -> Iterator[str]:
    """Yield our modules: the command line chooses which one runs."""
    for package, path in PACKAGES.items():
        for file in sorted((path / package).rglob("*.py")):
            parts = file.relative_to(path).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def own_data() -> Iterator[tuple[Path, str]]:
    """Yield templates, static files, translations and icons, with the folders they go to."""
    for package, path in PACKAGES.items():
        for file in sorted((path / package).rglob("*")):
            if file.is_file() and file.suffix not in {".py", ".pyc"}:
                yield file, str(file.parent.relative_to(path))


def _run_pyinstaller(out: Path, work: Path, described: Path) -> None:
    arguments = work / "arguments"  # thousands of names are too much for a command line
    arguments.write_text(json.dumps([
        "--onedir", f"--name={NAME}", f"--specpath={work}",
        f"--add-data={described}{os.pathsep}{BUILD_FOLDER}", *look(), *options(), str(ENTRY),
    ]), encoding="utf-8")  # fmt: skip
    make = f"import sys, json; sys.argv[1:] = json.load(open({str(arguments)!r}))"
    _python("-c", f"{make}; from PyInstaller.utils.cliutils.makespec import run; run()")
    spec = work / f"{NAME}.spec"
    made = spec.read_text(encoding="utf-8")
    keep = f"a.scripts = [one for one in a.scripts if one[0] not in {NO_HOOKS}]\n"
    spec.write_text(made.replace("pyz = PYZ(", keep + "pyz = PYZ("), encoding="utf-8")
    places = (f"--distpath={out}", f"--workpath={work}")
    _python("-m", "PyInstaller", "--noconfirm", "--log-level=WARN", *places, str(spec))


def _python(*words: str) -> None:
    environment = {"SOURCE_DATE_EPOCH": RELEASE_EPOCH} | os.environ | {"PYTHONHASHSEED": "0"}
    subprocess.run([sys.executable, *words], check=True, env=environment, stdout=sys.stderr)


def main() -> None:
    """Read the command line, build, and print the folder's path."""
    parser = argparse.ArgumentParser(description="Build the agent without torch.")
    parser.add_argument("--out", type=Path, default=Path("dist/agent"))
    parser.add_argument("--version", default=version_of_tree())
    parser.add_argument("--update-url", default="", help="folder of the TUF repository")
    parser.add_argument("--root", type=Path, help="its root.json; needed with --update-url")
    arguments = parser.parse_args()
    if bool(arguments.update_url) != bool(arguments.root):
        parser.error("--update-url and --root belong together: give both, or none.")
    facts = BuildFacts(version=arguments.version, update_url=arguments.update_url)
    root = arguments.root.read_bytes() if arguments.root else b""
    print(build(arguments.out.absolute(), facts, root))


def version_of_tree() -> str:
    """Return the source tree's version."""
    from importlib.metadata import version

    return version("pleb-cluster")


if __name__ == "__main__":
    main()
