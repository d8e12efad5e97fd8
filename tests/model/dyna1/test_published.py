"""`dyna1.py` and `dyna1-esm2.py`: files as other programs read them, weights where people have put them."""

from __future__ import annotations

import gzip
import tomllib
from importlib import import_module
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pytest
import torch
from dyna1_inputs import logits_of_chain, random_classifier
from refusals import command_refused
from torch import nn

from model.choices import ESM_PACKAGE
from model.dyna1 import predict as exchange
from model.dyna1 import published as module
from model.dyna1.classifier import Classifier, p_exchange
from model.dyna1.embeddings.embedders import OneHot
from model.dyna1.embeddings.source import ChainInput, Embedder
from model.network.weights import write_model
from seqdance.commands.dyna1 import published as command

ROOT = Path(__file__).resolve().parents[3]
LETTERS = "MQIFVKTLTGKTITLEVEPS"  # of chain A of the test structure
WITHOUT = range(8, 13)  # residues of chain A without coordinates


class Structural(Embedder):
    """A stand-in for ESM-3: one-hot letters (none where they are hidden) and the x coordinate of C-alpha."""

    fingerprint, width, reads_structure = "structural", 25, True

    def embed(self, sequences, structures=None):
        pairs = zip(OneHot().embed(sequences), structures, strict=True)
        x = [(rows, np.zeros(len(rows), np.float32) if atoms is None else atoms[:, 1, 0]) for rows, atoms in pairs]
        return [torch.cat([rows, torch.from_numpy(values)[:, None]], dim=1) for rows, values in x]


def classifier(embedder: Embedder) -> Classifier:
    model = random_classifier(width=embedder.width, embedder=embedder.fingerprint)
    nn.init.constant_(model.classifier.output_layer.bias, -3.0)  # probabilities in the middle of their range
    return model


def expected(embedder: Embedder, chain: ChainInput) -> np.ndarray:
    return p_exchange(logits_of_chain(classifier(embedder), embedder, chain)).numpy()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: Path) -> None:
    """Run in a folder with x.pdb: 20 residues of ubiquitin, of which some lack coordinates, a chain B and water."""
    monkeypatch.chdir(tmp_path)
    with gzip.open(examples / "structures" / "1ubi_A.pdb.gz", "rt") as file:
        atoms = [line for line in file if line.startswith("ATOM") and int(line[22:26]) <= 20]
    names = list({int(line[22:26]): line[17:20] for line in atoms}.values())
    declared = [f"SEQRES {k + 1:3d} A   20  {' '.join(names[13 * k : 13 * k + 13])}\n" for k in range(2)]
    kept = [line for line in atoms if int(line[22:26]) not in WITHOUT]
    other = [f"{line[:21]}B{line[22:]}" for line in atoms if int(line[22:26]) < 10]
    water = atoms[0].replace("ATOM  ", "HETATM").replace(" N   MET A   1", " O   HOH A 101")
    Path("x.pdb").write_text("".join([*declared, *kept, "TER\n", *other, "TER\n", water, "END\n"]))


