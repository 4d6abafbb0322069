"""The student of an ensemble: an ordinary project whose base is the members."""

from __future__ import annotations

import shutil
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import log_softmax, softmax

from pleb_project.check.draft import make_draft
from pleb_project.check.researcher_code import load_code
from pleb_project.definition.load import load_definition
from pleb_project.family.distilling import STUDENT, write_student
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.errors import InputError
from tests.e2e.world import PROJECTS

SETTINGS = (f"model.file={STUDENT}", "ensemble.members=1", "training.versions=9")


@pytest.fixture
def folder(tmp_path):
    """Return a project's folder with the weights of two members."""
    found = tmp_path / "pair"
    shutil.copytree(PROJECTS / "tiny", found)
    with (found / "project.toml").open("a") as file:
        file.write("\n[ensemble]\nmembers = 2\n")
    (found / "members").mkdir()
    section = load_definition(found).model
    for seed in (3, 4):
        member = load_code(msgspec.structs.replace(section, seed=seed), found).model
        save_file(dict(member.state_dict()), found / "members" / f"pair-{seed}.safetensors")
    return found


def test_only_the_student_is_trained_and_by_what_the_members_say(folder, tmp_path):
    write_student(load_definition(folder), scores=True)
    definition = load_definition(folder, SETTINGS)
    draft = make_draft(definition, BlobFolder(tmp_path / "blobs"))
    model = draft.metadata.model
    assert {spec.name.partition(".")[0] for spec in model.parameters} == {"student"}
    teachers = {name.partition(".0.")[0] for name in (spec.name for spec in model.base_tensors)}
    assert any(name.startswith("teacher.members") for name in teachers)

    code = load_code(definition.model, folder)
    x, y = torch.randint(0, 16, (6, 8, 8)).float(), torch.randint(0, 10, (6,))
    lesson: Any = code.model
    found = code.loss(lesson, {"x": x, "y": y})
    scores = [member(x / 16) for member in lesson.teacher.members]
    wanted = torch.stack(scores).mean(0)
    ours = log_softmax(lesson.student(x / 16), -1)
    kl = (softmax(wanted, -1) * (log_softmax(wanted, -1) - ours)).sum(-1).mean()
    assert torch.allclose(found, kl, atol=1e-5)
    found.backward()
    assert all(one.grad is not None for one in lesson.student.parameters())
    assert all(one.grad is None for one in lesson.teacher.parameters())
    lesson.train()
    assert not lesson.teacher.training


def test_values_are_learnt_by_their_squared_distance(folder):
    write_student(load_definition(folder, ("ensemble.average='probabilities'",)), scores=False)
    text = (folder / STUDENT).read_text("utf-8")
    assert 'AVERAGE = "probabilities"' in text
    assert "SCORES = False" in text
    code = load_code(load_definition(folder, SETTINGS).model, folder)
    x = torch.randint(0, 16, (6, 8, 8)).float()
    lesson: Any = code.model
    found = code.loss(lesson, {"x": x, "y": torch.zeros(6, dtype=torch.int64)})
    wanted = lesson.teacher(x / 16)
    assert torch.allclose(found, ((lesson.student(x / 16) - wanted) ** 2).mean(), atol=1e-5)


def test_a_model_that_cannot_be_imported_by_its_name_is_refused(folder):
    (folder / "model.py").rename(folder / "my-model.py")
    definition = load_definition(folder, ("model.file=my-model.py",))
    with pytest.raises(InputError, match=r"like model\.py"):
        write_student(definition, scores=True)
