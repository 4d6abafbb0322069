"""`check` on good and bad projects: the researcher's own code, real processes, no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pleb_project.check.draft import make_draft
from pleb_project.check.learning import dry_run, train_centrally
from pleb_project.check.run import check_json, check_project, check_rows, chunk_figures
from pleb_project.cli import main
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.errors import InputError, PlebError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import AdamW, Muon
from pleb_system.exit_codes import ExitCode

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

PROJECT = """
[project]
name = "small"

[data]
source = "sklearn:digits"

[training]
optimizer = "{optimizer}"
learning_rate = {rate}
local_steps = {steps}
"""

MODEL = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy

def model(width=16):
    hidden = [nn.Linear(64, width), nn.{activation}()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))

def loss(model, batch):
    return cross_entropy(model(batch["x"]), batch["y"])

def evaluate(model, batch):
    return {{"loss": loss(model, batch)}}
"""


def write(folder, *, model=None, extra="", activation="SiLU", **training):
    values = {"optimizer": "adamw", "rate": 0.01, "steps": 10} | training
    (folder / "project.toml").write_text(PROJECT.format(**values) + extra)
    (folder / "model.py").write_text(model or MODEL.format(activation=activation))


def written(folder, **changes):
    """Write a project and return its definition."""
    write(folder, **changes)
    return load_definition(folder)


@pytest.fixture
def blobs(tmp_path):
    return BlobFolder(tmp_path / "blobs")


def test_the_digits_example_passes(blobs):
    outcome = check_project(load_definition(EXAMPLES / "digits"), blobs, lambda _: None)
    assert outcome.passed
    assert outcome.warnings == ()
    assert outcome.learning.metrics_after["accuracy"] > 0.8
    verification = outcome.metadata.verification
    assert verification.comparable
    assert 0 < verification.tolerance <= verification.tolerance_ceiling < outcome.tolerance.noise


def test_chunks_are_measured_beside_the_whole_model(blobs):
    settings = ('limits.chunks=["layers:4.*", "width:1/2"]', "training.local_steps=5")
    definition = load_definition(ROOT / "tests" / "e2e" / "projects" / "tiny", settings)
    outcome = check_project(definition, blobs, lambda _: None, cpu_seconds=5)
    layers, narrower = sorted(chunk_figures(outcome), key=lambda chunk: chunk.name)
    assert (layers.name, layers.parameters) == ("layers:4.*", 330)
    assert (narrower.name, narrower.parameters) == ("width:1/2", 64 * 16 + 16 + 160 + 10)
    for chunk in (layers, narrower):
        assert chunk.memory_share < 1
        assert chunk.flops_share < 1
        assert chunk.seconds_per_unit > 0
    assert [chunk.name for chunk in outcome.metadata.chunks] == ["width:1/2", "layers:4.*"]
    assert outcome.metadata.calibration.chunk == "layers:4.*"
    shown = dict(check_rows(outcome))
    assert "330 parameters" in shown["chunk layers:4.*"]
    assert [chunk["name"] for chunk in check_json(outcome)["chunks"]] == ["width:1/2", "layers:4.*"]


