"""From sequences and structures to probabilities, tables, pictures and B-factors."""

from __future__ import annotations

import gzip
import http.client
import urllib.error
from unittest.mock import Mock

import gemmi
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from dyna1_inputs import logits_of_chain, random_classifier
from refusals import command_refused, refused
from torch import nn

from data_prepare.errors import InputWarning
from data_prepare.structure.readers import read_topology
from model.dyna1 import predict as exchange
from model.dyna1.classifier import Dyna1Config, p_exchange
from model.dyna1.embeddings import chains
from model.dyna1.embeddings.cache import write_cache
from model.dyna1.embeddings.chains import read_structure_chain
from model.dyna1.embeddings.embedders import Af2Pairs, OneHot
from model.dyna1.embeddings.source import ChainInput, Embedder
from model.dyna1.predict import check_source, default_embedder, predict_exchange
from model.network.weights import write_model
from seqdance.commands.dyna1 import predict as command

UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"


class Structural(Embedder):
    """A stand-in for ESM-3: one-hot letters (none where they are hidden) and the x coordinate of C-alpha."""

    fingerprint, width, reads_structure = "structural", 25, True

    def embed(self, sequences, structures=None):
        pairs = zip(OneHot().embed(sequences), structures, strict=True)
        x = [(rows, np.zeros(len(rows), np.float32) if atoms is None else atoms[:, 1, 0]) for rows, atoms in pairs]
        return [torch.cat([rows, torch.from_numpy(values)[:, None]], dim=1).nan_to_num() for rows, values in x]


def centred(embedder, bias=-3.0):
    """Classifier with probabilities in the middle of their range."""
    model = random_classifier(width=embedder.width, embedder=embedder.fingerprint)
    nn.init.constant_(model.classifier.output_layer.bias, bias)
    return model


def expected(embedder, chain):
    return p_exchange(logits_of_chain(centred(embedder), embedder, chain)).numpy()


@pytest.fixture
def weights(tmp_path):
    """A classifier of one-hot letters."""
    write_model(tmp_path / "weights", centred(OneHot()))
    return tmp_path / "weights"


@pytest.fixture
def structural(tmp_path, monkeypatch):
    """A classifier of letters and structures."""
    write_model(tmp_path / "structural", centred(Structural()))
    monkeypatch.setattr(exchange, "make_embedder", lambda line, device: Structural())
    monkeypatch.setattr(exchange, "default_embedder", lambda config: "structural")
    return tmp_path / "structural"


@pytest.fixture(scope="module")
def gapped(tmp_path_factory, examples):
    """Ubiquitin without coordinates of residues 8 to 11 and 73 to 76, which SEQRES declares, and a second chain."""
    with gzip.open(examples / "structures" / "1ubi_A.pdb.gz", "rt") as file:
        atoms = [line for line in file if line.startswith("ATOM")]
    names = list({int(line[22:26]): line[17:20] for line in atoms}.values())
    declared = [
        f"SEQRES {row + 1:3d} A {len(names):4d}  {' '.join(names[13 * row : 13 * row + 13])}\n" for row in range(6)
    ]
    kept = [line for line in atoms if int(line[22:26]) not in (8, 9, 10, 11, 73, 74, 75, 76)]
    other = [f"{line[:21]}B{line[22:]}" for line in atoms if int(line[22:26]) < 20]
    path = tmp_path_factory.mktemp("gapped") / "gapped.pdb"
    path.write_text("".join([*declared, *kept, "TER\n", *other, "END\n"]))
    return path


@pytest.fixture
def run(tmp_path):
    """Run the command and return the table NAME-Dyna1.csv of the folder `out`."""

    def run_command(weights, *words, name):
        command.main([str(word) for word in ("--weights", weights, *words, "--save-dir", tmp_path / "out")])
        return pd.read_csv(tmp_path / "out" / f"{name}-Dyna1.csv", keep_default_na=False)

    return run_command


def test_sequence(weights, tmp_path, run, capsys):
    table = run(weights, "--sequence", UBIQUITIN, "--name", "ubiquitin", name="ubiquitin")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ubiquitin-Dyna1.csv", "ubiquitin-Dyna1.png"]
    assert str(tmp_path / "out" / "ubiquitin-Dyna1.csv") in capsys.readouterr().out
    assert list(table) == ["position", "residue", "p_exchange"]
    assert list(table["position"]) == list(range(1, 77))
    assert "".join(table["residue"]) == UBIQUITIN
    p = expected(OneHot(), ChainInput("", UBIQUITIN))
    assert p.std() > 0.01
    np.testing.assert_allclose(table["p_exchange"], p, atol=1e-6)
    assert (tmp_path / "out" / "ubiquitin-Dyna1.png").read_bytes().startswith(b"\x89PNG")


