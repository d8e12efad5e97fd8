import gzip
from collections.abc import Sequence
from pathlib import Path

import gemmi
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from data_prepare.errors import InputError
from data_prepare.structure.readers import read_topology
from model.dyna1 import predict as command
from model.dyna1.classifier import Classifier, Dyna1Config, p_exchange
from model.dyna1.embeddings.af2 import Af2Pairs
from model.dyna1.embeddings.cache import write_cache
from model.dyna1.embeddings.chains import ChainInput, chain_inputs, read_chain
from model.dyna1.embeddings.language_models import OneHot
from model.dyna1.embeddings.source import Backbone, Embedder
from model.dyna1.loading import save_dyna1
from model.dyna1.predict import predict_exchange, pymol_script
from model.dyna1.sources import default_embedder

UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"


class Structural(Embedder):
    """A stand-in for ESM-3: one-hot letters (none where they are hidden) and the x coordinate of C-alpha."""

    width = 25
    fingerprint = "structural"
    reads_structure = True

    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        assert structures is not None
        return [
            torch.cat(
                [
                    letters,
                    torch.from_numpy(np.zeros(len(letters)) if x is None else np.nan_to_num(x[:, 1, 0])).float()[
                        :, None
                    ],
                ],
                dim=1,
            )
            for letters, x in zip(OneHot().embed(sequences), structures, strict=True)
        ]


def random_classifier(width: int, embedder: str | None) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(Dyna1Config(width=width, layers=1, heads=1, feed_forward=16, embedder=embedder))
    for name, value in model.named_parameters():
        nn.init.normal_(value, 1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.4)
    nn.init.constant_(model.classifier.output_layer.bias, -3.0)  # the middle of the probabilities
    return model.eval()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A classifier of one-hot letters."""
    save_dyna1(random_classifier(24, "onehot"), tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def structural(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A classifier of letters and structures."""
    save_dyna1(random_classifier(25, "structural"), tmp_path / "structural")
    monkeypatch.setattr(command, "make_embedder", lambda line, device: Structural())
    monkeypatch.setattr(command, "default_embedder", lambda config: "structural")
    return tmp_path / "structural"