def test_the_command_prints_one_json_object(tmp_path, capsys):
    write(tmp_path)
    assert main(["check", str(tmp_path), "--home", str(tmp_path / "home"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["parameters"]) == (True, 1210)
    assert found["upload_bytes"] < found["parameters"]


def test_a_loss_that_rises_is_a_fault(tmp_path, blobs, capsys):
    # A warm-up over all steps: the last ones are the wildest, whichever examples they get.
    write(tmp_path, optimizer="sgd", rate=300.0, extra="warmup_steps = 1000\n")
    home = str(tmp_path / "home")
    code = main(["check", str(tmp_path), "--home", home, "--json"])
    captured = capsys.readouterr()
    assert code == ExitCode.FAULT_FOUND or "became" in captured.err


DRIFTING = """
from torch import nn
from torch.nn.functional import cross_entropy

def model():
    layers = [nn.Unflatten(1, (1, 8))]
    for before, after in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10))

def loss(model, batch):
    return cross_entropy(model(batch["x"]), batch["y"])

def evaluate(model, batch):
    return {"loss": loss(model, batch)}
"""


def test_a_model_that_drifts_passes_in_strict_numerics_which_the_check_chooses(tmp_path, blobs):
    definition = written(tmp_path, model=DRIFTING, rate=0.005, steps=120)
    outcome = check_project(definition, blobs, lambda _: None)
    assert outcome.passed
    verification = outcome.metadata.verification
    assert (verification.numerics, verification.comparable) == ("strict", True)
    assert outcome.tolerance.honest == 0.0
    assert verification.tolerance_ceiling < outcome.tolerance.noise
    assert "the project runs in strict numerics" in " ".join(outcome.warnings)


def test_a_model_that_drifts_and_must_not_be_strict_is_refused_with_what_was_tried(tmp_path, blobs):
    extra = '[verification]\nnumerics = "native"\n'
    definition = written(tmp_path, model=DRIFTING, rate=0.005, steps=120, extra=extra)
    outcome = check_project(definition, blobs, lambda _: None)
    assert not outcome.passed
    verification = outcome.metadata.verification
    assert (verification.numerics, verification.comparable) == ("native", False)
    told = " ".join(outcome.warnings)
    assert "cannot be distinguished from rounding" in told
    assert 'numerics = "strict" in [verification] helps: honest results then differ by 0' in told


def test_the_same_project_gives_the_same_blobs(tmp_path, blobs):
    definition = written(tmp_path)
    first = make_draft(definition, blobs)
    second = make_draft(definition, BlobFolder(tmp_path / "again"))
    assert first.metadata == second.metadata


def test_options_reach_the_metadata(tmp_path, blobs):
    extra = 'beta1 = 0.8\n[codec]\nup = "int8"\n[round]\nunits = 8\n[limits]\nmemory_mb = 512\n'
    metadata = make_draft(written(tmp_path, extra=extra), blobs).metadata
    assert metadata.training.optimizer == AdamW(beta1=0.8)
    assert (metadata.codec.up, metadata.round.quorum) == ("int8", 6)
    assert metadata.limits.memory_bytes == 512 * 2**20


def test_a_warm_start_has_no_more_steps_than_a_unit_may_have(tmp_path, blobs):
    extra = "warm_start_versions = 1\n[round]\nunits = 64\n"
    training = make_draft(written(tmp_path, steps=3000, extra=extra), blobs).metadata.training
    assert training.warm_start_batches == LIMITS.local_steps // 3000


def test_matrices_may_be_named_by_pattern(tmp_path, blobs):
    extra = 'matrices = ["1.*"]\n'
    optimizer = make_draft(
        written(tmp_path, optimizer="muon", extra=extra.replace("1.*", "1.w*")), blobs
    ).metadata.training.optimizer
    assert optimizer == Muon(matrices=["1.weight"])
    with pytest.raises(InputError, match=r"matrices .* no parameter"):
        make_draft(written(tmp_path, optimizer="muon", extra='matrices = ["7.*"]\n'), blobs)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("x = 1\n", r"has no function `model`: write `def model"),
        ("def model(:\n", r"model\.py:1 failed: SyntaxError"),
        ("import nothing_like_it\n", r"model\.py:1 failed: ModuleNotFoundError"),
        (
            "def model():\n    raise KeyError('w')\ndef loss(): ...\ndef evaluate(): ...\n",
            r"model\.py:2 failed: KeyError",
        ),
        (
            "def model():\n    return 3\ndef loss(): ...\ndef evaluate(): ...\n",
            "returned a int, not a torch.nn.Module",
        ),
    ],
)
def test_a_bad_model_file_is_explained(tmp_path, blobs, model, sentence):
    with pytest.raises(InputError, match=sentence):
        make_draft(written(tmp_path, model=model), blobs)


def test_an_operator_that_is_not_allowed_is_named(tmp_path, blobs):
    model = MODEL.format(activation="SiLU").replace(
        'return cross_entropy(model(batch["x"])',
        'return torch.linalg.svd(batch["x"])[1].sum() + cross_entropy(model(batch["x"])',
    )
    with pytest.raises(PlebError, match="svd"):
        make_draft(written(tmp_path, model=model), blobs)


def test_a_last_batch_without_finite_metrics_is_refused_with_a_batch_that_fits(tmp_path, blobs):
    """One example has no variance; the holdout has 180 of the digits."""
    spread = MODEL.format(activation="SiLU").replace(
        '"loss": loss(model, batch)',
        '"loss": loss(model, batch), "spread": model(batch["x"]).var(0).mean()',
    )
    extra = "[evaluation]\nbatch = {}\n"
    with pytest.raises(InputError, match=r"last batch has 1, .* nan as 'spread'.* batch = 180 "):
        make_draft(written(tmp_path, model=spread, extra=extra.format(179)), blobs)
    make_draft(written(tmp_path, model=spread, extra=extra.format(180)), blobs)