@pytest.fixture
def esm3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights in model/weights/dyna1.pt, and the stand-in as language model."""
    Path("model/weights").mkdir(parents=True)
    torch.save(classifier(Structural()).state_dict(), "model/weights/dyna1.pt")
    found = classifier(Structural())
    monkeypatch.setattr(exchange, "load_dyna1", lambda path, device, padding: asked.append(path) or found)
    monkeypatch.setattr(exchange, "make_embedder", lambda line, device: Structural())
    monkeypatch.setattr(exchange, "default_embedder", lambda config: "structural")
    monkeypatch.setattr(command, "has_esm3", lambda: True)
    asked.clear()


asked: list[str] = []


def run(words: str, script=command.dyna1) -> None:
    script([*words.split(), "--device", "cpu"])


def structure() -> ChainInput:
    whole = module.published_chain(None, Path("x.pdb"), "A", True)[0]
    assert whole.sequence == "".join(LETTERS[k - 1] for k in range(1, 21) if k not in WITHOUT)
    return whole


def test_sequence_and_structure(esm3, capsys: pytest.CaptureFixture) -> None:
    """A row per residue with coordinates; the same numbers as B-factors of this chain alone."""
    run("--pdb x.pdb --chain A --use_pdb_seq --write_to_pdb --name mine --save_dir out")
    assert capsys.readouterr().out.split() == ["out/mine-Dyna1.csv", "out/mine-Dyna1.pdb"]
    assert asked == ["model/weights/dyna1.pt"]
    table = pd.read_csv("out/mine-Dyna1.csv")
    assert list(table) == ["position", "residue", "p_exchange"]
    assert list(table["position"]) == list(range(1, len(table) + 1))
    assert "".join(table["residue"]) == structure().sequence
    np.testing.assert_allclose(table["p_exchange"], expected(Structural(), structure()), atol=1e-6)
    (model,) = gemmi.read_structure("out/mine-Dyna1.pdb")
    assert [chain.name for chain in model] == ["A"]
    assert [residue.seqid.num for residue in model["A"]] == [k for k in range(1, 21) if k not in WITHOUT]
    for residue, p in zip(model["A"], table["p_exchange"], strict=True):
        assert [atom.b_iso for atom in residue] == pytest.approx([p] * len(residue), abs=0.006)


def test_other_inputs(esm3) -> None:
    """The structure alone; another sequence on it, in any case; the sequence alone; a chain by its letter or found."""
    seen = structure()
    hidden = ChainInput("", seen.sequence, seen.backbone, sequence_seen=False)
    other = "A" * len(seen.sequence)
    for words, name, chain in (
        ("--pdb x.pdb", "x", hidden),
        (f"--pdb x.pdb --sequence {other.lower()}", "x", ChainInput("", other, seen.backbone)),
        (f"--sequence {LETTERS}", "sequence", ChainInput("", LETTERS)),
        ("--pdb x.pdb --chain detect", "x", hidden),
    ):
        run(words)
        p = pd.read_csv(f"{name}-Dyna1.csv")["p_exchange"]
        np.testing.assert_allclose(p, expected(Structural(), chain), atol=1e-6, err_msg=words)
    run("--pdb x.pdb --chain B --use_pdb_seq")
    assert "".join(pd.read_csv("x-Dyna1.csv")["residue"]) == LETTERS[:9]


def test_esm2_names_its_files_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """NAME.csv with --name, and a suffix without; structures give their sequence. Weights are given here."""
    write_model("own", classifier(OneHot()))
    run(f"--sequence {LETTERS} --name mine --weights own", command.dyna1_esm2)
    run("--pdb x.pdb --weights own", command.dyna1_esm2)
    table = pd.read_csv("mine.csv")
    assert "".join(table["residue"]) == LETTERS
    np.testing.assert_allclose(table["p_exchange"], expected(OneHot(), ChainInput("", LETTERS)), atol=1e-6)
    assert "".join(pd.read_csv("x-Dyna1_ESM2.csv")["residue"]) == structure().sequence


def test_where_weights_are() -> None:
    assert module.published_weights("dyna1-esm2.pt") == "gelnesr/Dyna-1/dyna1-esm2.pt"
    for folder in ("weights", "model/weights"):
        Path(folder).mkdir(parents=True)
        Path(folder, "dyna1-esm2.pt").touch()
        assert module.published_weights("dyna1-esm2.pt") == f"{folder}/dyna1-esm2.pt"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("", ["--sequence", "--pdb"]),
        ("--sequence MKV --write_to_pdb", ["--write_to_pdb", "--pdb"]),
        ("--pdb x.pdb --sequence MKV", ["x.pdb", "3"]),
        ("--pdb x.pdb --chain C", ["x.pdb", "C", "A"]),
        ("--sequence MK1", ["residue 3", "'1'"]),
        ("--pdb none.pdb", ["none.pdb"]),
    ],
)
def test_refused(esm3, capsys: pytest.CaptureFixture, words: str, named: list[str]) -> None:
    command_refused(command.dyna1, words.split(), capsys, *named)
    assert not list(Path().glob("*-Dyna1*"))


def test_without_esm3(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "has_esm3", lambda: False)
    line = command_refused(command.dyna1, ["--sequence", "MKV"], capsys, "ESM-3", ESM_PACKAGE)
    assert "dyna1-esm2.py" in line


def test_on_the_path() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, function in (("dyna1.py", "dyna1"), ("dyna1-esm2.py", "dyna1_esm2")):
        place, _, attribute = scripts[name].partition(":")
        assert getattr(import_module(place), attribute).args == (f"seqdance.commands.dyna1.published:{function}",)