def test_fasta(weights, tmp_path, run, capsys):
    fasta = tmp_path / "two.fasta"
    fasta.write_text(f">sp|P0CG48|UBC/1-76 text\n{UBIQUITIN}\n>NA\nMKXTAY\n")
    assert len(run(weights, "--fasta", fasta, name="NA")) == 6
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
    assert np.flatnonzero(np.isnan(chain.backbone).any(axis=(1, 2))).tolist() == unresolved
    other, given = UBIQUITIN[::-1], ["--pdb", gapped, "--chain", "A"]
    modes = {
        "both": ([*given, "--use_pdb_seq"], chain),
        "structure": (given, ChainInput("", UBIQUITIN, chain.backbone, sequence_seen=False)),
        "other": ([*given, "--sequence", f" {other.lower()}*"], ChainInput("", other, chain.backbone)),
        "sequence": (["--sequence", UBIQUITIN], ChainInput("", UBIQUITIN)),
    }
    found = set()
    for name, (words, seen) in modes.items():
        table = run(structural, *words, "--name", name, name=name)
        np.testing.assert_allclose(table["p_exchange"], expected(Structural(), seen), atol=1e-6)
        assert "".join(table["residue"]) == seen.sequence
        assert ("structure_residue" in table) == (name != "sequence")
        found.add(table["p_exchange"].to_numpy().tobytes())
    assert len(found) == 4


def test_structure_files_with_b_factors_and_gaps(structural, gapped, tmp_path, run):
    table = run(structural, "--pdb", gapped, "--chain", "A", "--write-pdb", tmp_path / "copy.pdb", name="gapped_A")
    labels = list(table["structure_residue"])
    assert labels[5:12] == ["A:LYS:6", "A:THR:7", "", "", "", "", "A:THR:12"]
    assert labels[71:] == ["A:ARG:72", "", "", "", ""]
    structure = gemmi.read_structure(str(tmp_path / "copy.pdb"))
    assert [len(chain) for chain in structure[0]] == [68, 19]
    for chain in structure[0]:
        for residue in chain:
            p = table["p_exchange"][residue.seqid.num - 1] if chain.name == "A" else 0.0
            assert all(atom.b_iso == pytest.approx(p, abs=0.0051) for atom in residue)
    structure = gemmi.read_structure(str(gapped))
    structure.setup_entities()
    structure.assign_label_seq_id()
    structure.make_mmcif_document().write_file(str(tmp_path / "gapped.cif"))
    words = ["--cif", tmp_path / "gapped.cif", "--chain", "A", "--write-pdb", tmp_path / "out" / "p.cif"]
    pd.testing.assert_frame_equal(table, run(structural, *words, name="gapped_A"))
    assert "_atom_site" in (tmp_path / "out" / "p.cif").read_text()
    for suffix, chain in ((".pml", "chain A"), (".cxc", "#1/A")):
        script = (tmp_path / "out" / "p").with_suffix(suffix).read_text()
        assert '"p.cif"' in script
        assert chain in script


@pytest.mark.parametrize("cached", [False, True])
def test_sources_without_structures_read_the_sequence(weights, gapped, tmp_path, run, capsys, cached):
    write_cache(tmp_path / "cache.h5", OneHot(), [ChainInput("gapped_A", UBIQUITIN)])
    words = ["--cache", tmp_path / "cache.h5"] if cached else []
    table = run(weights, "--pdb", gapped, "--chain", "A", *words, name="gapped_A")
    assert "onehot reads no structure" in capsys.readouterr().out
    np.testing.assert_allclose(table["p_exchange"], expected(OneHot(), ChainInput("", UBIQUITIN)), atol=1e-6)


def test_cached_embeddings(structural, weights, gapped, tmp_path, run, capsys, monkeypatch):
    cache = tmp_path / "cache.h5"
    given = ["--pdb", gapped, "--chain", "A", "--use-pdb-seq"]
    direct = run(structural, *given, name="gapped_A")
    monkeypatch.undo()  # the true make_embedder
    write_cache(cache, Structural(), [read_structure_chain(gapped, "A"), ChainInput("plain", UBIQUITIN)])
    cached = run(structural, *given, "--cache", cache, name="gapped_A")
    np.testing.assert_allclose(cached["p_exchange"], direct["p_exchange"], atol=1e-6)
    words = ["--weights", structural, *given, "--cache", cache, "--name", "plain"]  # made from the sequence alone
    command_refused(command.main, words, capsys, "plain", cache)
    words = ["--weights", weights, "--sequence", "MK", "--name", "x", "--cache", cache]
    command_refused(command.main, words, capsys, 24, "structural")


