"""From sequences and structures to probabilities, tables, pictures and B-factors."""

from __future__ import annotations

import gzip

import gemmi
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from refusals import command_refused, refused
from torch import nn

from data_prepare.structure.readers import read_topology
from model.dyna1.classifier import Classifier, Dyna1Config, p_exchange, save_dyna1
from model.dyna1.embeddings.cache import write_cache
from model.dyna1.embeddings.chains import read_structure_chain
from model.dyna1.embeddings.embedders import Af2Pairs, check_source, default_embedder
from model.dyna1.embeddings.language_models import OneHot
from model.dyna1.embeddings.source import ChainInput, Embedder
from model.dyna1.predict import predict_exchange, pymol_script
from seqdance.commands.dyna1 import predict as command

UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"


class Structural(Embedder):
    """A stand-in for ESM-3: one-hot letters (none where they are hidden) and the x coordinate of C-alpha."""

    width = 25
    fingerprint = "structural"
    reads_structure = True

    def embed(self, sequences, structures=None):
        return [
            torch.cat([letters, torch.zeros(len(letters), 1) if x is None else torch.from_numpy(x[:, 1, :1])], dim=1)
            .float()
            .nan_to_num()
            for letters, x in zip(OneHot().embed(sequences), structures, strict=True)
        ]


def random_classifier(width, embedder=None):
    torch.manual_seed(0)
    model = Classifier(Dyna1Config(width=width, layers=1, heads=1, feed_forward=16, embedder=embedder))
    for name, value in model.named_parameters():
        nn.init.normal_(value, 1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.4)
    nn.init.constant_(model.classifier.output_layer.bias, -3.0)  # the middle of the probabilities
    return model.eval()


