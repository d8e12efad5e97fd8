"""Sources of embeddings: letters, ESM2 beside Hugging Face, SeqDance, stand-ins for ESM-3, AlphaFold2 pairs."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from dyna1_inputs import randomise
from hugging_face import esm2_settings
from refusals import refused
from torch import nn

from model.choices import ESM_PACKAGE
from model.config import ModelConfig
from model.dyna1.embeddings.embedders import Af2Pairs, Dance, Esm2, OneHot, make_embedder
from model.dyna1.embeddings.esm3 import Esm3
from model.dyna1.embeddings.source import Embedder
from model.network.dance import DanceModel
from model.network.tokenizer import VOCABULARY, tokenize

SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "ACDEF", "MK<mask>LVXBUZO"]


# --- letters


def test_one_hot():
    found = OneHot().embed(SEQUENCES)
    assert [rows.shape for rows in found] == [(22, 24), (5, 24), (10, 24)]
    for rows, sequence in zip(found[:2], SEQUENCES, strict=False):
        assert torch.equal(rows.sum(1), torch.ones(len(sequence)))
        assert [VOCABULARY[place] for place in rows.argmax(1)] == list(sequence)
    assert torch.equal(found[2].sum(1), torch.tensor([1.0, 1, 0, 1, 1, 0, 0, 0, 0, 0]))  # <mask>, X, B, U, Z, O
    assert torch.equal(OneHot().read("any", "ACDEF"), found[1])
    for sequence, named in (("MK<eos><cls>LV", "sequence 2 of 2"), ("MK1", "'1'"), ("", "2")):
        refused(lambda sequence=sequence: OneHot().embed(["MK", sequence]), named)


# --- ESM2


@pytest.fixture(scope="module")
def esm2_folder(tmp_path_factory):
    """A tiny ESM2 in the form of Hugging Face."""
    import transformers

    folder = tmp_path_factory.mktemp("esm2")
    randomise(transformers.EsmModel(esm2_settings(24, 3, 4, 40), add_pooling_layer=False), 0.3).save_pretrained(folder)
    return folder


def test_esm2_equals_hugging_face(esm2_folder):
    import transformers

    reference = transformers.EsmModel.from_pretrained(esm2_folder, add_pooling_layer=False).eval()
    for layer in (None, 0, 1, 2, 3):
        embedder = make_embedder(f"esm2:{esm2_folder}" if layer is None else f"esm2:{esm2_folder}:{layer}", "cpu")
        assert (embedder.width, embedder.reads_structure) == (24, False)
        for sequence, rows in zip(SEQUENCES, embedder.embed(SEQUENCES), strict=True):
            ids = tokenize([sequence])["input_ids"][:, 1:-1]  # without <cls> and <eos>
            with torch.no_grad():
                states = reference(ids, torch.ones_like(ids), output_hidden_states=True).hidden_states
            expected = states[-1 if layer is None else layer][0]
            assert expected.std() > 0.1
            torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)


def test_esm2_fingerprints(esm2_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    last, third, second = (Esm2(str(esm2_folder), layer, "cpu").fingerprint for layer in (None, 3, 2))
    assert last == third
    assert (last[:13], second[:13]) == ("esm2 layer 3 ", "esm2 layer 2 ")
    state = load_file(esm2_folder / "model.safetensors")
    state["encoder.layer.0.output.dense.bias"][3] += 1e-3
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((esm2_folder / "config.json").read_bytes())
    assert Esm2(str(tmp_path), None, "cpu").fingerprint != last


def test_esm2_that_cannot_be_used(esm2_folder, tmp_path):
    refused(lambda: make_embedder(f"esm2:{esm2_folder}:4", "cpu"), esm2_folder, "0 to 3")
    (tmp_path / "model.safetensors").write_bytes((esm2_folder / "model.safetensors").read_bytes())
    settings = (esm2_folder / "config.json").read_text()
    for old, new in (('"rotary"', '"absolute"'), ('"num_hidden_layers": 3', '"num_hidden_layers": 2')):
        (tmp_path / "config.json").write_text(settings.replace(old, new))
        refused(lambda: Esm2(str(tmp_path), None, "cpu"), tmp_path)


# --- SeqDance and ESMDance


def test_dance_gives_the_last_hidden_state_of_the_residues(tmp_path):
    model = randomise(DanceModel(ModelConfig(hidden=16, layers=2, heads=2, feed_forward=32)), 0.3)
    model.save_pretrained(tmp_path)
    embedder = make_embedder(f"dance:{tmp_path}", "cpu")
    assert isinstance(embedder, Dance)
    assert embedder.width == 16
    for sequence, rows in zip(SEQUENCES, embedder.embed(SEQUENCES), strict=True):
        with torch.no_grad():
            expected = model(**tokenize([sequence]), residue=False, pair=False, embedding=True)["res_emb"][0, 1:-1]
        torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)
    refused(lambda: embedder.embed(["MK<eos><cls>LV"]), "sequence 1 of 1")


# --- ESM-3: stand-ins for the package, with the calls of its releases 3.1 to 3.4


class Block(nn.Module):
    """Adds the mean over residues; newer releases return attention weights too."""

    def __init__(self, width, newer):
        super().__init__()
        self.linear, self.newer = nn.Linear(width, width), newer

    def forward(self, x):
        x = x + self.linear(x).tanh() + x.mean(1, keepdim=True)
        return (x, None) if self.newer else x


class StandIn(nn.Module):
    """What Dyna-1 calls of ESM3."""

    newer, blocks = False, True

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Module()
        self.encoder.sequence_embed = nn.Embedding(64, 8)
        self.structure = nn.Embedding(4101, 8)
        self.transformer = nn.Module()
        if self.blocks:
            self.transformer.blocks = nn.ModuleList(Block(8, self.newer) for _ in range(4))
        self.structures, self.reached = [], 0  # coordinates that were encoded; blocks that were run

    @classmethod
    def from_pretrained(cls, model_name, device=None):
        if model_name != "esm3-sm-open-v1":
            raise ValueError(f"no model {model_name}\nsecond line")
        assert device == torch.device("cpu")
        return cls().half()

    def encode(self, protein):
        atoms = protein.coordinates  # (L, 37, 3)
        self.structures.append(atoms)
        tokens = torch.where(atoms[:, 1].isfinite().all(-1), atoms[:, 1].nan_to_num().norm(dim=-1).long(), 955)
        return SimpleNamespace(structure=torch.cat([torch.tensor([4098]), tokens, torch.tensor([4097])]))

    def forward(self, *, sequence_tokens=None, structure_tokens=None):
        known = sequence_tokens if sequence_tokens is not None else structure_tokens
        x = self.encoder.sequence_embed(torch.full_like(known, 32) if sequence_tokens is None else sequence_tokens)
        x = x + self.structure(torch.full_like(known, 4096) if structure_tokens is None else structure_tokens)
        for block in self.transformer.blocks:
            x = block(x)
            x = x[0] if isinstance(x, tuple) else x
            self.reached += 1
        return x

    def hidden(self, layer, sequence, structure):
        """Output of a block, by running all of them."""
        outputs = []
        for block in self.transformer.blocks:
            block.register_forward_hook(lambda _m, _i, output: outputs.append(output))
        with torch.no_grad():
            self(sequence_tokens=sequence, structure_tokens=structure)
        return (outputs[layer][0] if self.newer else outputs[layer])[0]


@pytest.fixture
def provide(monkeypatch):
    """Install a stand-in as the package `esm`."""

    def provide_esm(model):
        names = ("esm", "esm.models", "esm.models.esm3", "esm.models.esmc", "esm.sdk", "esm.sdk.api")
        modules = {name: ModuleType(name) for name in names}
        modules["esm.models.esm3"].ESM3 = modules["esm.models.esmc"].ESMC = model
        modules["esm.sdk.api"].ESMProtein = SimpleNamespace
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)

    return provide_esm


def backbone(length):
    atoms = np.random.default_rng(0).normal(0, 9, (length, 3, 3)).astype(np.float32)
    atoms[2] = np.nan
    return atoms


@pytest.mark.parametrize("newer", [False, True])
def test_esm3(monkeypatch, provide, newer):
    monkeypatch.setattr(StandIn, "newer", newer)
    provide(StandIn)
    embedder = make_embedder("esm3:2", "cpu")
    assert (embedder.width, embedder.reads_structure) == (8, True)
    assert embedder.fingerprint.startswith("esm3 layer 2 ")
    assert {value.dtype for value in embedder.model.parameters()} == {torch.float32}

    sequence, atoms = "MKTAYI", backbone(6)
    ids = tokenize([sequence])["input_ids"][:, 1:-1]
    alone, both, structure = embedder.embed([sequence, sequence, "<mask>" * 6], [None, atoms, atoms])
    assert embedder.model.reached == 3 * 2  # later blocks are not run

    tokens = torch.from_numpy(np.linalg.norm(np.nan_to_num(atoms[:, 1]), axis=1).astype(int))[None]
    tokens[0, 2] = 955
    for found, inputs in ((alone, (ids, None)), (both, (ids, tokens)), (structure, (None, tokens))):
        torch.testing.assert_close(found, embedder.model.hidden(2, *inputs), rtol=0, atol=1e-6)
    assert not torch.allclose(both, alone, atol=0.1)
    given = embedder.model.structures[0]
    assert given.shape == (6, 37, 3)
    torch.testing.assert_close(given[:, :3], torch.from_numpy(atoms), equal_nan=True)
    assert given[:, 3:].isnan().all()
    torch.testing.assert_close(embedder.read("any", sequence), alone)
    refused(lambda: embedder.embed(["MKTAY"], [atoms]), 6, 5)


def test_esm3_that_cannot_be_loaded(monkeypatch, provide):
    monkeypatch.setitem(sys.modules, "esm", None)
    refused(lambda: make_embedder("esm3", "cpu"), ESM_PACKAGE, "cache:FILE.h5")
    provide(StandIn)
    refused(lambda: make_embedder("esm3", "cpu"), "22", "0 to 3")  # the default layer
    refused(lambda: make_embedder("esm3:esm4:2", "cpu"), "esm4")


@pytest.mark.parametrize(
    ("methods", "structure", "named"),
    [
        ({"forward": lambda self, tokens: tokens}, None, "ESM3.forward(sequence_tokens, structure_tokens)"),
        ({"forward": lambda self, **tokens: tokens}, None, "ESM3.forward(sequence_tokens, structure_tokens)"),
        ({"encode": None}, backbone(6), "ESM3.encode(ESMProtein)"),
        ({"blocks": False}, None, "ESM3.transformer.blocks"),
    ],
)
def test_another_release_of_the_package_is_one_line(provide, methods, structure, named):
    provide(type("Other", (StandIn,), methods))
    refused(lambda: Esm3(layer=2, device="cpu").embed(["MKTAYI"], [structure]), named)


class StandInC(StandIn):
    """What Dyna-1 calls of ESMC."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(64, 12)
        self.transformer.blocks = nn.ModuleList(Block(12, False) for _ in range(3))

    @classmethod
    def from_pretrained(cls, model_name, device=None):
        assert (model_name, device) == ("esmc_300m", torch.device("cpu"))
        return cls().half()

    def forward(self, sequence_tokens=None, sequence_id=None):
        x = self.embed(sequence_tokens)
        for block in self.transformer.blocks:
            x = block(x)
            self.reached += 1
        return x


