"""Log-likelihood ratios of ESM2 against a plain loop over positions, each in its window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refused

from model.config import ModelConfig
from model.mutations import likelihood, substitution
from model.mutations.likelihood import log_likelihood_ratios, log_probabilities
from model.network.language_model import LanguageModel
from model.network.tokenizer import MASK_ID, TOKEN_ID, tokenize

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"
MUTANTS = ["K2A", "M1W:Q22A", "A4G", "K2R", "S13T:M1A:I6L", "wt"]


@pytest.fixture(scope="module")
def network() -> LanguageModel:
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(hidden=48, layers=2, heads=4, feed_forward=80)).eval()
    for value in model.parameters():
        torch.nn.init.normal_(value, 0.0, 0.3)
    return model


def plain_log_p(network: LanguageModel, position: int, masked: bool, start: int, stop: int) -> np.ndarray:
    """(33,) log-probabilities at a position of a sequence cut to residues `start` (from 0) to `stop`."""
    tokens = tokenize([SEQUENCE[start:stop]])["input_ids"]
    if masked:
        tokens[0, position - start] = MASK_ID  # <cls> is token 0
    with torch.no_grad():
        return network(tokens)[0, position - start].log_softmax(-1).numpy()


@pytest.mark.parametrize(("masked", "batch_size"), [(False, 16), (True, 1), (True, 16)])
def test_log_likelihood_ratios(network: LanguageModel, masked: bool, batch_size: int) -> None:
    expected = []
    for mutant in MUTANTS:
        total = 0.0
        for part in mutant.split(":") if mutant != "wt" else ():
            log_p = plain_log_p(network, int(part[1:-1]), masked, 0, len(SEQUENCE))
            total += log_p[TOKEN_ID[part[-1]]] - log_p[TOKEN_ID[part[0]]]
        expected.append(total)
    ratios = log_likelihood_ratios(network, SEQUENCE, MUTANTS, masked, batch_size)
    assert ratios.dtype == np.float64
    np.testing.assert_allclose(ratios, expected, rtol=0, atol=2e-5)
    other = log_likelihood_ratios(network, SEQUENCE, MUTANTS, not masked, batch_size)
    assert np.abs(ratios - other)[:-1].min() > 1e-3


@pytest.mark.parametrize("masked", [False, True])
def test_long_sequences_are_seen_through_windows(network: LanguageModel, monkeypatch, masked: bool) -> None:
    monkeypatch.setattr(likelihood, "MAX_RESIDUES", 10)
    monkeypatch.setattr(substitution, "WINDOW_STEP", 4)
    found = log_probabilities(network, SEQUENCE, range(1, 23), masked, batch_size=4)
    starts = [0] * 8 + [4] * 3 + [8] * 5 + [12] * 6  # within 2 of the centred window, ties to even multiples
    assert sorted(found) == list(range(1, 23))
    for (position, values), start in zip(sorted(found.items()), starts, strict=True):
        expected = plain_log_p(network, position, masked, start, start + 10)
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5, err_msg=str(position))


def test_unmasked_takes_one_pass_a_window(network: LanguageModel) -> None:
    shapes = []
    hook = network.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
    log_likelihood_ratios(network, SEQUENCE, MUTANTS, masked=False)
    log_likelihood_ratios(network, SEQUENCE, MUTANTS, masked=True, batch_size=4)  # positions 1 2 4 6 13 22
    log_probabilities(network, "A" * 1500, [1, 1400], masked=False)
    hook.remove()
    assert shapes == [(1, 24), (4, 24), (2, 24), (2, 1024)]


def test_refused(network: LanguageModel) -> None:
    refused(lambda: log_likelihood_ratios(network, SEQUENCE, ["A2G"], masked=False), "A2G")
    for sequence, named in (("MK<eos><cls>MK", "chain"), ("MKJ", "J")):
        refused(lambda sequence=sequence: log_probabilities(network, sequence, [1], masked=False), named)
