"""Packs a torch runtime: what a frozen agent's worker imports beside the agent itself.

    python -m installers.build.build_runtime --out dist                       CPU, as pinned
    python -m installers.build.build_runtime --out dist --kind cu130 \
        --index https://download.pytorch.org/whl/cu130                        a GPU's: gigabytes
    python -m installers.build.build_runtime --out dist --installed           this environment's

Writes `KIND-PLATFORM-pyVERSION-torchVERSION.tar.xz` and, beside it, `.json` with the facts that
`repository.py add` signs together with the archive. It must be made with the same Python as the
agent. Byte code is packed too, for a frozen agent writes none: without it torch starts in 20 s.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

from installers.build.archive import pack
from installers.build.requirements import closure
from pleb_agent.program.installed import platform_tag, python_tag

__all__ = ["build_runtime", "collect_installed", "needed_distributions"]

ROOT: Final = Path(__file__).resolve().parents[2]
WANTED: Final = ("torch", "numpy", "safetensors")
NOT_RUN: Final = frozenset({"setuptools", "triton"})
"""torch requires them to compile extensions and graphs, which no worker does."""
NO_PACKAGES: Final = re.compile(
    r"(^|/)(__pycache__|tests?)(/|$)"
    r"|^torch/(include|share|test)/|^torch/bin/(?!torch_shm_manager)|^functorch/"
    r"|\.(a|lib|h|hpp|cuh|pyi|cmake)$|^\.\.|^bin/|^(setuptools|_distutils_hack|pkg_resources)/"
    r"|^triton(-[^/]*)?/"
    r"|^nvidia/.*/(libnvperf_\w+|libnvrtc(-builtins)?\.alt|libnvblas|libcheckpoint"
    r"|libpcsamplingutil|nvshmem_(bootstrap|transport)_\w+)\.so[^/]*$"
)
"""Tests, headers and compilers: a third of torch's size, which training never reads. Of a build for
NVIDIA's cards also Triton, a second copy of its compiler, and what profiles or joins several cards.
"""


def build_runtime(site: Path, kind: str, out: Path, *, suffix: str, level: int) -> Path:
    """Pack the packages in the folder `site`; return the archive."""
    torch = _version_in(site, "torch")
    public = torch.partition("+")[0]  # a plus sign in an address means a space to some servers
    name = f"{kind}-{platform_tag()}-py{python_tag()}-torch{public}"
    compileall.compile_dir(
        site, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH, workers=0
    )
    out.mkdir(parents=True, exist_ok=True)
    archive = out / f"{name}{suffix}"
    packed = pack(site, archive, level=level)
    facts = {
        "what": "runtime",
        "kind": kind,
        "python": python_tag(),
        "torch": torch,
        "platform": platform_tag(),
        "unpacked_bytes": packed.unpacked_bytes,
        "files": packed.files,
    }
    (out / f"{archive.name}.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return archive


def collect_installed(site: Path) -> None:
    """Copy the wanted packages and what they need from this environment to `site`."""
    for name in sorted(needed_distributions()):
        for file in importlib.metadata.distribution(name).files or ():
            relative = file.as_posix()
            source = Path(str(file.locate()))
            if NO_PACKAGES.search(relative) or not source.is_file():
                continue
            target = site / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(source.stat().st_mode)


def needed_distributions() -> set[str]:
    """Return the names of the wanted distributions and all that they require."""
    return closure(WANTED) - NOT_RUN


def download(site: Path, index: str, scratch: Path) -> None:
    """Let pip fetch the pinned versions from `index` to `site`."""
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    torch = re.search(r"^torch==(\S+)$", pinned, re.MULTILINE)
    if torch is None:
        raise SystemExit("constraints.txt pins no torch: add a line torch==VERSION.")
    everything = scratch / "everything"
    pip = [sys.executable, "-m", "pip", "install", "--target", str(everything), "--upgrade"]
    exact = ["--only-binary=:all:", "--constraint", str(ROOT / "constraints.txt")]
    # torch's own index has all that torch needs; a second index would allow dependency confusion.
    subprocess.run([*pip, *exact, "--index-url", index, f"torch=={torch[1]}"], check=True)
    subprocess.run([*pip, *exact, "--no-deps", *WANTED[1:]], check=True)
    for source in sorted(everything.rglob("*")):
        relative = source.relative_to(everything).as_posix()
        if source.is_file() and not NO_PACKAGES.search(relative):
            (site / relative).parent.mkdir(parents=True, exist_ok=True)
            source.rename(site / relative)


def _version_in(site: Path, name: str) -> str:
    found = [
        item for item in importlib.metadata.distributions(path=[str(site)]) if item.name == name
    ]
    if not found:
        raise SystemExit(f"There is no {name} in {site}.")
    return found[0].version


def main() -> None:
    """Read the command line, pack, and print the archive's path."""
    parser = argparse.ArgumentParser(description="Pack a torch runtime.")
    parser.add_argument("--out", type=Path, default=Path("dist"))
    parser.add_argument("--kind", default="cpu", help="cpu, or a GPU's: cu130, rocm7.1")
    parser.add_argument("--index", default="https://download.pytorch.org/whl/cpu")
    parser.add_argument("--installed", action="store_true", help="pack this environment's torch")
    parser.add_argument("--suffix", choices=(".tar.xz", ".tar.gz"), default=".tar.xz")
    parser.add_argument("--level", type=int, default=6, help="of the compression, 0 to 9")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pleb-runtime-") as scratch:
        site = Path(scratch, "site")
        if arguments.installed:
            collect_installed(site)
        else:
            download(site, arguments.index, Path(scratch))
        print(
            build_runtime(
                site,
                arguments.kind,
                arguments.out,
                suffix=arguments.suffix,
                level=arguments.level,
            )
        )


if __name__ == "__main__":
    main()
