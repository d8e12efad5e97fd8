import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from refusals import refused
from torch import Tensor, nn

from data_prepare.errors import InputError
from model.config import ModelConfig
from model.dyna1.classifier import Dyna1Config
from model.dyna1.embeddings.af2 import Af2Pairs
from model.dyna1.embeddings.embedders import make_embedder
from model.dyna1.embeddings.esm3 import Esm3
from model.dyna1.embeddings.language_models import Dance, Esm2, OneHot
from model.dyna1.embeddings.source import Embedder, residue_tokens
from model.dyna1.sources import check_source
from model.network.dance import DanceModel
from model.network.tokenizer import VOCABULARY, tokenize

SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "ACDEF", "MK<mask>LVXBUZO"]


def random_(module: nn.Module) -> nn.Module:
    """Weights at which no layer is trivial."""
    torch.manual_seed(0)
    for name, value in module.named_parameters():
        nn.init.normal_(value, 1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.3)
    return module.eval()


# --- one-hot


def test_one_hot() -> None:
    found = OneHot().embed(SEQUENCES)
    assert [rows.shape for rows in found] == [(22, 24), (5, 24), (10, 24)]
    for rows, sequence in zip(found[:2], SEQUENCES, strict=False):
        assert torch.equal(rows.sum(1), torch.ones(len(sequence)))
        assert [VOCABULARY[place] for place in rows.argmax(1)] == list(sequence)
    assert torch.equal(found[2].sum(1), torch.tensor([1.0, 1, 0, 1, 1, 0, 0, 0, 0, 0]))  # <mask>, X, B, U, Z, O
    assert torch.equal(OneHot().read("any", "ACDEF"), found[1])


def test_residue_tokens_are_those_between_cls_and_eos() -> None:
    ids, mask = residue_tokens(["ACDEF", "MK"])
    assert torch.equal(ids[0], tokenize(["ACDEF"])["input_ids"][0, 1:-1])
    assert torch.equal(ids[1], torch.tensor([20, 15, 1, 1, 1]))
    assert torch.equal(mask.sum(1), torch.tensor([5, 2]))


