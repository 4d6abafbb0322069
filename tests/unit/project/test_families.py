"""Members of a family: what each has of its own, what they share, and their average."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn
from torch.nn.functional import softmax

from pleb_project.definition.load import parse_definition
from pleb_project.definition.places import DefinitionError
from pleb_project.family.averaged import Averaged
from pleb_project.family.members import as_member, members_of, same_beginnings, shards_of
from pleb_project.family.rungs import early_rungs
from pleb_project.readers.blobs import BlobFolder
from pleb_project.server.records import Home, ProjectRecord
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.project import Family, Shard, ShardList
from tests.conformance.example_metadata import example_metadata

TEXT = '[project]\nname = "nine"\n\n[data]\nsource = "sklearn:digits"\n'
KEY = "58" + 31 * "66"


def ensemble(members, shards=1.0, text=TEXT):
    section = f"[ensemble]\nmembers = {members}\nshards = {shards}\n"
    return parse_definition(text + section, Path("p/project.toml"))


def drafts(definition, tmp_path, shards=10):
    """Return what each member publishes of a project with so many shards."""
    blobs = BlobFolder(tmp_path)
    train = [Shard(digest=f"{n:064x}", size=1, examples=1) for n in range(shards)]
    held = [Shard(digest="f" * 64, size=1, examples=1)]
    listed = blobs.put(strict_json.encode(ShardList(train=train, holdout=held)))
    draft = example_metadata(KEY)
    draft = msgspec.structs.replace(draft, data=msgspec.structs.replace(draft.data, shards=listed))
    found = []
    for member in members_of(definition):
        named = msgspec.structs.replace(draft, project=member.project.name)
        metadata = as_member(named, definition, blobs)
        numbers = [int(shard.digest, 16) for shard in shards_of(metadata, blobs).train]
        assert shards_of(metadata, blobs).holdout == held
        found.append((metadata, numbers))
    return found


def test_members_differ_in_name_and_seed():
    members = members_of(ensemble(3))
    assert [one.project.name for one in members] == ["nine-1", "nine-2", "nine-3"]
    assert [one.project.title for one in members][:1] == ["nine, member 1 of 3"]
    assert [one.model.seed for one in members] == [0, 1, 2]
    assert members[0].data == members[2].data
    plain = parse_definition(TEXT, Path("p/project.toml"))
    assert members_of(plain) == [plain]
    assert [one.project.name for one in members_of(ensemble(1))] == ["nine"]


def test_all_members_read_all_shards_unless_they_have_shares(tmp_path):
    for metadata, numbers in drafts(ensemble(3), tmp_path):
        assert sorted(numbers) == list(range(10))
        assert metadata.family == Family(
            name="nine", kind="ensemble", members=["nine-1", "nine-2", "nine-3"]
        )
    halves = [numbers for _, numbers in drafts(ensemble(2, 0.5), tmp_path)]
    assert halves == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    overlapping = [numbers for _, numbers in drafts(ensemble(2, 0.7), tmp_path)]
    assert overlapping == [[0, 1, 2, 3, 4, 5, 6], [5, 6, 7, 8, 9, 0, 1]]
    assert [len(numbers) for _, numbers in drafts(ensemble(8, 0.01), tmp_path)] == [1] * 8


def test_an_ensemble_of_one_is_a_project(tmp_path):
    [(metadata, numbers)] = drafts(ensemble(1, 0.5), tmp_path)
    assert (metadata.family, len(numbers)) == (None, 10)


def test_a_name_that_leaves_no_room_for_numbers_is_refused():
    with pytest.raises(DefinitionError, match="at most 37 characters"):
        ensemble(2, text=TEXT.replace("nine", "n" * 38))
    assert ensemble(2, text=TEXT.replace("nine", "n" * 37)).ensemble


def test_equal_beginnings_are_noticed():
    one = example_metadata(KEY)
    model = msgspec.structs.replace(one.model, initial_digest="1" * 64)
    other = msgspec.structs.replace(one, model=model)
    assert same_beginnings([one, other]) == ""
    assert "without setting a seed" in same_beginnings([one, other, one])


class Pair(nn.Module):
    """Returns a tuple, a dictionary in it, and a list, as models may."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor):
        return x * self.factor, {"twice": x * 2 * self.factor}, [x + self.factor]


def test_the_average_has_the_form_of_what_members_return():
    x = torch.arange(6.0).reshape(2, 3)
    first, named, listed = Averaged([Pair(1.0), Pair(3.0)])(x)
    assert torch.equal(first, 2 * x)
    assert torch.equal(named["twice"], 4 * x)
    assert torch.equal(listed[0], x + 2)


def test_probabilities_are_averaged_as_such():
    members = [nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 3)]
    x = torch.randn(5, 4)
    wanted = torch.stack([softmax(member(x), -1) for member in members]).mean(0)
    found = Averaged(members, "probabilities")(x)
    assert torch.allclose(softmax(found, -1), wanted, atol=1e-6)
    assert torch.allclose(found.exp(), wanted, atol=1e-6)