@pytest.fixture(scope="module")
def gapped(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """Ubiquitin without coordinates of residues 8 to 11 and 73 to 76, which SEQRES declares, and a second chain."""
    with gzip.open(examples / "structures" / "1ubi_A.pdb.gz", "rt") as file:
        atoms = [line for line in file if line.startswith("ATOM")]
    names: dict[int, str] = {int(line[22:26]): line[17:20] for line in atoms}
    declared = [
        f"SEQRES {row + 1:3d} A {len(names):4d}  {' '.join(list(names.values())[13 * row : 13 * row + 13])}\n"
        for row in range(-(-len(names) // 13))
    ]
    kept = [line for line in atoms if int(line[22:26]) not in (8, 9, 10, 11, 73, 74, 75, 76)]
    other = [f"{line[:21]}B{line[22:]}" for line in atoms if int(line[22:26]) < 20]
    path = tmp_path_factory.mktemp("gapped") / "gapped.pdb"
    path.write_text("".join([*declared, *kept, "TER\n", *other, "END\n"]))
    return path


def run(*arguments: object) -> None:
    command.main([str(argument) for argument in arguments])


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of an error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def expected(model: Classifier, embedder: Embedder, entry: ChainInput) -> np.ndarray:
    embedding = embedder.embed([entry.visible_sequence], [entry.backbone])[0]
    with torch.no_grad():
        return p_exchange(model(embedding[None], torch.zeros(1, len(embedding), dtype=torch.bool))[0]).numpy()


def test_sequence(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--weights", weights, "--sequence", UBIQUITIN, "--save-dir", tmp_path / "out", "--name", "ubiquitin")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ubiquitin-Dyna1.csv", "ubiquitin-Dyna1.png"]
    assert str(tmp_path / "out" / "ubiquitin-Dyna1.csv") in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "ubiquitin-Dyna1.csv")
    assert list(table) == ["position", "residue", "p_exchange"]
    assert list(table["position"]) == list(range(1, 77))
    assert "".join(table["residue"]) == UBIQUITIN
    p = expected(random_classifier(24, None), OneHot(), ChainInput("", UBIQUITIN))
    assert p.std() > 0.01
    np.testing.assert_allclose(table["p_exchange"], p, atol=1e-6)
    assert (tmp_path / "out" / "ubiquitin-Dyna1.png").read_bytes().startswith(b"\x89PNG")


def test_fasta(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fasta = tmp_path / "two.fasta"
    fasta.write_text(f">sp|P0CG48|UBC/1-76 text\n{UBIQUITIN}\n>NA\nMKXTAY\n")
    run("--weights", weights, "--fasta", fasta, "--save-dir", tmp_path)
    assert len(pd.read_csv(tmp_path / "sp_P0CG48_UBC_1-76-Dyna1.csv")) == 76
    assert "".join(pd.read_csv(tmp_path / "NA-Dyna1.csv")["residue"]) == "MKXTAY"
    assert "have names of their own" in fails(capsys, "--weights", weights, "--fasta", fasta, "--name", "x")
    fasta.write_text(">a/b\nMK\n>a|b\nMK\n")
    assert "a/b and a|b would both be written as a_b" in fails(capsys, "--weights", weights, "--fasta", fasta)


@pytest.mark.parametrize(
    ("sequence", "reason"),
    [
        ("MQ-IF", "--sequence, residue 3: '-' is not an amino acid; remove the gaps"),
        ("MQ<mask>IF", "sequence: <mask> is no residue; write unknown residues as X"),
    ],
)
def test_gaps_are_no_residues(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], sequence: str, reason: str
) -> None:
    assert reason in fails(capsys, "--weights", weights, "--sequence", sequence, "--save-dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_four_modes(structural: Path, gapped: Path, tmp_path: Path) -> None:
    model = random_classifier(25, None)
    chain = read_chain(gapped, "A")
    assert chain.sequence == UBIQUITIN
    assert chain.backbone is not None
    assert np.isnan(chain.backbone[7:11]).all()
    assert np.isnan(chain.backbone[72:]).all()
    assert np.isfinite(chain.backbone[11:72]).all()
    other = UBIQUITIN[::-1]
    modes = {
        "both": (["--pdb", gapped, "--chain", "A", "--use_pdb_seq"], chain),
        "structure": (
            ["--pdb", gapped, "--chain", "A"],
            ChainInput("", UBIQUITIN, chain.backbone, sequence_seen=False),
        ),
        "other": (["--pdb", gapped, "--chain", "A", "--sequence", other], ChainInput("", other, chain.backbone)),
        "sequence": (["--sequence", UBIQUITIN], ChainInput("", UBIQUITIN)),
    }
    found = {}
    for name, (arguments, entry) in modes.items():
        run("--weights", structural, *arguments, "--name", name, "--save_dir", tmp_path)
        table = pd.read_csv(tmp_path / f"{name}-Dyna1.csv")
        found[name] = table["p_exchange"].to_numpy()
        np.testing.assert_allclose(found[name], expected(model, Structural(), entry), atol=1e-6)
        assert "".join(table["residue"]) == entry.sequence
        assert ("structure_residue" in table) == (name != "sequence")
    assert len({values.tobytes() for values in found.values()}) == 4


def test_b_factors_and_gaps(structural: Path, gapped: Path, tmp_path: Path) -> None:
    run("--weights", structural, "--pdb", gapped, "--chain", "A", "--write_to_pdb", "--save-dir", tmp_path)
    table = pd.read_csv(tmp_path / "gapped_A-Dyna1.csv", keep_default_na=False)
    assert list(table) == ["position", "residue", "p_exchange", "structure_residue"]
    labels = list(table["structure_residue"])
    assert labels[5:12] == ["A:LYS:6", "A:THR:7", "", "", "", "", "A:THR:12"]
    assert labels[71:] == ["A:ARG:72", "", "", "", ""]
    of_number = dict(zip(table["position"], table["p_exchange"], strict=True))
    structure = gemmi.read_structure(str(tmp_path / "gapped_A-Dyna1.pdb"))
    assert [len(chain) for chain in structure[0]] == [68, 19]
    for chain in structure[0]:
        for residue in chain:
            p = of_number[residue.seqid.num] if chain.name == "A" else 0.0
            assert all(atom.b_iso == pytest.approx(p, abs=0.0051) for atom in residue)


def test_mmcif_and_pymol(structural: Path, gapped: Path, tmp_path: Path) -> None:
    structure = gemmi.read_structure(str(gapped))
    structure.setup_entities()
    structure.assign_label_seq_id()
    structure.make_mmcif_document().write_file(str(tmp_path / "gapped.cif"))
    run(
        "--weights", structural, "--cif", tmp_path / "gapped.cif", "--chain", "A", "--write-pdb", "--save-dir", tmp_path
    )
    run("--weights", structural, "--pdb", gapped, "--chain", "A", "--save-dir", tmp_path, "--name", "pdb")
    one, other = (pd.read_csv(tmp_path / f"{name}-Dyna1.csv") for name in ("gapped_A", "pdb"))
    pd.testing.assert_frame_equal(one, other)
    assert "_atom_site" in (tmp_path / "gapped_A-Dyna1.cif").read_text()
    script = (tmp_path / "gapped_A-Dyna1.pml").read_text().splitlines()
    assert script[0] == "load gapped_A-Dyna1.cif, dyna1"
    for line in (
        "cartoon putty, dyna1 and chain A",
        "set cartoon_putty_transform, 6",
        "set cartoon_putty_radius, 0.25",
        "set cartoon_putty_range, 0.1",
        "set cartoon_putty_scale_max, 10",
    ):
        assert line in script
    assert (
        "cartoon putty, dyna1"
        in pymol_script("x.pdb", ChainInput("", "M", structure_residues=("X:MET:1",))).splitlines()
    )


def test_embedders_without_structures_take_the_sequence(
    weights: Path, gapped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--weights", weights, "--pdb", gapped, "--chain", "A", "--save-dir", tmp_path)
    assert "onehot reads no structure: predicted from the sequence of the chain" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "gapped_A-Dyna1.csv")
    p = expected(random_classifier(24, None), OneHot(), ChainInput("", UBIQUITIN))
    np.testing.assert_allclose(table["p_exchange"], p, atol=1e-6)


def test_lengths_must_agree(weights: Path, gapped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, "--weights", weights, "--pdb", gapped, "--chain", "A", "--sequence", UBIQUITIN[:-1])
    assert "the chain has 76 residues (8 of them without coordinates), the sequence for gapped_A has 75" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "exactly one of"),
        (["--pdb", "GAPPED"], "chains A, B; choose one with --chain"),
        (["--pdb", "GAPPED", "--chain", "C"], "no chain C; it has A, B"),
        (["--pdb", "GAPPED", "--cif", "GAPPED"], "--pdb and --cif are given"),
        (["--pdb", "GAPPED", "--fasta", "x.fasta"], "--fasta and a structure are given"),
        (["--pdb", "GAPPED", "--chain", "A", "--use-pdb-seq", "--sequence", "MK"], "--use-pdb-seq and --sequence"),
        (["--sequence", "MK", "--use-pdb-seq"], "--use-pdb-seq goes with"),
        (["--sequence", "MK", "--chain", "A"], "--chain A requires"),
        (["--sequence", "MK", "--write-pdb"], "--write-pdb needs the structure"),
        (["--sequence", "MK<eos><cls>LV"], "one chain at a time"),
        (["--sequence", "MK1"], "--sequence, residue 3: '1' is not an amino acid"),
        (["--sequence", "MK", "--cache", "x.h5", "--embedder", "onehot"], "--cache and --embedder are given"),
        (["--sequence", "MK", "--cache", "x.h5"], "x.h5: no such cache"),
        (["--pdb", "1abc"], "1abc: no such file"),
        (["--sequence", "MK", "--weights", "nowhere.pt"], "nowhere.pt: no such file or folder"),
    ],
)
def test_wrong_options(
    weights: Path,
    gapped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(gapped) if word == "GAPPED" else word for word in arguments]
    assert message in fails(capsys, "--weights", weights, *given)
    assert not list(tmp_path.glob("*Dyna1*"))


