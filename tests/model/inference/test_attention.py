"""Attention maps are those of the model; only rows, types and lengths are chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data_prepare.errors import InputWarning
from model.inference.attention import attention_maps
from model.network.dance import DanceModel
from model.network.tokenizer import tokenize

COMPLEX = "MKTAY<eos><cls>IAKQRQ"
DNA = "ACGT" * 5
RESIDUES = [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]


def test_maps_are_those_of_the_model(tiny_model: DanceModel) -> None:
    model = tiny_model
    with torch.no_grad():
        expected = model(**tokenize([COMPLEX]), attention=True)["attention_map"][0].numpy()
        cut = model(**tokenize([COMPLEX], 9), attention=True)["attention_map"][0].numpy()
    maps = attention_maps(model, COMPLEX)
    assert (maps.shape, maps.dtype) == ((15, 15, 8), np.float32)
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(maps.sum(1), 1, rtol=0, atol=1e-5)
    assert maps.std(axis=(0, 1)).min() > 1e-4
    np.testing.assert_array_equal(attention_maps(model, COMPLEX, False), maps[np.ix_(RESIDUES, RESIDUES)])
    half = attention_maps(model, COMPLEX, dtype=np.float16)
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, maps, rtol=1e-3, atol=1e-6)
    short = attention_maps(model, COMPLEX, max_length=9)
    np.testing.assert_allclose(short, cut, rtol=0, atol=1e-7)
    inside = np.ix_(RESIDUES[:6], RESIDUES[:6])
    np.testing.assert_array_equal(attention_maps(model, COMPLEX, False, max_length=9), short[inside])


def test_dna_is_noted_once(tiny_model: DanceModel) -> None:
    for sequences, name in ((DNA, "1"), (["MKT", DNA], "2"), ({"x": DNA}, "x")):
        with pytest.warns(InputWarning, match=f"sequence {name}: looks like DNA") as noticed:
            attention_maps(tiny_model, sequences)
        assert len(noticed) == 1


def test_list_gives_list_and_mode_comes_back(tiny_model: DanceModel) -> None:
    model = DanceModel(tiny_model.config)
    model.load_state_dict(tiny_model.state_dict())
    expected = attention_maps(tiny_model, COMPLEX)
    found = attention_maps(model.train(), ["MKT", COMPLEX])  # dropout stays off
    assert model.training
    assert [maps.shape for maps in found] == [(5, 5, 8), (15, 15, 8)]
    np.testing.assert_array_equal(found[1], expected)