def test_a_missing_model_file(tmp_path, blobs):
    definition = written(tmp_path)
    (tmp_path / "model.py").unlink()
    with pytest.raises(InputError, match="does not exist"):
        make_draft(definition, blobs)


def test_arguments_reach_the_model(tmp_path, blobs):
    draft = make_draft(written(tmp_path, extra="[model]\narguments = { width = 8 }\n"), blobs)
    assert draft.exported.model.parameters[0].shape == [8, 64]


def test_a_target_must_be_a_metric(tmp_path, blobs):
    extra = '[target]\nmetric = "accuracy"\nvalue = 0.9\n'
    with pytest.raises(InputError, match=r"evaluate\(\) returns 'loss'"):
        make_draft(written(tmp_path, extra=extra), blobs)


def test_too_little_memory_is_refused(tmp_path, blobs):
    extra = "batch = 16384\n[limits]\nmemory_mb = 64\n[model]\narguments = { width = 1024 }\n"
    with pytest.raises(InputError, match="memory_mb = 64"):
        make_draft(written(tmp_path, extra=extra), blobs)


def test_training_in_one_place_learns_as_the_dry_run_does(tmp_path, blobs):
    draft = make_draft(written(tmp_path), blobs)
    before = dry_run(draft, blobs, 5)[0].metrics_before["loss"]
    assert train_centrally(draft, blobs, 200)["loss"] < before / 2


def test_the_template_passes_at_once(tmp_path, capsys):
    folder = tmp_path / "My First Project"
    assert main(["new", str(folder), "--json"]) == 0
    assert main(["check", str(folder), "--home", str(tmp_path / "home"), "--json"]) == 0
    assert main(["new", str(folder)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_an_error_of_the_project_file_is_one_exit_code(tmp_path, capsys):
    write(tmp_path, extra="batsch = 1\n")
    assert main(["check", str(tmp_path)]) == 2
    assert "did you mean 'batch'?" in capsys.readouterr().err


PAIRS = """
def pairs(model, batch):
    score, y = model(batch["x"])[:, 0], (batch["y"] == 0).float()
    weight = y[:, None] * (1 - y)[None]
    ordered = weight * (score[:, None] > score[None])
    return {"loss": loss(model, batch), "pairs": ordered.sum() / weight.sum().clamp(min=1)}

evaluate = pairs
"""
PREDICTIONS = """
def evaluate(model, batch):
    return {"loss": loss(model, batch), "predictions": model(batch["x"]), "targets": batch["y"]}
"""


def test_a_metric_that_is_not_a_mean_is_noticed(tmp_path, blobs):
    """The mean of batches' AUCs is another number than the holdout's AUC."""
    model = MODEL.format(activation="SiLU") + PAIRS
    draft = make_draft(written(tmp_path, model=model), blobs)
    assert dry_run(draft, blobs, steps=2)[0].not_means == ("pairs",)


def test_metrics_of_the_whole_holdout(tmp_path, blobs):
    model = MODEL.format(activation="SiLU") + PREDICTIONS
    extra = '[evaluation]\nbatch = 100\nmetrics = ["auc", "per_class"]\n'
    target = '[target]\nmetric = "recall[3]"\nvalue = 0.9\n'
    draft = make_draft(written(tmp_path, model=model, extra=extra + target), blobs)
    learned, _ = dry_run(draft, blobs, steps=2)
    assert learned.not_means == ()
    classes = {f"recall[{number}]" for number in range(10)}
    assert learned.metrics_after.keys() == {"loss", "auc", *classes}


@pytest.mark.parametrize(
    ("model", "extra", "sentence"),
    [
        ("", '[evaluation]\nmetrics = ["auc"]\n', 'return "predictions" and "targets"'),
        (PREDICTIONS, "", "name in .evaluation. the metrics"),
        (
            PREDICTIONS.replace('"loss": loss', '"f1": loss(model, batch), "loss": loss'),
            '[evaluation]\nmetrics = ["f1"]\n',
            "drop one",
        ),
        (
            PREDICTIONS,
            '[evaluation]\nmetrics = ["auc"]\n[target]\nmetric = "recall[1]"\nvalue = 1\n',
            "evaluate.. returns 'loss', 'auc'",
        ),
    ],
)
def test_metrics_that_do_not_fit_are_refused(tmp_path, blobs, model, extra, sentence):
    model = MODEL.format(activation="SiLU") + model
    with pytest.raises(InputError, match=sentence):
        make_draft(written(tmp_path, model=model, extra=extra), blobs)
