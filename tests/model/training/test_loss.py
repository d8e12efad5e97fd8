import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from data_prepare.properties import (
    GROUPS,
    NMA_GROUPS,
    PAIR_CHANNELS,
    RESIDUE_COLUMNS,
    entry_pair_channel,
    entry_residue_columns,
    properties_of_group,
)
from model.config import ModelConfig
from model.network.dance import DanceModel
from model.training.loss import dance_loss, valid_counts

DATA = Path(__file__).resolve().parents[2] / "data" / "model"
with (DATA / "loss_weight.csv").open() as file:
    ROWS = list(csv.DictReader(file))
WEIGHTS = {group: {row[""]: float(row[group]) for row in ROWS} for group in GROUPS}


@pytest.mark.parametrize(("group", "targets"), [("IDRome", "md"), ("Proteinflow", "nma")])
@pytest.mark.parametrize("frozen", [False, True], ids=["seqdance", "esmdance"])
def test_golden_losses_and_gradients(group: str, targets: str, frozen: bool) -> None:
    golden = np.load(DATA / f"tiny_{'esmdance' if frozen else 'seqdance'}.npz")
    model = DanceModel(ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64, freeze_encoder=frozen)).eval()
    model.load_state_dict(load_file(DATA / "tiny_weights.safetensors"))
    outputs = model(torch.tensor(golden["in.input_ids"]), torch.tensor(golden["in.attention_mask"]))
    residue, pair = (torch.tensor(golden[f"target.{targets}.{kind}"]) for kind in ("res", "pair"))
    losses = dance_loss(outputs, residue, pair, group, WEIGHTS[group])
    expected = {name.removeprefix(f"loss.{group}_") for name in golden.files if name.startswith(f"loss.{group}_")}
    assert set(losses) == expected
    for name, value in losses.items():
        assert value.item() == pytest.approx(golden[f"loss.{group}_{name}"].item(), rel=1e-5), name
    losses["loss"].backward()
    norms = {f"gradnorm.{targets}.{n}": p.grad.norm().item() for n, p in model.named_parameters() if p.requires_grad}
    assert set(norms) == {name for name in golden.files if name.startswith(f"gradnorm.{targets}.")}
    for name, norm in norms.items():
        assert norm == pytest.approx(golden[name].item(), rel=1e-4), name


