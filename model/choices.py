"""Choices and thresholds that command lines show; importing them loads nothing heavy."""

from __future__ import annotations

from typing import Final, Literal

PropertySet = Literal["all", "residue"]  # of `mutations.score`: with or without residue pairs
Features = Literal["embedding", "properties", "both"]  # of `inference.embed`
Mean = Literal["tokens", "residues"]  # of `inference.embed`: with or without <cls> and <eos>
Numbering = Literal["sequence", "structure"]  # of mutations
MeasuredForm = Literal["auto", "megascale", "proteingym", "ddg"]  # of `mutations.measured`
AttentionForm = Literal["notebook", "paper"]  # of `evaluation.attention`
ESM_PACKAGE: Final = "esm==3.2.1.post1"  # ESM-3 and ESM C; it pins older libraries than ours
SEPARATION: Final = 3  # of `evaluation.compare`: least distance in the chain of the residues of a pair
FREQUENT: Final = 0.5  # of `evaluation.compare`: contacts per frame from which a pair is a frequent contact
OWN_NAME: Final = "model"  # of `evaluation.regression`: name of the embeddings of the chosen model