def test_esmc(monkeypatch, provide):
    provide(StandInC)
    last, first = make_embedder("esmc", "cpu"), make_embedder("esmc:esmc_300m:0", "cpu")
    assert (last.width, last.reads_structure) == (12, False)
    assert (last.fingerprint[:13], first.fingerprint[:13]) == ("esmc layer 2 ", "esmc layer 0 ")
    found = last.embed(SEQUENCES)
    assert [rows.dtype for rows in found] == [torch.float32] * 3
    for sequence, rows, early in zip(SEQUENCES, found, first.embed(SEQUENCES), strict=True):
        x = last.model.embed(tokenize([sequence])["input_ids"][:, 1:-1])  # without begin and end tokens
        with torch.no_grad():
            torch.testing.assert_close(early, first.model.transformer.blocks[0](x)[0], rtol=0, atol=1e-6)
            for block in last.model.transformer.blocks:
                x = block(x)
        torch.testing.assert_close(rows, x[0], rtol=0, atol=1e-6)
    assert first.model.reached == 0  # later blocks are not run
    refused(lambda: make_embedder("esmc:3", "cpu"), "3", "0 to 2")
    provide(type("Other", (StandInC,), {"forward": lambda self, tokens: tokens}))
    refused(lambda: make_embedder("esmc", "cpu").embed(["MKTAYI"]), "ESMC.forward(sequence_tokens)")
    monkeypatch.setitem(sys.modules, "esm", None)
    monkeypatch.delitem(sys.modules, "esm.sdk.api")
    refused(lambda: make_embedder("esmc", "cpu"), ESM_PACKAGE, "cache:FILE.h5")


# --- AlphaFold2 and lines


def test_pair_representations(tmp_path):
    pairs = np.random.default_rng(0).normal(size=(4, 4, 128)).astype(np.float16)
    np.save(tmp_path / "one.npy", pairs)
    source = make_embedder(f"af2:{tmp_path}")
    assert isinstance(source, Af2Pairs)
    assert not isinstance(source, Embedder)
    found = source.read("one", "ACDE")
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), pairs.astype(np.float32))
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    with (tmp_path / "npz.npy").open("wb") as file:
        np.savez(file, pairs=pairs)
    np.save(tmp_path / "text.npy", pairs.astype(str))
    for name in ("absent", "bad", "npz", "text"):
        refused(lambda name=name: source.read(name, "ACDE"), tmp_path / f"{name}.npy")
    refused(lambda: source.read("one", "ACDEF"), tmp_path / "one.npy", "(5, 5, 128)", "(4, 4, 128)")
    refused(lambda: make_embedder("af2:elsewhere"), "elsewhere")


@pytest.mark.parametrize("line", ["", "two-hot", "onehot:3", "dance:", "cache:", "af2"])
def test_unknown_embedders(line):
    refused(lambda: make_embedder(line), repr(line), "onehot, esm2")