def test_what_has_no_mean_is_refused():
    with pytest.raises(TypeError, match=r"torch\.int64"):
        Averaged([nn.Flatten(), nn.Flatten()])(torch.ones(2, 2, dtype=torch.int64))


def test_a_home_finds_the_members_of_a_family_in_their_order(tmp_path):
    home = Home(tmp_path)
    link = f"https://example.org/join/NAME#{'a' * 64}"
    for name in ("nine-10", "nine-9", "other"):
        family = "nine" if name != "other" else ""
        home.remember(
            ProjectRecord(project=name, attach_link=link.replace("NAME", name), family=family)
        )
    assert [found.project for found in home.find_all("nine")] == ["nine-9", "nine-10"]
    assert [found.project for found in home.find_all("other")] == ["other"]
    assert [found.project for found in home.find_all("nine-9")] == ["nine-9"]


SWEEP = """
[model]
arguments = { depth = 1 }
[training]
versions = 9
[sweep]
grid = { "training.learning_rate" = [0.01, 0.02], "model.arguments.width" = [8, 16, 32] }
rungs = [2, 4]
"""


def sweep(text=SWEEP, *overrides):
    return parse_definition(TEXT + text, Path("p/project.toml"), overrides)


def test_every_combination_is_a_trial_with_its_settings(tmp_path):
    found = sweep(SWEEP, "training.batch=7")
    members = members_of(found)
    assert [one.project.name for one in members] == [f"nine-{n}" for n in range(1, 7)]
    assert members[4].project.title == "nine, trial 5 of 6"
    assert {one.training.batch_examples for one in members} == {7}
    assert [(one.training.learning_rate, one.model.arguments["width"]) for one in members] == [
        (0.01, 8),
        (0.01, 16),
        (0.01, 32),
        (0.02, 8),
        (0.02, 16),
        (0.02, 32),
    ]
    assert {one.model.arguments["depth"] for one in members} == {1}
    assert {one.model.seed for one in members} == {0}
    families = [metadata.family for metadata, _ in drafts(found, tmp_path)]
    first = families[0]
    assert first is not None
    assert first.settings == {"training.learning_rate": "0.01", "model.arguments.width": "8"}
    assert [(rung.version, rung.keep) for rung in first.rungs] == [(2, 3), (4, 2)]
    assert {(one.name, one.kind) for one in families if one} == {("nine", "sweep")}


@pytest.mark.parametrize(
    ("momentum", "first", "warns"),
    [(0.7, 3, True), (0.7, 4, False), (0.9, 9, True), (0.9, 10, False), (0.0, 1, False)],
)
def test_rungs_before_the_outer_momentum_has_built_up_are_warned_of(momentum, first, warns):
    text = SWEEP.replace("versions = 9", "versions = 20").replace("[2, 4]", f"[{first}]")
    said = early_rungs(sweep(text, f"outer.momentum={momentum}"))
    assert bool(said) == warns
    assert not warns or f"after version {first}" in said


def test_without_rungs_or_trials_none_is_early():
    assert early_rungs(sweep(SWEEP.replace("rungs = [2, 4]", ""))) == ""
    assert early_rungs(sweep("")) == ""


WRONG_SWEEPS = {
    "another section": ('grid = { "data.seed" = [1, 2] }', "no setting that trials may differ in"),
    "no section": ('grid = { "batch" = [1, 2] }', "no setting that trials may differ in"),
    "no list": ('grid = { "training.batch" = 3 }', "grid must be a table"),
    "no values": ('grid = { "training.batch" = [] }', "has no values"),
    "one trial": ('grid = { "training.batch" = [3] }', "makes 1 trials"),
    "a wrong value": ('grid = { "training.batch" = [3, 0] }', "training.batch=0 is refused"),
    "no such key": ('grid = { "training.bath" = [3, 4] }', "did you mean 'batch'"),
    "rungs": ('grid = { "training.batch" = [3, 4] }\nrungs = [4, 2]', "ascending"),
    "late rungs": ('grid = { "training.batch" = [3, 4] }\nrungs = [40]', "below versions"),
    "no rungs": ('grid = { "training.batch" = [3, 4] }\nrungs = ["a"]', "list of whole numbers"),
}


@pytest.mark.parametrize("case", WRONG_SWEEPS)
def test_a_sweep_that_cannot_be_is_refused_with_its_place(case):
    lines, said = WRONG_SWEEPS[case]
    with pytest.raises(DefinitionError) as caught:
        sweep(f"[sweep]\n{lines}\n")
    assert said in caught.value.sentence
    assert caught.value.place.line >= 6


def test_an_ensemble_of_a_sweep_is_refused():
    with pytest.raises(DefinitionError, match="an ensemble or a sweep"):
        sweep(SWEEP + "[ensemble]\nmembers = 2\n")
