"""Cached embeddings: what is written is read, runs resume, and anything else is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from refusals import command_refused, refused

from model.dyna1.embeddings import embedders
from model.dyna1.embeddings.cache import EmbeddingCache, write_cache
from model.dyna1.embeddings.embedders import OneHot
from model.dyna1.embeddings.source import ChainInput, Embedder
from seqdance.commands.dyna1 import embed as command

CHAINS = [ChainInput(*row) for row in (("4403", "MKTAY"), ("a/b c", "ACDEFGHIKL"), ("15_1", "W"), ("x", "MKTAY"))]
LONG = [ChainInput(str(n), "A" * n) for n in (3000, 3200, 3400, 3600)]  # one batch each


class Counting(Embedder):
    """Numbers that depend on the letters and the structure; remembers what it has seen, fails after `calls`."""

    width = 3
    fingerprint = "counting"
    reads_structure = True

    def __init__(self, scale=1.0, calls=99):
        self.scale, self.calls, self.seen = scale, calls, []

    def embed(self, sequences, structures=None):
        if not self.calls:
            raise RuntimeError("power failure")
        self.calls -= 1
        self.seen += sequences
        return [
            torch.tensor([[ord(letter), place, 0.1] for place, letter in enumerate(sequence.replace("<mask>", "_"))])
            * (self.scale if structure is None else self.scale + float(np.nansum(structure)))
            for sequence, structure in zip(sequences, structures or [None] * len(sequences), strict=True)
        ]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.h5"


def parts(path):
    return list(path.parent.glob(".*/*"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_is_read_and_added_to(path, dtype):
    embedder = Counting()
    write_cache(path, embedder, CHAINS[:2], dtype)
    before = path.stat()
    write_cache(path, embedder, CHAINS[:2], dtype)  # nothing new
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    write_cache(path, embedder, CHAINS, dtype)
    assert sorted(embedder.seen) == ["ACDEFGHIKL", "MKTAY", "MKTAY", "W"]
    assert parts(path) == []
    stored = embedders.make_embedder(f"cache:{path}")
    assert (stored.fingerprint, stored.width, stored.reads_structure, stored.dtype) == ("counting", 3, True, dtype)
    assert list(stored.proteins) == [chain.name for chain in CHAINS]
    for chain in CHAINS:
        expected = embedder.embed([chain.sequence])[0]
        expected = expected if dtype == "float32" else expected.half().float()
        assert torch.equal(stored.read(chain.name, chain.sequence), expected)
        assert torch.equal(stored.read_chain(chain), expected)


def test_other_embedders_sequences_and_dtypes_are_refused(path):
    write_cache(path, Counting(), CHAINS)
    before, stored = path.read_bytes(), EmbeddingCache(path)
    refused(lambda: write_cache(path, OneHot(), CHAINS), path, "counting", "onehot")
    refused(lambda: write_cache(path, Counting(), [ChainInput("x", "MKTAW")]), path, "x")
    refused(lambda: write_cache(path, Counting(), [ChainInput("new", "MK")], "float16"), path, "float16", "float32")
    refused(lambda: write_cache(path, Counting(), [ChainInput("new", "MK"), ChainInput("new", "ML")]), "new")
    refused(lambda: stored.read("x", "MKTAW"), path, "x")
    refused(lambda: stored.read("y", "MKTAY"), path, "y")
    assert path.read_bytes() == before


def test_what_the_model_saw_is_part_of_a_protein(path):
    atoms = np.ones((5, 3, 3), np.float32)
    hidden = ChainInput("two", "MKTAY", atoms, sequence_seen=False)
    chains = [ChainInput("one", "MKTAY"), hidden, ChainInput("three", "MKTAY", atoms)]
    embedder = Counting()
    write_cache(path, embedder, chains)
    assert sorted(embedder.seen) == ["<mask>" * 5, "MKTAY", "MKTAY"]
    stored = EmbeddingCache(path)
    assert [inputs for _, inputs, _ in stored.proteins.values()] == ["sequence", "structure", "sequence+structure"]
    one, two, three = (stored.read_chain(chain) for chain in chains)
    assert not torch.equal(one, three)
    assert not torch.equal(two, three)
    refused(lambda: stored.read_chain(ChainInput("one", "MKTAY", atoms)), path, "one", "sequence+structure")
    refused(lambda: stored.read_chain(ChainInput("three", "MKTAY", atoms + 1)), path, "three")
    letters = path.with_name("letters.h5")  # of an embedder that reads no structures
    write_cache(letters, OneHot(), [hidden])
    assert EmbeddingCache(letters).proteins["two"] == ("MKTAY", "sequence", "")
    assert torch.equal(EmbeddingCache(letters).read_chain(hidden), OneHot().read("", "MKTAY"))


def test_numbers_that_float16_does_not_hold(path):
    refused(lambda: write_cache(path, Counting(scale=1e4), CHAINS, "float16"), "float16")


def test_an_interrupted_run_resumes(path):
    with pytest.raises(RuntimeError, match="power failure"):
        write_cache(path, Counting(calls=2), LONG)
    assert not path.exists()
    damaged = min(parts(path), key=lambda part: part.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:100])
    embedder = Counting()
    write_cache(path, embedder, LONG)
    assert sorted(map(len, embedder.seen)) == [3000, 3400, 3600]
    assert parts(path) == []
    for chain in LONG:
        assert torch.equal(EmbeddingCache(path).read_chain(chain), embedder.embed_chains([chain])[0])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("values", lambda values: values[:-1]),
        ("values", lambda values: values.astype("S4")),
        ("values", None),
        ("sequence", lambda rows: rows[:-1]),
        ("inputs", None),
        ("format", None),
    ],
)
def test_damaged_files(path, name, change):
    write_cache(path, Counting(), CHAINS)
    with h5py.File(path, "a") as file:
        if name == "format":
            del file.attrs["format"]
        else:
            content = file[name][:]
            del file[name]
            if change:
                file[name] = change(content)
    refused(lambda: EmbeddingCache(path), path)
    path.write_bytes(b"not HDF5")
    refused(lambda: EmbeddingCache(path), path)
    path.unlink()
    refused(lambda: EmbeddingCache(path), path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.__setitem__("values", h5py.ExternalLink("sound.h5", "values")),
        lambda file: file.__setitem__("values", h5py.SoftLink("/copy")),
        lambda file: file.create_dataset("values", (21, 3), "f4", external=[("raw", 0, 252)]),
        lambda file: file.create_dataset("values", (21, 10**9), "f4", chunks=(1, 64)),
        lambda file: file.create_group("values"),
    ],
    ids=["external link", "soft link", "external", "absurd size", "group"],
)
def test_foreign_arrays_are_refused(path, spoil):
    write_cache(path, Counting(), CHAINS)
    path.with_name("sound.h5").write_bytes(path.read_bytes())
    path.with_name("raw").write_bytes(bytes(252))
    with h5py.File(path, "a") as file:
        file["copy"] = file["values"][:]
        del file["values"]
        spoil(file)
    refused(lambda: EmbeddingCache(path).read("4403", "MKTAY"), path, "values")


# ---- the command


def run(*words):
    command.main(list(map(str, words)))


def test_command(tmp_path, path, capsys):
    (tmp_path / "codes.csv").write_text("entry_ID,sequence,label\n1e5,MKTAY,AAAAA\nNA,ACD,AAA\n")
    run("--embedder", "onehot", "--table", tmp_path / "codes.csv", "--output", path)
    assert str(path) in capsys.readouterr().out
    stored = EmbeddingCache(path)
    assert stored.proteins == {"1e5": ("MKTAY", "sequence", ""), "NA": ("ACD", "sequence", "")}
    assert torch.equal(stored.read("1e5", "MKTAY"), OneHot().read("", "MKTAY"))
    (tmp_path / "more.fasta").write_text(">more\nWWW\n")
    run("--embedder", "onehot", "--fasta", tmp_path / "more.fasta", "--output", path)
    assert list(EmbeddingCache(path).proteins) == ["1e5", "NA", "more"]


def test_command_reads_structures(tmp_path, path, examples, monkeypatch, capsys):
    structures, table = examples / "structures", tmp_path / "codes.csv"
    monkeypatch.setattr(embedders, "make_embedder", lambda line, device: OneHot() if line == "onehot" else Counting())
    run("--embedder", "counting", "--pdb", structures / "1ubi_A.pdb.gz", "--output", path)
    (sequence, inputs, digest) = EmbeddingCache(path).proteins["1ubi_A"]
    assert inputs == "structure"
    assert sequence.startswith("MQIFVKTLTGK")
    assert len(digest) == 16
    for embedder, seen in (("counting", ("sequence+structure", digest)), ("onehot", ("sequence", ""))):
        table.write_text(f"entry_ID,sequence\n1ubi_A,{sequence}\n")
        given = ["--embedder", embedder, "--table", table, "--structures", structures]
        run(*given, "--output", tmp_path / f"{embedder}.h5")
        assert EmbeddingCache(tmp_path / f"{embedder}.h5").proteins == {"1ubi_A": (sequence, *seen)}
    assert "onehot reads no structure" in capsys.readouterr().out
    for row, named in ((f"1ubi_A,{sequence[:-1]}", ("1ubi_A", 75, 76)), ("9xyz,MK", ("9xyz", structures))):
        table.write_text(f"entry_ID,sequence\n{row}\n")
        command_refused(command.main, [*given, "--output", tmp_path / "d.h5"], capsys, *named)
    assert not (tmp_path / "d.h5").exists()


@pytest.mark.parametrize(
    ("rows", "named"), [("a,MKT-Y", "'-'"), ("a,MK\n,MK", "row 2"), ("a,", "entry a"), ("a,M<mask>", "entry a")]
)
def test_bad_tables(path, capsys, rows, named):
    table = path.with_name("table.csv")
    table.write_text(f"entry_ID,sequence\n{rows}\n")
    command_refused(command.main, ["--embedder", "onehot", "--table", table, "--output", path], capsys, table, named)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--embedder", "onehot"], "--sequence"),
        (["--embedder", "onehot", "--table", "t.csv"], "t.csv"),
        (["--embedder", "onehot", "--table", "t.csv", "--sequence", ""], "--sequence"),
        (["--embedder", "onehot", "--table", "t.csv", "--use-pdb-seq"], "--use-pdb-seq"),
        (["--embedder", "none", "--sequence", "MK"], "'none'"),
        (["--embedder", "af2:.", "--sequence", "MK"], "af2:."),
    ],
)
def test_wrong_options(path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(path.parent)
    command_refused(command.main, [*words, "--output", "cache.h5"], capsys, named)
    assert not path.exists()