def random_batch(group: str, proteins: int = 4, length: int = 9) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Predictions and targets with missing rows and pairs; protein 2 has no valid residue, protein 3 no valid pair."""
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> Tensor:
        return torch.rand(proteins, length, *shape, generator=generator)

    outputs = {name: draw(width) if width > 1 else draw() for name, (_, width) in RESIDUE_COLUMNS.items()}
    outputs |= {name: draw(length) for name in PAIR_CHANNELS}
    widths = (3, 3) if group in NMA_GROUPS else (47, 10)
    residue, pair = draw(widths[0]), draw(length, widths[1])
    residue[draw() < 0.3] = -1
    pair[draw(length) < 0.3] = -1
    residue[2], pair[3] = -1, -1
    return {name: value.requires_grad_() for name, value in outputs.items()}, residue, pair


def brute_force(outputs: dict[str, Tensor], residue: Tensor, pair: Tensor, group: str) -> dict[str, float]:
    """Protein by protein in float64, valid positions picked out."""
    shift = (47, 10) if group in NMA_GROUPS else (0, 0)
    losses = {}
    for name in properties_of_group(group):
        per_protein = []
        for prediction, rows, pairs in zip(outputs[name], residue, pair, strict=True):
            if name in RESIDUE_COLUMNS:
                first, width = RESIDUE_COLUMNS[name]
                valid, target = rows[:, 0] != -1, rows[:, first - shift[0] :][:, :width]
            else:
                valid, target = pairs[..., 0] != -1, pairs[..., PAIR_CHANNELS[name] - shift[1]]
            error = (prediction.reshape(target.shape).double() - target)[valid]
            if valid.any():
                per_protein.append(error.square().mean().sqrt().item())
        losses[name] = float(np.mean(per_protein)) if per_protein else 0.0
    losses["loss"] = sum(WEIGHTS[group][name] * value for name, value in losses.items())
    return losses


@pytest.mark.parametrize("group", GROUPS)
def test_equals_brute_force(group: str) -> None:
    outputs, residue, pair = random_batch(group)
    losses = dance_loss(outputs, residue, pair, group, WEIGHTS[group])
    expected = brute_force(outputs, residue, pair, group)
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(expected, rel=1e-5)
    assert set(valid_counts(residue, pair, group).tolist()) == {3.0}
    pair[1] = -1
    counts = dict(zip(properties_of_group(group), valid_counts(residue, pair, group).tolist(), strict=True))
    assert all(value == (3 if name in RESIDUE_COLUMNS else 2) for name, value in counts.items())


@pytest.mark.parametrize("group", GROUPS)
def test_a_prediction_that_is_not_finite_is_no_zero(group: str) -> None:
    outputs, residue, pair = random_batch(group)
    name = properties_of_group(group)[0]
    with torch.no_grad():
        outputs[name][0, residue[0, :, 0] != -1] = torch.nan
    losses = dance_loss(outputs, residue, pair, group, WEIGHTS[group])
    assert losses[name].isnan()
    assert losses["loss"].isnan()


@pytest.mark.parametrize("group", GROUPS)
def test_missing_values_never_enter(group: str) -> None:
    outputs, residue, pair = random_batch(group)
    expected = dance_loss(outputs, residue, pair, group, WEIGHTS[group])["loss"].item()
    residue[residue[..., 0] == -1] = torch.tensor([-1.0] + [float("nan")] * (residue.shape[-1] - 1))
    pair[pair[..., 0] == -1] = torch.tensor([-1.0] + [float("nan")] * (pair.shape[-1] - 1))
    loss = dance_loss(outputs, residue, pair, group, WEIGHTS[group])["loss"]
    assert loss.item() == expected
    loss.backward()
    for name in properties_of_group(group):
        gradient = outputs[name].grad
        valid = residue[..., 0] != -1 if name in RESIDUE_COLUMNS else pair[..., 0] != -1
        assert gradient.isfinite().all()
        assert not gradient[~valid].any()
        assert gradient[valid].any()


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_valid_is_zero(group: str) -> None:
    outputs, residue, pair = random_batch(group)
    losses = dance_loss(outputs, torch.full_like(residue, -1), torch.full_like(pair, -1), group, WEIGHTS[group])
    assert all(value == 0 for value in losses.values())
    losses["loss"].backward()
    assert not any(outputs[name].grad.any() for name in properties_of_group(group))
    assert not valid_counts(torch.full_like(residue, -1), torch.full_like(pair, -1), group).any()


def test_gradient_at_zero_error() -> None:
    outputs, residue, pair = random_batch("IDRome")
    with torch.no_grad():
        residue[0, :, 3:11] = outputs["ss"][0]  # the whole protein is right
        residue[0, :, 0] = outputs["sasa_mean"][0]
        pair[0, ..., 0] = outputs["vdw"][0]
    losses = dance_loss(outputs, residue, pair, "IDRome", WEIGHTS["IDRome"])
    losses["loss"].backward()
    for name in ("ss", "sasa_mean", "vdw"):
        assert outputs[name].grad.isfinite().all()
        assert not outputs[name].grad[0].any()
        assert outputs[name].grad[1].any()


def test_ranks_together_equal_one_process() -> None:
    group = "IDRome"
    outputs, residue, pair = random_batch(group)
    losses = dance_loss(outputs, residue, pair, group, WEIGHTS[group])
    gradients = torch.autograd.grad(losses["loss"], [outputs[name] for name in properties_of_group(group)])
    ranks = [slice(0, 1), slice(1, 4)]  # two ranks; proteins without valid positions are not spread evenly
    counts = sum(valid_counts(residue[rank], pair[rank], group) for rank in ranks) / len(ranks)
    mean = torch.zeros(())
    for rank in ranks:
        part = {name: value[rank] for name, value in outputs.items()}
        mean = mean + dance_loss(part, residue[rank], pair[rank], group, WEIGHTS[group], counts)["loss"] / len(ranks)
    assert mean.item() == pytest.approx(losses["loss"].item(), rel=1e-6)
    found = torch.autograd.grad(mean, [outputs[name] for name in properties_of_group(group)])
    torch.testing.assert_close(found, gradients)


def test_low_precision_predictions_are_widened() -> None:
    outputs, residue, pair = random_batch("IDRome")
    half = {name: value.detach().half() for name, value in outputs.items()}
    exact = {name: value.float() for name, value in half.items()}
    ours = dance_loss(half, residue, pair, "IDRome", WEIGHTS["IDRome"])
    assert ours["loss"] == dance_loss(exact, residue, pair, "IDRome", WEIGHTS["IDRome"])["loss"]


@pytest.mark.parametrize("group", ["IDRome", "Proteinflow"])
def test_missing_properties_of_some_proteins(group: str) -> None:
    """They are left out for these proteins: no gradient, not in the mean; other properties keep every bit."""
    names = properties_of_group(group)
    outputs, residue, pair = random_batch(group)
    complete = dance_loss(outputs, residue, pair, group, WEIGHTS[group])
    everything = torch.ones(4, len(names), dtype=torch.bool)
    for name, value in dance_loss(outputs, residue, pair, group, WEIGHTS[group], present=everything).items():
        assert torch.equal(value, complete[name])
    lacking = {names[0]: [0], names[2]: [0, 1, 2, 3], names[-1]: [1, 2]}
    present, targets = everything.clone(), {True: residue.clone(), False: pair.clone()}
    for name, proteins in lacking.items():
        present[proteins, names.index(name)] = False
        target = targets[name in RESIDUE_COLUMNS]
        columns = entry_residue_columns(name) if name in RESIDUE_COLUMNS else entry_pair_channel(name)
        for protein in proteins:  # as the loader marks them
            target[protein, ..., columns][target[protein, ..., 0] != -1] = torch.nan
    losses = dance_loss(outputs, targets[True], targets[False], group, WEIGHTS[group], present=present)
    losses["loss"].backward()
    counts = dict(zip(names, valid_counts(targets[True], targets[False], group, present).tolist(), strict=True))
    for name in names:
        gradient = outputs[name].grad
        proteins = lacking.get(name, [])
        assert gradient.isfinite().all()
        assert not gradient[proteins].any()
        if not proteins:
            assert torch.equal(losses[name], complete[name])
            continue
        others = [k for k in range(4) if k not in proteins]
        part = {key: value[others] for key, value in outputs.items()}
        expected = dance_loss(part, residue[others], pair[others], group, WEIGHTS[group])[name]
        assert losses[name].item() == pytest.approx(expected.item(), rel=1e-6)
        assert counts[name] == len([k for k in others if k != (2 if name in RESIDUE_COLUMNS else 3)])
        assert gradient[others].any() == bool(counts[name])
    assert losses["loss"].item() == pytest.approx(sum(WEIGHTS[group][n] * losses[n].item() for n in names), rel=1e-5)
