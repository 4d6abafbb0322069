"""What an ensemble gains where there is little data: its average against its best member.

Eight byte GPTs of 119,104 parameters read the first 150 kB of tinyshakespeare (or of the text that
`benchmarks learning` takes), each as a project of its own that differs in its initial weights and
in the order of its data, and that is trained by the product's units, codec and outer step. All are
measured on the same holdout, and so is the mean of their scores, by the same evaluation graph.

`below_best_percent` is how far the average's loss lies below that of the best member. With
`half` every member reads another half of the shards. `distilled` is the loss of one model that is
trained in as many steps by what all members predict on the average, and `kept_percent` how much of
the ensemble's gain over its best member it keeps.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

import torch

from benchmarks.in_process import on_holdout, train_in_rounds
from benchmarks.lora import text_to_learn
from pleb_project.check.draft import make_draft
from pleb_project.definition.load import load_definition
from pleb_project.family.distilling import STUDENT, write_student
from pleb_project.family.evaluating import evaluate_average
from pleb_project.family.members import as_member, members_of, shards_of
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.tensors.layout import load_tensors, save_tensors

if TYPE_CHECKING:
    from pleb_project.check.draft import Draft
    from pleb_project.definition.sections import ProjectDefinition

TEXT_BYTES: Final = 150_000
MODEL: Final = Path(__file__).with_name("learning_model.py")


def main(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    shares = {"all": 1.0} if quick else {"all": 1.0, "half": 0.5}
    members, versions = (2, 2) if quick else (8, 24)
    with tempfile.TemporaryDirectory(prefix="pleb-ensemble-") as name:
        text = Path(name) / "text.txt"
        text.write_text(text_to_read(), "utf-8")
        return {
            key: measure(Path(name) / key, text, members, versions, share)
            for key, share in shares.items()
        }


def member_draft(draft: Draft, whole: ProjectDefinition, blobs: BlobFolder) -> Draft:
    """Return the draft of a member as `publish` would send it."""
    metadata = as_member(draft.metadata, whole, blobs)
    shards = shards_of(metadata, blobs)
    dataset = dataclasses.replace(draft.dataset, spec=metadata.data, shards=shards)
    return dataclasses.replace(draft, metadata=metadata, dataset=dataset)


def text_to_read() -> str:
    """Return the beginning of the text, at most `TEXT_BYTES` characters."""
    named = os.environ.get("TINYSHAKESPEARE")
    return (Path(named).read_text("utf-8") if named else text_to_learn())[:TEXT_BYTES]


def measure(
    folder: Path, text: Path, members: int, versions: int, share: float
) -> dict[str, float]:
    """Return the losses of the members, of the averages of 2, 4, ..., and the gain."""
    folder.mkdir()
    # As the benchmark's model draws the same weights every time, so that it can be compared.
    source = MODEL.read_text("utf-8").replace("    torch.manual_seed(0)\n", "")
    (folder / "model.py").write_text(source, "utf-8")
    (folder / "project.toml").write_text(
        f"""
        [project]
        name = "ensemble"
        [data]
        source = "text"
        files = ["{text}"]
        window = 64
        [model]
        arguments = {{ width = 64 }}
        [training]
        batch = 8
        versions = {versions}
        [round]
        units = 4
        [ensemble]
        members = {members}
        shards = {share}
        """,
        "utf-8",
    )
    whole = load_definition(folder)
    blobs, definitions = BlobFolder(folder / "blobs"), members_of(whole)
    files, losses, last = [], [], make_draft(definitions[0], blobs).metadata
    for definition in definitions:
        started = time.monotonic()
        draft = member_draft(make_draft(definition, blobs), whole, blobs)
        version = train_in_rounds(draft, blobs)
        losses.append(on_holdout(draft, blobs, version)["loss"])
        files.append(folder / f"{definition.project.name}.safetensors")
        files[-1].write_bytes(save_tensors(version))
        seconds = time.monotonic() - started
        print(f"{definition.project.name}: loss {losses[-1]:.4f} ({seconds:.0f} s)", flush=True)
        last = draft.metadata
    holdout = [load_tensors(blobs.get(shard.digest)) for shard in shards_of(last, blobs).holdout]

    def averaged(count: int, of: str = "outputs") -> float:
        return evaluate_average(whole.model, folder, files[:count], last, holdout, of)["loss"]

    loss = averaged(members)
    started = time.monotonic()
    distilled = distil(folder, files)
    print(f"distilled: loss {distilled:.4f} ({time.monotonic() - started:.0f} s)", flush=True)
    best = min(losses)
    return {
        "best_member": min(losses),
        "mean_member": mean(losses),
        "worst_member": max(losses),
        "average": loss,
        "average_of_probabilities": averaged(members, "probabilities"),
        **{f"average_of_{count}": averaged(count) for count in (2, 4) if count < members},
        "below_best_percent": 100 * (1 - loss / best),
        "distilled": distilled,
        "kept_percent": 100 * (best - distilled) / (best - loss),
    }


def distil(folder: Path, files: list[Path]) -> float:
    """Return the loss of a student that is trained as the members were, by what they predict."""
    (folder / "members").mkdir()
    for file in files:
        shutil.copyfile(file, folder / "members" / file.name)
    write_student(load_definition(folder), scores=True)
    settings = (f"model.file={STUDENT}", "ensemble.members=1")
    blobs = BlobFolder(folder / "student")
    draft = make_draft(load_definition(folder, settings), blobs)
    return on_holdout(draft, blobs, train_in_rounds(draft, blobs))["loss"]
