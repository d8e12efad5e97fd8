"""Token space: where residues go, and what numbers become."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import random_entry

from data_prepare.dataset.token_space import md_entry, nma_entry, to_token_space, token_rows


def test_token_rows_of_one_and_two_chains():
    assert token_rows([3]).tolist() == [1, 2, 3]
    assert token_rows([2, 3]).tolist() == [1, 2, 5, 6, 7]  # <cls> r r <eos> <cls> r r r <eos>


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_every_value_is_kept_and_all_else_is_missing(lengths, data):
    total = sum(lengths)
    resolved = data.draw(st.none() | st.sets(st.integers(0, total - 1), min_size=1).map(sorted).map(np.array))
    index = np.arange(total) if resolved is None else resolved
    residue, pair = random_entry(len(index))
    tokens, token_pairs = to_token_space(residue, pair, lengths, resolved)
    assert tokens.shape == (total + 2 * len(lengths), 47)
    rows = token_rows(lengths)[index]
    np.testing.assert_array_equal(tokens[rows], residue)
    np.testing.assert_array_equal(token_pairs[np.ix_(rows, rows)], pair)
    missing = np.setdiff1d(np.arange(len(tokens)), rows)
    assert (tokens[missing] == -1).all()
    assert (token_pairs[missing] == -1).all()
    assert (token_pairs[:, missing] == -1).all()


def test_md_entry_changes_frequencies_and_missing_angles_only():
    residue, pair = (array.astype(float) for array in random_entry(4))
    residue[0, 11:23] = np.nan  # chi1 of a glycine
    residue[0, 23:35] = np.nan  # phi of the first residue
    residue[3, 35:47] = np.nan  # psi of the last one
    pair[1, 2, 0] = 8.0
    pair[..., 9] = -0.5
    tokens, token_pairs = md_entry(residue, pair, [1, 4], np.array([0, 2, 3, 4]))
    assert tokens.shape == (9, 47)
    assert (tokens[1, 11:35] == 0).all()
    assert (tokens[7, 35:] == 0).all()
    np.testing.assert_allclose(tokens[5, :47], residue[1], rtol=1e-7)
    assert token_pairs[5, 6, 0] == 2.0  # cube root, one-sided
    np.testing.assert_allclose(token_pairs[6, 5, 0], np.cbrt(pair[2, 1, 0]), rtol=1e-6)
    assert token_pairs[6, 5, 9] == -0.5


def test_nma_entry():
    residue, pair = nma_entry(np.arange(6).reshape(3, 2), np.arange(12).reshape(3, 2, 2), [3], np.array([0, 2]))
    assert residue[1].tolist() == [0, 2, 4]
    assert pair[1, 3].tolist() == [1, 5, 9]
    assert (residue[:, 0] != -1).tolist() == [False, True, False, True, False]