@pytest.mark.parametrize(
    ("sequence", "message"), [("MK<eos><cls>LV", "one chain at a time"), ("MK1", "'1' is not in the"), ("", "is empty")]
)
def test_sequences_that_cannot_be_used(sequence: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OneHot().embed(["MK", sequence])


# --- ESM2


@pytest.fixture(scope="module")
def esm2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ESM2 as Hugging Face writes it."""
    import transformers

    folder = tmp_path_factory.mktemp("esm2")
    settings = transformers.EsmConfig(
        vocab_size=33,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=40,
        pad_token_id=1,
        mask_token_id=32,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
    )
    random_(transformers.EsmModel(settings, add_pooling_layer=False)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layer", [None, 0, 1, 2, 3])
def test_esm2_equals_hugging_face(esm2_folder: Path, layer: int | None) -> None:
    import transformers

    reference = transformers.EsmModel.from_pretrained(esm2_folder, add_pooling_layer=False).eval()
    line = f"esm2:{esm2_folder}" if layer is None else f"esm2:{esm2_folder}:{layer}"
    embedder = make_embedder(line, "cpu")
    assert isinstance(embedder, Esm2)
    for sequence, rows in zip(SEQUENCES, embedder.embed(SEQUENCES), strict=True):
        ids = tokenize([sequence])["input_ids"][:, 1:-1]  # without <cls> and <eos>
        with torch.no_grad():
            states = reference(ids, torch.ones_like(ids), output_hidden_states=True).hidden_states
        expected = states[-1 if layer is None else layer][0]
        assert expected.std() > 0.1
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)
    assert embedder.width == 24
    assert not embedder.reads_structure


def test_esm2_fingerprints(esm2_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    prints = [Esm2(str(esm2_folder), layer, "cpu").fingerprint for layer in (None, 3, 2)]
    assert prints[0] == prints[1]
    assert prints[0].startswith("esm2 layer 3 ")
    assert prints[2].startswith("esm2 layer 2 ")
    state = load_file(esm2_folder / "model.safetensors")
    state["encoder.layer.0.output.dense.bias"][3] += 1e-3
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((esm2_folder / "config.json").read_bytes())
    assert Esm2(str(tmp_path), None, "cpu").fingerprint != prints[0]


def test_esm2_that_cannot_be_used(esm2_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no hidden state 4; it has 0 to 3"):
        make_embedder(f"esm2:{esm2_folder}:4", "cpu")
    with pytest.raises(InputError, match="reads no structure"):
        Esm2(str(esm2_folder), None, "cpu").embed(["MK"], [np.zeros((2, 3, 3), np.float32)])
    (tmp_path / "model.safetensors").write_bytes((esm2_folder / "model.safetensors").read_bytes())
    settings = (esm2_folder / "config.json").read_text()
    (tmp_path / "config.json").write_text(settings.replace('"rotary"', '"absolute"'))
    with pytest.raises(InputError, match="absolute"):
        Esm2(str(tmp_path), None, "cpu")
    (tmp_path / "config.json").write_text(settings.replace('"num_hidden_layers": 3', '"num_hidden_layers": 2'))
    with pytest.raises(InputError, match="unknown: "):
        Esm2(str(tmp_path), None, "cpu")


# --- SeqDance and ESMDance


def test_dance_gives_the_last_hidden_state_of_the_residues(tmp_path: Path) -> None:
    model = random_(DanceModel(ModelConfig(hidden=16, layers=2, heads=2, feed_forward=32)))
    assert isinstance(model, DanceModel)
    model.save_pretrained(tmp_path)
    embedder = make_embedder(f"dance:{tmp_path}", "cpu")
    assert isinstance(embedder, Dance)
    assert embedder.width == 16
    for sequence, rows in zip(SEQUENCES, embedder.embed(SEQUENCES), strict=True):
        with torch.no_grad():
            expected = model(**tokenize([sequence]), residue=False, pair=False, embedding=True)["res_emb"][0, 1:-1]
        torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="one chain at a time"):
        embedder.embed(["MK<eos><cls>LV"])


# --- ESM-3: stand-ins for the package, with the calls of its releases 3.1 to 3.4


class Block(nn.Module):
    """Adds the mean over residues; newer releases return attention weights too."""

    def __init__(self, width: int, newer: bool) -> None:
        super().__init__()
        self.linear, self.newer = nn.Linear(width, width), newer

    def forward(self, x: Tensor) -> Any:
        x = x + self.linear(x).tanh() + x.mean(1, keepdim=True)
        return (x, None) if self.newer else x


class StandIn(nn.Module):
    """What Dyna-1 calls of ESM3."""

    structures: list[Tensor]  # coordinates that were encoded
    newer = False

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Module()
        self.encoder.sequence_embed = nn.Embedding(64, 8)
        self.structure = nn.Embedding(4101, 8)
        self.transformer = nn.Module()
        self.transformer.blocks = nn.ModuleList(Block(8, self.newer) for _ in range(4))
        self.structures, self.reached = [], 0

    @classmethod
    def from_pretrained(cls, model_name: str, device: torch.device | None = None) -> "StandIn":
        if model_name != "esm3-sm-open-v1":
            raise ValueError(f"no model {model_name}\nsecond line")
        assert device == torch.device("cpu")
        return cls().half()

    def encode(self, protein: SimpleNamespace) -> SimpleNamespace:
        atoms = protein.coordinates  # (L, 37, 3)
        self.structures.append(atoms)
        tokens = torch.where(atoms[:, 1].isfinite().all(-1), atoms[:, 1].nan_to_num().norm(dim=-1).long(), 955)
        return SimpleNamespace(structure=torch.cat([torch.tensor([4098]), tokens, torch.tensor([4097])]))

    def forward(self, *, sequence_tokens: Tensor | None = None, structure_tokens: Tensor | None = None) -> Tensor:
        known = sequence_tokens if sequence_tokens is not None else structure_tokens
        assert known is not None
        masks = torch.full_like(known, 32), torch.full_like(known, 4096)
        x = self.encoder.sequence_embed(masks[0] if sequence_tokens is None else sequence_tokens)
        x = x + self.structure(masks[1] if structure_tokens is None else structure_tokens)
        for block in self.transformer.blocks:
            x = block(x)
            x = x[0] if isinstance(x, tuple) else x
            self.reached += 1
        return x

    def hidden(self, layer: int, sequence: Tensor | None, structure: Tensor | None) -> Tensor:
        """Output of a block, by running all of them."""
        outputs: list[Any] = []
        handles = [
            block.register_forward_hook(lambda _m, _i, output: outputs.append(output))
            for block in self.transformer.blocks
        ]
        with torch.no_grad():
            self(sequence_tokens=sequence, structure_tokens=structure)
        for handle in handles:
            handle.remove()
        return (outputs[layer][0] if self.newer else outputs[layer])[0]


def provide_esm(monkeypatch: pytest.MonkeyPatch, model: type) -> None:
    modules = {name: ModuleType(name) for name in ("esm", "esm.models", "esm.models.esm3", "esm.sdk", "esm.sdk.api")}
    modules["esm.models.esm3"].ESM3 = model  # type: ignore[attr-defined]
    modules["esm.sdk.api"].ESMProtein = SimpleNamespace  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def backbone(length: int) -> np.ndarray:
    atoms = np.random.default_rng(0).normal(0, 9, (length, 3, 3)).astype(np.float32)
    atoms[2] = np.nan
    return atoms


@pytest.mark.parametrize("newer", [False, True])
def test_esm3(monkeypatch: pytest.MonkeyPatch, newer: bool) -> None:
    monkeypatch.setattr(StandIn, "newer", newer)
    provide_esm(monkeypatch, StandIn)
    embedder = make_embedder("esm3:2", "cpu")
    assert isinstance(embedder, Esm3)
    assert (embedder.width, embedder.reads_structure) == (8, True)
    assert embedder.fingerprint.startswith("esm3 layer 2 ")
    assert {value.dtype for value in embedder.model.parameters()} == {torch.float32}

    sequence, atoms = "MKTAYI", backbone(6)
    ids = tokenize([sequence])["input_ids"][:, 1:-1]
    alone, both, structure = embedder.embed([sequence, sequence, "<mask>" * 6], [None, atoms, atoms])
    assert embedder.model.reached == 3 * 2  # the blocks behind are not run

    tokens = torch.from_numpy(np.linalg.norm(np.nan_to_num(atoms[:, 1]), axis=1).astype(int))[None]
    tokens[0, 2] = 955
    model = embedder.model
    torch.testing.assert_close(alone, model.hidden(2, ids, None), rtol=0, atol=1e-6)
    torch.testing.assert_close(both, model.hidden(2, ids, tokens), rtol=0, atol=1e-6)
    torch.testing.assert_close(structure, model.hidden(2, None, tokens), rtol=0, atol=1e-6)
    assert not torch.allclose(both, alone, atol=0.1)
    given = model.structures[0]
    assert given.shape == (6, 37, 3)
    torch.testing.assert_close(given[:, :3], torch.from_numpy(atoms), equal_nan=True)
    assert given[:, 3:].isnan().all()
    torch.testing.assert_close(embedder.read("any", sequence), alone)
    with pytest.raises(InputError, match="structure of 6 residues, sequence of 5"):
        embedder.embed(["MKTAY"], [atoms])


def test_esm3_by_default_layer_22(monkeypatch: pytest.MonkeyPatch) -> None:
    provide_esm(monkeypatch, StandIn)
    with pytest.raises(InputError, match="no hidden state 22; it has 0 to 3"):
        make_embedder("esm3", "cpu")


def test_esm3_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "esm", None)
    with pytest.raises(InputError, match=r"requirements-esm3.txt .* cache:FILE.h5"):
        make_embedder("esm3", "cpu")
    provide_esm(monkeypatch, StandIn)
    with pytest.raises(InputError, match=r"^esm4: the package esm cannot load it \(no model esm4\)"):
        make_embedder("esm3:esm4:2", "cpu")


def test_another_release_of_the_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoBlocks(StandIn):
        def __init__(self) -> None:
            super().__init__()
            del self.transformer.blocks

    class OtherCall(StandIn):
        def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]
            return self.encoder.sequence_embed(tokens)

    class NoEncode(StandIn):
        encode = None  # type: ignore[assignment]

    class OtherWay(StandIn):
        def forward(self, *, sequence_tokens: Tensor, structure_tokens: Tensor | None) -> Tensor:  # type: ignore[override]
            return self.encoder.sequence_embed(sequence_tokens)  # through none of the blocks

    provide_esm(monkeypatch, NoBlocks)
    with pytest.raises(InputError, match=r"unexpected ESM3.transformer.blocks"):
        make_embedder("esm3:2", "cpu")
    for model in (OtherCall, OtherWay):
        provide_esm(monkeypatch, model)
        with pytest.raises(InputError, match=r"unexpected ESM3.forward\(sequence_tokens, structure_tokens\)"):
            Esm3(layer=2, device="cpu").embed(["MK"])
    provide_esm(monkeypatch, NoEncode)
    with pytest.raises(InputError, match=r"unexpected ESM3.encode\(ESMProtein\)"):
        Esm3(layer=2, device="cpu").embed(["MKTAYI"], [backbone(6)])


# --- AlphaFold2


def test_pair_representations(tmp_path: Path) -> None:
    pairs = np.random.default_rng(0).normal(size=(4, 4, 128)).astype(np.float16)
    np.save(tmp_path / "one.npy", pairs)
    source = make_embedder(f"af2:{tmp_path}")
    assert isinstance(source, Af2Pairs)
    assert not isinstance(source, Embedder)
    found = source.read("one", "ACDE")
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), pairs.astype(np.float32))
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "cut.npy").write_bytes(b"PK\x03\x04cut")
    with (tmp_path / "npz.npy").open("wb") as file:
        np.savez(file, pairs=pairs)
    np.save(tmp_path / "text.npy", pairs.astype(str))
    for name in ("absent", "bad", "cut", "npz", "text"):
        refused(lambda name=name: source.read(name, "ACDE"), tmp_path / f"{name}.npy")
    refused(lambda: source.read("one", "ACDEF"), tmp_path / "one.npy", "(5, 5, 128)", "(4, 4, 128)")
    with pytest.raises(InputError, match="no such folder"):
        make_embedder("af2:elsewhere")


# --- lines and classifiers


@pytest.mark.parametrize("line", ["", "two-hot", "onehot:3", "dance", "dance:", "cache:", "af2", "esm1:PATH"])
def test_unknown_embedders(line: str) -> None:
    with pytest.raises(InputError, match="known are onehot, esm2"):
        make_embedder(line)


def test_classifier_and_source_go_together(tmp_path: Path) -> None:
    one_hot = Dyna1Config(width=24, heads=6)
    check_source(one_hot, OneHot())
    check_source(Dyna1Config(width=24, heads=6, embedder="onehot"), OneHot())
    check_source(Dyna1Config(width=4096, heads=8, pair_channels=128), Af2Pairs(tmp_path))
    with pytest.raises(InputError, match="trained on esm2 layer 3 ab, these are embeddings of onehot"):
        check_source(Dyna1Config(width=24, heads=6, embedder="esm2 layer 3 ab"), OneHot())
    with pytest.raises(InputError, match="embeddings of width 640, onehot gives embeddings of width 24"):
        check_source(Dyna1Config(width=640, heads=8), OneHot())
    with pytest.raises(InputError, match="reads embeddings of width 128, af2 gives pair representations of width 128"):
        check_source(Dyna1Config(width=128, heads=8), Af2Pairs(tmp_path))