def test_the_first_chain_is_the_default(structural, gapped, tmp_path, run):
    words = ["--pdb", gapped, "--write-pdb", tmp_path / "copy.pdb", "--use-pdb-seq"]
    with pytest.warns(InputWarning, match="has chains A, B; A is used"):
        table = run(structural, *words, name="gapped_A")
    pd.testing.assert_frame_equal(table, run(structural, *words, "--chain", "A", name="gapped_A"))
    with pytest.warns(InputWarning, match="A is used"):
        run(structural, *words, name="gapped_A")
    structure = gemmi.read_structure(str(tmp_path / "copy.pdb"))
    assert {atom.b_iso for residue in structure[0]["B"] for atom in residue} == {0}
    assert min(atom.b_iso for residue in structure[0]["A"] for atom in residue) > 0
    refused(lambda: read_structure_chain(gapped, only=True), gapped, "A, B")


def test_code_of_a_pdb_entry(structural, gapped, tmp_path, run, monkeypatch, capsys):
    """The file of the entry is downloaded once, to the folder of the results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chains, "PDB_URL", f"file://{tmp_path}/pdb/{{}}.cif.gz")
    (tmp_path / "pdb").mkdir()
    document = gemmi.read_structure(str(gapped)).make_mmcif_document()
    (tmp_path / "pdb/1ABC.cif.gz").write_bytes(gzip.compress(document.as_string().encode()))
    words = ["--chain", "A", "--use-pdb-seq"]
    expected = run(structural, "--cif", tmp_path / "pdb/1ABC.cif.gz", *words, name="1ABC_A")
    table = run(structural, "--pdb", "1abc", *words, "--write-pdb", tmp_path / "copy.cif", name="1ABC_A")
    pd.testing.assert_frame_equal(table, expected)
    assert (tmp_path / "copy.cif").is_file()
    monkeypatch.setattr(chains.urllib.request, "urlopen", Mock(side_effect=AssertionError))
    pd.testing.assert_frame_equal(run(structural, "--pdb", "1abc", *words, name="1ABC_A"), expected)
    given = ["--weights", structural, "--save-dir", tmp_path / "out", "--pdb"]
    absent = urllib.error.HTTPError("u", 404, "Not Found", {}, None)
    for error, named in (
        (absent, "no entry 2XYZ"),
        (http.client.IncompleteRead(b""), "network"),
        (OSError(), "network"),
    ):
        monkeypatch.setattr(chains.urllib.request, "urlopen", Mock(side_effect=error))
        command_refused(command.main, [*given, "2xyz"], capsys, "2xyz", named)
    monkeypatch.setattr(chains.urllib.request, "urlopen", Mock(side_effect=AssertionError))
    command_refused(command.main, [*given, "folder/2xyz"], capsys, "folder/2xyz")  # a path is no code


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--sequence"),
        (["--pdb", "GAPPED", "--chain", "C"], "chain C"),
        (["--pdb", "GAPPED", "--fasta", "x.fasta"], "--fasta"),
        (["--pdb", "GAPPED", "--chain", "A", "--use-pdb-seq", "--sequence", "MK"], "--use-pdb-seq"),
        (["--pdb", "GAPPED", "--chain", "A", "--sequence", UBIQUITIN[:-1]], "76 residues (8 of them"),
        (["--sequence", "MK", "--use-pdb-seq"], "--use-pdb-seq"),
        (["--sequence", "MK", "--write-pdb", "x.pdb"], "--write-pdb"),
        (["--sequence", "MK<eos><cls>LV"], "one chain"),
        (["--sequence", "MQ-IF"], "'-'"),
        (["--sequence", "MQ<mask>IF"], "<mask>"),
        (["--sequence", "MK", "--cache", "x.h5", "--embedder", "onehot"], "--embedder"),
        (["--sequence", "MK", "--cache", "x.h5"], "x.h5"),
        (["--pdb", "1abc"], "1abc"),
        (["--pdb", "/proc/nope"], "/proc/nope: no such file"),
        (["--sequence", "MK", "--weights", "nowhere.pt"], "nowhere.pt"),
    ],
)
def test_wrong_options(weights, gapped, tmp_path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chains, "PDB_URL", f"file://{tmp_path}/pdb/{{}}.cif.gz")  # stands for no network
    given = [gapped if word == "GAPPED" else word for word in words]
    command_refused(command.main, ["--weights", weights, *given], capsys, named)
    assert not list(tmp_path.glob("*Dyna1*"))


def test_numbers_that_are_not_finite_are_refused(weights, tmp_path, capsys):
    write_model(tmp_path / "bad", centred(OneHot(), bias=torch.nan))
    write_cache(tmp_path / "bad.h5", OneHot(), [ChainInput("one", "MKTAY")])
    with h5py.File(tmp_path / "bad.h5", "a") as file:
        file["values"][2] = np.nan
    given = ["--sequence", "MKTAY", "--name", "one", "--save-dir", tmp_path / "out", "--weights"]
    command_refused(command.main, [*given, tmp_path / "bad"], capsys, "one", "weights")
    command_refused(command.main, [*given, weights, "--cache", tmp_path / "bad.h5"], capsys, "one", "embedding")
    assert not (tmp_path / "out").exists()


def test_pair_representations(tmp_path):
    model = random_classifier(width=256, heads=2, pair_channels=128)
    pairs = np.random.default_rng(0).normal(size=(4, 4, 128)).astype(np.float32)
    np.save(tmp_path / "one.npy", pairs)
    found = predict_exchange(model, Af2Pairs(tmp_path), ChainInput("one", "ACDE"))
    with torch.no_grad():
        logits = model(torch.from_numpy(pairs)[None], torch.zeros(1, 4, dtype=torch.bool))[0]
    np.testing.assert_allclose(found, p_exchange(logits), atol=1e-6)


def test_default_embedder():
    for width, embedder, line in [
        (1536, None, "esm3"),
        (640, None, "esm2"),
        (24, None, "onehot"),
        (24, "onehot", "onehot"),
        (640, "esm2 layer 12 0123456789abcdef", "esm2:12"),
    ]:
        assert default_embedder(Dyna1Config(width=width, heads=8, embedder=embedder)) == line
    for embedder in (None, "dance 0123456789abcdef"):
        config = Dyna1Config(width=480, heads=8, embedder=embedder)
        refused(lambda config=config: default_embedder(config), "--embedder", embedder or 480)


def test_classifier_and_source_go_together(tmp_path):
    check_source(Dyna1Config(width=4096, heads=8, pair_channels=128), Af2Pairs(tmp_path))
    for embedder in (None, "onehot"):
        check_source(Dyna1Config(width=24, heads=6, embedder=embedder), OneHot())
    for config, source, named in [
        (Dyna1Config(width=24, heads=6, embedder="esm2 layer 3 ab"), OneHot(), ("esm2 layer 3 ab", "onehot")),
        (Dyna1Config(width=640, heads=8), OneHot(), (640, 24)),
        (Dyna1Config(width=128, heads=8), Af2Pairs(tmp_path), ("embeddings", "pair representations")),
    ]:
        refused(lambda config=config, source=source: check_source(config, source), *named)


def test_out_of_memory_is_one_line(monkeypatch):
    allocator = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    model = centred(OneHot())
    for error in (torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError(allocator)):
        monkeypatch.setattr(model.classifier, "forward", Mock(side_effect=error))
        refused(lambda: predict_exchange(model, OneHot(), ChainInput("long", "MKT")), "long", "3 residues")
    monkeypatch.setattr(model.classifier, "forward", Mock(side_effect=ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        predict_exchange(model, OneHot(), ChainInput("long", "MKT"))


def test_chain_in_pieces(write_pdb):
    """TER inside a chain: its pieces are one chain for Dyna-1, in the order of the values of the B-factors."""
    atoms = [
        (name, residue, "A", number, (0.0, 30.0 * number, z), {"ter_before": number == 200 and name == "N"})
        for number, residue in ((1, "ALA"), (2, "GLY"), (200, "TRP"))
        for z, name in enumerate(("N", "CA", "C"))
    ]
    path = write_pdb(atoms)
    assert len(read_topology(path).chain_ids) == 2
    for chain in (read_structure_chain(path), read_structure_chain(path, "A")):
        assert chain.sequence == "AGW"
        assert chain.structure_residues == ("A:ALA:1", "A:GLY:2", "A:TRP:200")
        np.testing.assert_allclose(chain.backbone, [[[0, 30 * n, z] for z in range(3)] for n in (1, 2, 200)])