def test_cached_embeddings(
    structural: Path, gapped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--weights", structural, "--pdb", gapped, "--chain", "A", "--use-pdb-seq", "--save-dir", tmp_path)
    run(*given, "--name", "direct")
    monkeypatch.undo()  # the true make_embedder
    write_cache(tmp_path / "cache.h5", Structural(), [read_chain(gapped, "A"), ChainInput("plain", UBIQUITIN)])
    run(*given, "--cache", tmp_path / "cache.h5")
    a, b = (pd.read_csv(tmp_path / f"{name}-Dyna1.csv")["p_exchange"] for name in ("direct", "gapped_A"))
    np.testing.assert_allclose(a, b, atol=1e-6)
    line = fails(capsys, *given, "--cache", tmp_path / "cache.h5", "--name", "plain")
    assert "plain: made from sequence, asked for sequence+structure" in line
    line = fails(capsys, *given, "--cache", tmp_path / "cache.h5", "--name", "absent")
    assert "no embedding of absent" in line


def test_cache_of_another_embedder(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = OneHot()
    other.fingerprint = "another"
    write_cache(tmp_path / "cache.h5", other, [ChainInput("x", "MK")])
    given = ("--weights", weights, "--sequence", "MK", "--name", "x", "--cache", tmp_path / "cache.h5")
    assert "trained on onehot, these are embeddings of another" in fails(capsys, *given)


def test_cache_without_structures_serves_them(weights: Path, gapped: Path, tmp_path: Path) -> None:
    write_cache(tmp_path / "cache.h5", OneHot(), [ChainInput("gapped_A", UBIQUITIN)])
    run("--weights", weights, "--pdb", gapped, "--chain", "A", "--cache", tmp_path / "cache.h5", "--save-dir", tmp_path)
    assert len(pd.read_csv(tmp_path / "gapped_A-Dyna1.csv")) == 76


def test_pair_representations(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier(Dyna1Config(width=256, layers=1, heads=2, feed_forward=8, pair_channels=128)).eval()
    pairs = np.random.default_rng(0).normal(size=(4, 4, 128)).astype(np.float32)
    np.save(tmp_path / "one.npy", pairs)
    found = predict_exchange(model, Af2Pairs(tmp_path), ChainInput("one", "ACDE"))
    with torch.no_grad():
        logits = model(torch.from_numpy(pairs)[None], torch.zeros(1, 4, dtype=torch.bool))[0]
    np.testing.assert_allclose(found, p_exchange(logits), atol=1e-6)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (Dyna1Config(width=1536, heads=6), "esm3"),
        (Dyna1Config(width=640, heads=8), "esm2"),
        (Dyna1Config(width=24, heads=6), "onehot"),
        (Dyna1Config(width=24, heads=6, embedder="onehot"), "onehot"),
        (Dyna1Config(width=640, heads=8, embedder="esm2 layer 12 0123456789abcdef"), "esm2:12"),
        (Dyna1Config(width=1536, heads=6, embedder="esm3 layer 22 0123456789abcdef"), "esm3:22"),
    ],
)
def test_default_embedder(config: Dyna1Config, line: str) -> None:
    assert default_embedder(config) == line


@pytest.mark.parametrize(
    "config", [Dyna1Config(width=480, heads=8), Dyna1Config(width=480, heads=8, embedder="dance 0123456789abcdef")]
)
def test_no_default_embedder(config: Dyna1Config) -> None:
    with pytest.raises(InputError, match="--embedder"):
        default_embedder(config)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def forward(*_: object) -> Tensor:
        raise error

    model = random_classifier(24, None)
    monkeypatch.setattr(model.classifier, "forward", forward)
    with pytest.raises(InputError, match=r"^long: 3 residues do not fit into the memory \(cpu\)"):
        predict_exchange(model, OneHot(), ChainInput("long", "MKT"))
    monkeypatch.setattr(model.classifier, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_exchange(model, OneHot(), ChainInput("long", "MKT"))


def test_chain_in_pieces(tmp_path: Path, write_pdb) -> None:
    """TER inside a chain: its pieces are one chain for Dyna-1, in the order of the values of the B-factors."""
    atoms = [
        (name, residue, "A", number, (0.0, 30.0 * number, place), {"ter_before": number == 200 and name == "N"})
        for number, residue in ((1, "ALA"), (2, "GLY"), (200, "TRP"))
        for place, name in enumerate(("N", "CA", "C"))
    ]
    path = write_pdb(atoms)
    assert len(read_topology(path).chain_ids) == 2
    entry = read_chain(path)
    assert entry.sequence == "AGW"
    assert entry.structure_residues == ("A:ALA:1", "A:GLY:2", "A:TRP:200")
    np.testing.assert_allclose(entry.backbone, [[[0, 30 * n, p] for p in range(3)] for n in (1, 2, 200)])


def test_structures_alone_hide_the_sequence(gapped: Path) -> None:
    (entry,) = chain_inputs(pdb=gapped, chain="A")
    assert entry.visible_sequence == "<mask>" * 76
    assert entry.inputs == "structure"
    assert entry.sequence_alone().visible_sequence == UBIQUITIN


def test_numbers_that_are_not_finite_are_refused(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_classifier(24, "onehot")
    nn.init.constant_(model.classifier.output_layer.bias, torch.nan)
    save_dyna1(model, tmp_path / "bad")
    given = ("--sequence", "MKTAY", "--name", "one", "--save-dir", tmp_path / "out")
    assert f"one: probabilities that are no numbers from {tmp_path}/bad" in fails(
        capsys, "--weights", tmp_path / "bad", *given
    )
    write_cache(tmp_path / "bad.h5", OneHot(), [ChainInput("one", "MKTAY")])
    with h5py.File(tmp_path / "bad.h5", "a") as file:
        file["values"][2] = np.nan
    line = fails(capsys, "--weights", weights, "--cache", tmp_path / "bad.h5", *given)
    assert f"one: its embedding by {tmp_path}/bad.h5 has numbers that are not finite" in line
    assert not (tmp_path / "out").exists()