@pytest.fixture
def weights(tmp_path):
    """A classifier of one-hot letters."""
    save_dyna1(random_classifier(24, "onehot"), tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def structural(tmp_path, monkeypatch):
    """A classifier of letters and structures."""
    save_dyna1(random_classifier(25, "structural"), tmp_path / "structural")
    monkeypatch.setattr(command, "make_embedder", lambda line, device: Structural())
    monkeypatch.setattr(command, "default_embedder", lambda config: "structural")
    return tmp_path / "structural"


@pytest.fixture(scope="module")
def gapped(tmp_path_factory, examples):
    """Ubiquitin without coordinates of residues 8 to 11 and 73 to 76, which SEQRES declares, and a second chain."""
    with gzip.open(examples / "structures" / "1ubi_A.pdb.gz", "rt") as file:
        atoms = [line for line in file if line.startswith("ATOM")]
    names = {int(line[22:26]): line[17:20] for line in atoms}
    declared = [
        f"SEQRES {row + 1:3d} A {len(names):4d}  {' '.join(list(names.values())[13 * row : 13 * row + 13])}\n"
        for row in range(-(-len(names) // 13))
    ]
    kept = [line for line in atoms if int(line[22:26]) not in (8, 9, 10, 11, 73, 74, 75, 76)]
    other = [f"{line[:21]}B{line[22:]}" for line in atoms if int(line[22:26]) < 20]
    path = tmp_path_factory.mktemp("gapped") / "gapped.pdb"
    path.write_text("".join([*declared, *kept, "TER\n", *other, "END\n"]))
    return path


@pytest.fixture
def run(tmp_path):
    """Run the command and return the table NAME-Dyna1.csv of the folder `out`."""

    def run_command(weights, *words, name=None):
        given = ["--weights", weights, *words, "--save-dir", tmp_path / "out", *(["--name", name] if name else [])]
        command.main(list(map(str, given)))
        path = tmp_path / "out" / f"{name}-Dyna1.csv" if name else next((tmp_path / "out").glob("*.csv"))
        return pd.read_csv(path, keep_default_na=False)

    return run_command


def expected(model, embedder, chain):
    embedding = embedder.embed([chain.visible_sequence], [chain.backbone])[0]
    with torch.no_grad():
        return p_exchange(model(embedding[None], torch.zeros(1, len(embedding), dtype=torch.bool))[0]).numpy()


def test_sequence(weights, tmp_path, run, capsys):
    table = run(weights, "--sequence", UBIQUITIN, name="ubiquitin")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ubiquitin-Dyna1.csv", "ubiquitin-Dyna1.png"]
    assert str(tmp_path / "out" / "ubiquitin-Dyna1.csv") in capsys.readouterr().out
    assert list(table) == ["position", "residue", "p_exchange"]
    assert list(table["position"]) == list(range(1, 77))
    assert "".join(table["residue"]) == UBIQUITIN
    p = expected(random_classifier(24), OneHot(), ChainInput("", UBIQUITIN))
    assert p.std() > 0.01
    np.testing.assert_allclose(table["p_exchange"], p, atol=1e-6)
    assert (tmp_path / "out" / "ubiquitin-Dyna1.png").read_bytes().startswith(b"\x89PNG")


def test_fasta(weights, tmp_path, run, capsys):
    fasta = tmp_path / "two.fasta"
    fasta.write_text(f">sp|P0CG48|UBC/1-76 text\n{UBIQUITIN}\n>NA\nMKXTAY\n")
    assert len(run(weights, "--fasta", fasta)) in (6, 76)
    names = {path.name for path in (tmp_path / "out").glob("*.csv")}
    assert names == {"sp_P0CG48_UBC_1-76-Dyna1.csv", "NA-Dyna1.csv"}
    words = ["--weights", weights, "--fasta", fasta]
    command_refused(command.main, [*words, "--name", "x"], capsys, "--name x")
    fasta.write_text(">a/b\nMK\n>a|b\nMK\n")
    command_refused(command.main, words, capsys, "a/b", "a|b")


def test_four_modes(structural, gapped, run):
    chain = read_structure_chain(gapped, "A")
    assert chain.sequence == UBIQUITIN
    unresolved = [7, 8, 9, 10, 72, 73, 74, 75]
    assert np.flatnonzero(np.isnan(chain.backbone).all(axis=(1, 2))).tolist() == unresolved
    assert np.isfinite(np.delete(chain.backbone, unresolved, axis=0)).all()
    other, given = UBIQUITIN[::-1], ["--pdb", gapped, "--chain", "A"]
    modes = {
        "both": ([*given, "--use_pdb_seq"], chain),
        "structure": (given, ChainInput("", UBIQUITIN, chain.backbone, sequence_seen=False)),
        "other": ([*given, "--sequence", other], ChainInput("", other, chain.backbone)),
        "sequence": (["--sequence", UBIQUITIN], ChainInput("", UBIQUITIN)),
    }
    found = set()
    for name, (words, seen) in modes.items():
        table = run(structural, *words, name=name)
        np.testing.assert_allclose(table["p_exchange"], expected(random_classifier(25), Structural(), seen), atol=1e-6)
        assert "".join(table["residue"]) == seen.sequence
        assert ("structure_residue" in table) == (name != "sequence")
        found.add(table["p_exchange"].to_numpy().tobytes())
    assert len(found) == 4


def test_b_factors_and_gaps(structural, gapped, tmp_path, run):
    table = run(structural, "--pdb", gapped, "--chain", "A", "--write_to_pdb")
    labels = list(table["structure_residue"])
    assert labels[5:12] == ["A:LYS:6", "A:THR:7", "", "", "", "", "A:THR:12"]
    assert labels[71:] == ["A:ARG:72", "", "", "", ""]
    structure = gemmi.read_structure(str(tmp_path / "out" / "gapped_A-Dyna1.pdb"))
    assert [len(chain) for chain in structure[0]] == [68, 19]
    for chain in structure[0]:
        for residue in chain:
            p = table["p_exchange"][residue.seqid.num - 1] if chain.name == "A" else 0.0
            assert all(atom.b_iso == pytest.approx(p, abs=0.0051) for atom in residue)


def test_mmcif_and_pymol(structural, gapped, tmp_path, run):
    structure = gemmi.read_structure(str(gapped))
    structure.setup_entities()
    structure.assign_label_seq_id()
    structure.make_mmcif_document().write_file(str(tmp_path / "gapped.cif"))
    one = run(structural, "--cif", tmp_path / "gapped.cif", "--chain", "A", "--write-pdb")
    pd.testing.assert_frame_equal(one, run(structural, "--pdb", gapped, "--chain", "A", name="pdb"))
    assert "_atom_site" in (tmp_path / "out" / "gapped_A-Dyna1.cif").read_text()
    script = (tmp_path / "out" / "gapped_A-Dyna1.pml").read_text().splitlines()
    assert script[0] == "load gapped_A-Dyna1.cif, dyna1"
    putty = {"transform": "6", "radius": "0.25", "range": "0.1", "scale_max": "10"}
    lines = [f"set cartoon_putty_{name}, {value}" for name, value in putty.items()]
    assert {"cartoon putty, dyna1 and chain A", *lines} <= set(script)
    blank = ChainInput("", "M", structure_residues=("X:MET:1",))
    assert "cartoon putty, dyna1" in pymol_script("x.pdb", blank).splitlines()


@pytest.mark.parametrize("cached", [False, True])
def test_sources_without_structures_read_the_sequence(weights, gapped, tmp_path, run, capsys, cached):
    write_cache(tmp_path / "cache.h5", OneHot(), [ChainInput("gapped_A", UBIQUITIN)])
    words = ["--cache", tmp_path / "cache.h5"] if cached else []
    table = run(weights, "--pdb", gapped, "--chain", "A", *words)
    assert "onehot reads no structure" in capsys.readouterr().out
    p = expected(random_classifier(24), OneHot(), ChainInput("", UBIQUITIN))
    np.testing.assert_allclose(table["p_exchange"], p, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--sequence"),
        (["--pdb", "GAPPED"], "A, B"),
        (["--pdb", "GAPPED", "--chain", "C"], "chain C"),
        (["--pdb", "GAPPED", "--cif", "GAPPED"], "--cif"),
        (["--pdb", "GAPPED", "--fasta", "x.fasta"], "--fasta"),
        (["--pdb", "GAPPED", "--chain", "A", "--use-pdb-seq", "--sequence", "MK"], "--use-pdb-seq"),
        (["--pdb", "GAPPED", "--chain", "A", "--sequence", UBIQUITIN[:-1]], "76 residues (8 of them"),
        (["--sequence", "MK", "--use-pdb-seq"], "--use-pdb-seq"),
        (["--sequence", "MK", "--chain", "A"], "--chain A"),
        (["--sequence", "MK", "--write-pdb"], "--write-pdb"),
        (["--sequence", "MK<eos><cls>LV"], "one chain"),
        (["--sequence", "MK1"], "'1'"),
        (["--sequence", "MQ-IF"], "'-'"),
        (["--sequence", "MQ<mask>IF"], "<mask>"),
        (["--sequence", "MK", "--cache", "x.h5", "--embedder", "onehot"], "--embedder"),
        (["--sequence", "MK", "--cache", "x.h5"], "x.h5"),
        (["--pdb", "1abc"], "1abc"),
        (["--sequence", "MK", "--weights", "nowhere.pt"], "nowhere.pt"),
    ],
)
def test_wrong_options(weights, gapped, tmp_path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(tmp_path)
    given = [str(gapped) if word == "GAPPED" else word for word in words]
    command_refused(command.main, ["--weights", weights, *given], capsys, named)
    assert not list(tmp_path.glob("*Dyna1*"))


def test_cached_embeddings(structural, weights, gapped, tmp_path, run, capsys, monkeypatch):
    cache = tmp_path / "cache.h5"
    given = ["--pdb", gapped, "--chain", "A", "--use-pdb-seq"]
    direct = run(structural, *given, name="direct")
    monkeypatch.undo()  # the true make_embedder
    write_cache(cache, Structural(), [read_structure_chain(gapped, "A"), ChainInput("plain", UBIQUITIN)])
    cached = run(structural, *given, "--cache", cache, name="gapped_A")
    np.testing.assert_allclose(cached["p_exchange"], direct["p_exchange"], atol=1e-6)
    for name in ("plain", "absent"):  # made from the sequence alone; not there
        words = ["--weights", structural, *given, "--cache", cache, "--name", name]
        command_refused(command.main, words, capsys, name, cache)
    words = ["--weights", weights, "--sequence", "MK", "--name", "x", "--cache", cache]
    command_refused(command.main, words, capsys, 24, "structural")


def test_pair_representations(tmp_path):
    torch.manual_seed(0)
    model = Classifier(Dyna1Config(width=256, layers=1, heads=2, feed_forward=8, pair_channels=128)).eval()
    pairs = np.random.default_rng(0).normal(size=(4, 4, 128)).astype(np.float32)
    np.save(tmp_path / "one.npy", pairs)
    found = predict_exchange(model, Af2Pairs(tmp_path), ChainInput("one", "ACDE"))
    with torch.no_grad():
        logits = model(torch.from_numpy(pairs)[None], torch.zeros(1, 4, dtype=torch.bool))[0]
    np.testing.assert_allclose(found, p_exchange(logits), atol=1e-6)


@pytest.mark.parametrize(
    ("width", "embedder", "line"),
    [
        (1536, None, "esm3"),
        (640, None, "esm2"),
        (24, None, "onehot"),
        (24, "onehot", "onehot"),
        (640, "esm2 layer 12 0123456789abcdef", "esm2:12"),
        (1536, "esm3 layer 22 0123456789abcdef", "esm3:22"),
        (480, None, None),
        (480, "dance 0123456789abcdef", None),
    ],
)
def test_default_embedder(width, embedder, line):
    config = Dyna1Config(width=width, heads=8, embedder=embedder)
    if line:
        assert default_embedder(config) == line
    else:
        refused(lambda: default_embedder(config), "--embedder", embedder or width)


def test_classifier_and_source_go_together(tmp_path):
    pairs = Dyna1Config(width=4096, heads=8, pair_channels=128)
    check_source(pairs, Af2Pairs(tmp_path))
    for embedder in (None, "onehot"):
        check_source(Dyna1Config(width=24, heads=6, embedder=embedder), OneHot())
    for config, source, named in [
        (Dyna1Config(width=24, heads=6, embedder="esm2 layer 3 ab"), OneHot(), ("esm2 layer 3 ab", "onehot")),
        (Dyna1Config(width=640, heads=8), OneHot(), (640, 24)),
        (Dyna1Config(width=128, heads=8), Af2Pairs(tmp_path), ("embeddings", "pair representations")),
    ]:
        refused(lambda config=config, source=source: check_source(config, source), *named)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_is_one_line(monkeypatch, error):
    def forward(*_):
        raise error

    model = random_classifier(24)
    monkeypatch.setattr(model.classifier, "forward", forward)
    refused(lambda: predict_exchange(model, OneHot(), ChainInput("long", "MKT")), "long", "3 residues")
    monkeypatch.setattr(model.classifier, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_exchange(model, OneHot(), ChainInput("long", "MKT"))


def test_chain_in_pieces(write_pdb):
    """TER inside a chain: its pieces are one chain for Dyna-1, in the order of the values of the B-factors."""
    atoms = [
        (name, residue, "A", number, (0.0, 30.0 * number, place), {"ter_before": number == 200 and name == "N"})
        for number, residue in ((1, "ALA"), (2, "GLY"), (200, "TRP"))
        for place, name in enumerate(("N", "CA", "C"))
    ]
    path = write_pdb(atoms)
    assert len(read_topology(path).chain_ids) == 2
    for chain in (read_structure_chain(path), read_structure_chain(path, "A")):
        assert chain.sequence == "AGW"
        assert chain.structure_residues == ("A:ALA:1", "A:GLY:2", "A:TRP:200")
        np.testing.assert_allclose(chain.backbone, [[[0, 30 * n, p] for p in range(3)] for n in (1, 2, 200)])


def test_numbers_that_are_not_finite_are_refused(weights, tmp_path, capsys):
    model = random_classifier(24, "onehot")
    nn.init.constant_(model.classifier.output_layer.bias, torch.nan)
    save_dyna1(model, tmp_path / "bad")
    write_cache(tmp_path / "bad.h5", OneHot(), [ChainInput("one", "MKTAY")])
    with h5py.File(tmp_path / "bad.h5", "a") as file:
        file["values"][2] = np.nan
    given = ["--sequence", "MKTAY", "--name", "one", "--save-dir", tmp_path / "out", "--weights"]
    command_refused(command.main, [*given, tmp_path / "bad"], capsys, "one", "weights")
    command_refused(command.main, [*given, weights, "--cache", tmp_path / "bad.h5"], capsys, "one", "embedding")
    assert not (tmp_path / "out").exists()
