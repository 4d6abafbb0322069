"""Builds the virtual environment that the Makefile's targets run in.

Asks the package index for everything at the exact versions of ``constraints.txt``. torch comes
first and on its own, because a plain ``pip install torch`` on Linux is a CUDA build of several
gigabytes unless somebody has arranged otherwise: this script never takes that one unasked.

Runs on the standard library alone; ``find_python.sh`` picks the Python for it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PLAIN_IS_GPU = sys.platform == "linux"  # what the package index calls just "torch"
LARGE_DOWNLOAD = re.compile(r"^\s*Downloading ([^-\s]+)-([^-\s]+)\S* \((\d+(?:\.\d+)? [MG]B)\)")

TORCH_SIZE = "about 190 MB to download, 800 MB on disk"
RUN_SIZE = "about 45 packages, 100 MB to download, 500 MB on disk"
DEV_SIZE = "about 70 packages, 140 MB to download, 650 MB on disk"
NO_CPU_TORCH = (
    f"No CPU build of torch could be had: make {TORCH_CPU_INDEX} reachable, "
    "or accept what pip takes (on Linux mostly a GPU build, several GB) with TORCH=pip."
)


class SetupError(Exception):
    """Set-up cannot continue. The message is one sentence that says what to do."""


class Environment:
    """A virtual environment and the pip inside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        scripts = "Scripts" if os.name == "nt" else "bin"
        self.python = path / scripts / "python"
        self.log = path / "setup.log"

    def create(self) -> None:
        """Makes the environment unless a working one is there.

        Raises:
            SetupError: it cannot be made, or something else is in its place.
        """
        if not self._works():
            self._make_afresh()
        self.log.write_text("", encoding="utf-8")
        self.pip("install", "pip>=25.1")  # the first with --group

    def _make_afresh(self) -> None:
        if self.path.exists() and not (self.path / "pyvenv.cfg").exists():
            message = f"{self.path} is not a virtual environment: set VENV to another folder."
            raise SetupError(message)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", self.path], check=True)
        except subprocess.CalledProcessError as error:
            message = f"{sys.executable} cannot create {self.path}: see its output above."
            raise SetupError(message) from error

    def _works(self) -> bool:
        try:
            finished = subprocess.run(
                [self.python, "-m", "pip", "--version"], capture_output=True, check=False
            )
        except OSError:
            return False
        return finished.returncode == 0

    def pip(self, *arguments: str) -> None:
        """Runs pip, showing only its large downloads; the whole output goes to the log.

        Raises:
            SetupError: pip failed; the message begins with its last lines.
        """
        with self._start_pip(*arguments) as process, self.log.open("a", encoding="utf-8") as log:
            lines = []
            for line in process.stdout or ():
                log.write(line)
                lines.append(line)
                if download := LARGE_DOWNLOAD.match(line):
                    say(f"  {download[1]} {download[2]} ({download[3]})")
        if process.returncode:
            message = f"pip failed: see its last lines above, or all of them in {self.log}."
            raise SetupError("".join(lines[-15:]) + message)

    def _start_pip(self, *arguments: str) -> subprocess.Popen[str]:
        quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
        return subprocess.Popen(
            [self.python, "-m", "pip", "--no-input", *arguments],
            env=os.environ | quiet | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def torch_version(self) -> str | None:
        """The installed torch's version, "2.13.0+cpu" for instance, or None without torch."""
        ask = "import importlib.metadata as m; print(m.version('torch'))"
        finished = subprocess.run(
            [self.python, "-c", ask], capture_output=True, check=False, text=True
        )
        return finished.stdout.strip() if finished.returncode == 0 else None


def pinned_torch_version() -> str:
    """The version in constraints.txt.

    Raises:
        SetupError: constraints.txt pins no torch.
    """
    pin = re.search(r"^torch==(\S+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    if pin is None:
        message = f"{CONSTRAINTS} has no line torch==VERSION: add one."
        raise SetupError(message)
    return pin[1]


def install_torch(environment: Environment, source: str) -> None:
    """Installs the pinned torch from ``source`` ("auto", "cpu" or "pip") if it is missing.

    Raises:
        SetupError: no acceptable build can be had.
    """
    version = pinned_torch_version()
    installed, _, build = (environment.torch_version() or "").partition("+")
    if installed == version and (source != "cpu" or build == "cpu" or not PLAIN_IS_GPU):
        return
    if source == "pip":
        say(f"Getting pip's default torch {version} (on Linux usually a GPU build of several GB).")
        environment.pip("install", "-c", str(CONSTRAINTS), f"torch=={version}")
    else:
        say(f"Getting the CPU build of torch {version} ({TORCH_SIZE}).")
        install_cpu_torch(environment, version, source)


def install_cpu_torch(environment: Environment, version: str, source: str) -> None:
    """Installs torch alone, from the usual index unless ``source`` is "cpu", else PyTorch's own.

    On Linux it asks for the local version "+cpu": PyPI accepts no local versions, so only a
    mirror, a folder of wheels or PyTorch's index can answer, and a GPU build is refused before
    a byte of it is downloaded. (``pip install --dry-run`` downloads it where the index serves
    no separate metadata.)

    Raises:
        SetupError: nobody has this build.
    """
    wanted = f"torch=={version}+cpu" if PLAIN_IS_GPU else f"torch=={version}"
    if source == "auto":
        try:
            environment.pip("install", "--no-deps", wanted)
        except SetupError:
            say(f"The package index has no such build, trying {TORCH_CPU_INDEX}.")
        else:
            return
    patience = ("--retries", "2", "--timeout", "30")
    try:
        environment.pip("install", "--no-deps", *patience, "--index-url", TORCH_CPU_INDEX, wanted)
    except SetupError as error:
        raise SetupError(NO_CPU_TORCH) from error


def install_s3_server(environment: Environment) -> None:
    """Installs the S3 server of the tests beside the environment's packages.

    Among them its boto3 would be imported by whatever imports securesystemslib: a fifth of a
    second in each of the hundreds of processes that the tests start.

    Raises:
        SetupError: it could not be installed.
    """
    folder, group = environment.path / "s3-server", f"{ROOT / 'pyproject.toml'}:s3-server"
    shutil.rmtree(folder, ignore_errors=True)
    environment.pip("install", "-c", str(CONSTRAINTS), "--target", str(folder), "--group", group)


def say(text: str) -> None:
    """Prints a line of progress and flushes it, so that it appears at once in a pipe too."""
    print(text, flush=True)


def set_up(environment: Environment, *, development: bool, torch_source: str) -> None:
    """Brings the environment up to date and stamps it, so that make knows.

    Raises:
        SetupError: something could not be installed.
    """
    say(f"Setting up {environment.path}: {DEV_SIZE if development else RUN_SIZE}, and torch.")
    environment.create()
    install_torch(environment, torch_source)
    say("Getting the other packages.")
    group = ["--group", f"{ROOT / 'pyproject.toml'}:dev"] if development else []
    environment.pip("install", "-c", str(CONSTRAINTS), *group, "--editable", f"{ROOT}[all]")
    if development:
        install_s3_server(environment)
    for stamp in (".stamp-all", ".stamp-dev") if development else (".stamp-all",):
        (environment.path / stamp).touch()
    say(f"{environment.path} is ready.")


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Build Pleb-Cluster's virtual environment.")
    parser.add_argument("venv", type=Path, help="the environment's folder")
    parser.add_argument("--dev", action="store_true", help="add what tests and checks need")
    parser.add_argument(
        "--torch",
        choices=("auto", "cpu", "pip"),
        default="auto",
        help="auto: any CPU build; cpu: PyTorch's own CPU index; pip: pip's default",
    )
    arguments = parser.parse_args()
    try:
        set_up(
            Environment(arguments.venv.absolute()),
            development=arguments.dev,
            torch_source=arguments.torch,
        )
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
