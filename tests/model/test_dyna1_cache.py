import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from data_prepare.errors import InputError
from model.dyna1.embeddings import cache, embedders
from model.dyna1.embeddings.cache import EmbeddingCache, write_cache
from model.dyna1.embeddings.chains import ChainInput
from model.dyna1.embeddings.embedders import make_embedder
from model.dyna1.embeddings.language_models import OneHot
from model.dyna1.embeddings.source import Backbone, Embedder

ENTRIES = [
    ChainInput("4403", "MKTAY"),
    ChainInput("a/b c", "ACDEFGHIKL"),
    ChainInput("15_1", "W"),
    ChainInput("x", "MKTAY"),
]


class Counting(Embedder):
    """Numbers that depend on the letters and the structure; counts its calls."""

    width = 3
    fingerprint = "counting"
    reads_structure = True
    scale = 1.0

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        self.seen += sequences
        structures = structures or [None] * len(sequences)
        return [
            torch.tensor([[ord(letter), place, 0.1] for place, letter in enumerate(sequence.replace("<mask>", "_"))])
            * (self.scale if structure is None else self.scale + float(np.nansum(structure)))
            for sequence, structure in zip(sequences, structures, strict=True)
        ]


def parts(path: Path) -> list[Path]:
    return list(path.parent.glob(".*"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_is_read(tmp_path: Path, dtype: cache.CacheDtype) -> None:
    path, embedder = tmp_path / "cache.h5", Counting()
    write_cache(path, embedder, ENTRIES, dtype)
    assert parts(path) == []
    stored = EmbeddingCache(path)
    assert (stored.fingerprint, stored.width, stored.reads_structure, stored.dtype) == ("counting", 3, True, dtype)
    assert list(stored.entries) == [entry.name for entry in ENTRIES]
    for entry in ENTRIES:
        expected = embedder.embed([entry.sequence])[0]
        for found in (stored.read(entry.name, entry.sequence), stored.read_entry(entry)):
            assert found.dtype == torch.float32
            assert torch.equal(found, expected if dtype == "float32" else expected.half().float())
    assert "4403" in stored
    assert "4404" not in stored
    source = make_embedder(f"cache:{path}")
    assert torch.equal(source.read("15_1", "W"), stored.read("15_1", "W"))


def test_entries_are_added(tmp_path: Path) -> None:
    path, embedder = tmp_path / "cache.h5", Counting()
    write_cache(path, embedder, ENTRIES[:2])
    assert sorted(embedder.seen) == ["ACDEFGHIKL", "MKTAY"]
    embedder.seen.clear()
    write_cache(path, embedder, ENTRIES)
    assert sorted(embedder.seen) == ["MKTAY", "W"]  # x and 15_1
    stored = EmbeddingCache(path)
    for entry in ENTRIES:
        assert torch.equal(stored.read(entry.name, entry.sequence), embedder.embed([entry.sequence])[0])


def test_another_embedder_sequence_or_dtype_is_refused(tmp_path: Path) -> None:
    path, embedder = tmp_path / "cache.h5", Counting()
    write_cache(path, embedder, ENTRIES)
    before = path.read_bytes()
    with pytest.raises(InputError, match="embeddings of counting, not of onehot"):
        write_cache(path, OneHot(), ENTRIES)
    with pytest.raises(InputError, match="another entry of the name x"):
        write_cache(path, embedder, [ChainInput("x", "MKTAW")])
    with pytest.raises(InputError, match="holds float32, asked for float16"):
        write_cache(path, embedder, [ChainInput("new", "MK")], "float16")
    with pytest.raises(InputError, match="entry new occurs twice"):
        write_cache(path, embedder, [ChainInput("new", "MK"), ChainInput("new", "ML")])
    assert path.read_bytes() == before
    stored = EmbeddingCache(path)
    with pytest.raises(InputError, match="x: embedding of another sequence"):
        stored.read("x", "MKTAW")
    with pytest.raises(InputError, match="no embedding of y"):
        stored.read("y", "MKTAY")


def test_what_the_model_saw_is_part_of_an_entry(tmp_path: Path) -> None:
    atoms = np.ones((5, 3, 3), np.float32)
    seen = {
        "sequence": ChainInput("one", "MKTAY"),
        "structure": ChainInput("two", "MKTAY", atoms, sequence_seen=False),
        "sequence+structure": ChainInput("three", "MKTAY", atoms),
    }
    assert [entry.inputs for entry in seen.values()] == list(seen)
    path, embedder = tmp_path / "cache.h5", Counting()
    write_cache(path, embedder, list(seen.values()))
    assert sorted(embedder.seen) == ["<mask>" * 5, "MKTAY", "MKTAY"]
    stored = EmbeddingCache(path)
    values = [stored.read_entry(entry) for entry in seen.values()]
    assert not torch.equal(values[0], values[2])
    assert not torch.equal(values[1], values[2])
    with pytest.raises(InputError, match=r"one: made from sequence, asked for sequence\+structure"):
        stored.read_entry(ChainInput("one", "MKTAY", atoms))
    with pytest.raises(InputError, match="three: made from another structure"):
        stored.read_entry(ChainInput("three", "MKTAY", atoms + 1))


def test_numbers_that_float16_does_not_hold(tmp_path: Path) -> None:
    embedder = Counting()
    embedder.scale = 1e4
    with pytest.raises(InputError, match=r"do not fit float16; use float32"):
        write_cache(tmp_path / "cache.h5", embedder, ENTRIES, "float16")
    write_cache(tmp_path / "cache.h5", embedder, ENTRIES, "float32")


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    class Failing(Counting):
        def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
            if self.seen:
                raise RuntimeError("power failure")
            return super().embed(sequences, structures)

    path = tmp_path / "cache.h5"
    entries = [ChainInput(str(n), "A" * n) for n in (3000, 10, 3500, 20)]  # too long for one batch
    with pytest.raises(RuntimeError, match="power failure"):
        write_cache(path, Failing(), entries)
    assert not path.exists()
    embedder = Counting()
    write_cache(path, embedder, entries)
    assert sorted(map(len, embedder.seen)) == [3000, 3500]
    assert parts(path) == []
    assert torch.equal(EmbeddingCache(path).read("10", "A" * 10), embedder.embed(["A" * 10])[0])


KILLED = """
import os, signal, sys
from model.dyna1.embeddings.cache import write_cache
from model.dyna1.embeddings.language_models import OneHot
from model.dyna1.embeddings.chains import ChainInput

class Deadly(OneHot):
    calls = 0
    def embed(self, *given):
        Deadly.calls += 1
        if Deadly.calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().embed(*given)

write_cache(sys.argv[1], Deadly(), [ChainInput(str(n), "A" * n) for n in (3000, 3200, 3400, 3600)])
"""


def test_kill_9_loses_no_finished_entry(tmp_path: Path) -> None:
    path = tmp_path / "cache.h5"
    ended = subprocess.run([sys.executable, "-c", KILLED, path], stderr=subprocess.DEVNULL, env={**os.environ})
    assert ended.returncode == -signal.SIGKILL
    assert not path.exists()
    (folder,) = parts(path)
    assert len(list(folder.glob("*.npy"))) == 2
    (folder / ".killed.tmp.npy").touch()
    done = [ChainInput(str(n), "A" * n) for n in (3000, 3200)]
    write_cache(path, OneHot(), [done[0], ChainInput("3600", "A" * 3600)])
    assert EmbeddingCache(path).read("3000", "A" * 3000).sum() == 3000
    assert len(list(folder.glob("*.npy"))) == 2  # that of 3200 waits for a run that asks for it
    write_cache(path, OneHot(), done)
    assert list(EmbeddingCache(path).entries) == ["3000", "3600", "3200"]
    assert parts(path) == []


def test_nothing_new_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "cache.h5"
    with pytest.raises(InputError, match="no entries to embed"):
        write_cache(path, OneHot(), [])
    write_cache(path, OneHot(), ENTRIES)
    before = path.stat()
    write_cache(path, OneHot(), ENTRIES[:2])
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_files_that_are_no_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache.h5"
    with pytest.raises(InputError, match="no such cache"):
        EmbeddingCache(path)
    path.write_bytes(b"not HDF5")
    with pytest.raises(InputError, match="damaged"):
        EmbeddingCache(path)
    with h5py.File(path, "w") as file:
        file["values"] = np.zeros((3, 2))
    with pytest.raises(InputError, match="not a cache of embeddings"):
        EmbeddingCache(path)
    path.unlink()
    write_cache(path, Counting(), ENTRIES)
    with h5py.File(path, "a") as file:
        values = file["values"][:-1]
        del file["values"]
        file["values"] = values
    with pytest.raises(InputError, match="damaged"):
        EmbeddingCache(path)
    with h5py.File(path, "a") as file:
        del file["inputs"]
    with pytest.raises(InputError, match="damaged"):
        EmbeddingCache(path)


@pytest.mark.parametrize("form", ["fewer sequences", "group", "text"])
def test_damaged_content(tmp_path: Path, form: str) -> None:
    path = tmp_path / "cache.h5"
    write_cache(path, Counting(), ENTRIES)
    with h5py.File(path, "a") as file:
        name = "sequence" if form == "fewer sequences" else "values"
        rows = file[name][:]
        del file[name]
        if form == "fewer sequences":
            file.create_dataset(name, data=rows[:-1], dtype=h5py.string_dtype())
        elif form == "group":
            file.create_group(name)
        else:
            file.create_dataset(name, data=rows.astype("S4"))
    with pytest.raises(InputError, match=r"cache.h5: damaged .*write it again"):
        EmbeddingCache(path)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04", None])
def test_a_damaged_part_is_computed_again(tmp_path: Path, content: bytes | None) -> None:
    path, embedder, entry = tmp_path / "cache.h5", Counting(), ENTRIES[1]
    folder = tmp_path / ".cache.h5.parts"
    folder.mkdir()
    part = folder / f"{cache._digest(embedder.fingerprint, 'float32', entry)}.npy"
    if content is None:
        np.save(part, np.zeros((len(entry.sequence) - 1, 3), np.float32))
    else:
        part.write_bytes(content)
    write_cache(path, embedder, [entry])
    assert embedder.seen == [entry.sequence]
    found = EmbeddingCache(path).read(entry.name, entry.sequence)
    assert torch.equal(found, embedder.embed([entry.sequence])[0])
    assert parts(path) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,MKT-Y", "entry a: '-' in its sequence"),
        ("a,mkt", "entry a: 'kmt' in its sequence"),
        ("a,MK\n,MK", "row 2 has no entry_ID"),
        ("a,", "entry a has no sequence"),
        ("a,MK\na,ML", "entry a occurs twice"),
        ("", "no entries"),
    ],
)
def test_errors_of_a_table_name_file_and_entry(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(f"entry_ID,sequence\n{rows}\n")
    with pytest.raises(InputError) as error:
        cache.read_table(tmp_path / "table.csv")
    assert str(error.value).startswith(f"{tmp_path}/table.csv: {message}")


def run(*arguments: object) -> None:
    cache.main([str(argument) for argument in arguments])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.csv").write_text("entry_ID,sequence,label\n1e5,MKTAY,AAAAA\nNA,ACD,AAA\n")
    output = tmp_path / "one_hot.h5"
    run("--embedder", "onehot", "--table", tmp_path / "labels.csv", "--output", output)
    assert str(output) in capsys.readouterr().out
    stored = EmbeddingCache(output)
    assert stored.entries == {"1e5": ("MKTAY", "sequence", ""), "NA": ("ACD", "sequence", "")}
    assert torch.equal(stored.read("1e5", "MKTAY"), OneHot().read("", "MKTAY"))
    (tmp_path / "more.fasta").write_text(">more\nWWW\n")
    run("--embedder", "onehot", "--fasta", tmp_path / "more.fasta", "--output", output)
    assert list(EmbeddingCache(output).entries) == ["1e5", "NA", "more"]


def test_command_reads_structures(
    tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    structures = examples / "structures"
    monkeypatch.setattr(embedders, "make_embedder", lambda line, device: OneHot() if line == "onehot" else Counting())
    run("--embedder", "counting", "--pdb", structures / "1ubi_A.pdb.gz", "--output", tmp_path / "a.h5")
    (sequence, inputs, digest) = EmbeddingCache(tmp_path / "a.h5").entries["1ubi_A"]
    assert inputs == "structure"
    assert sequence.startswith("MQIFVKTLTGK")
    assert len(digest) == 16
    (tmp_path / "labels.csv").write_text(f"entry_ID,sequence\n1ubi_A,{sequence}\n")
    given = ("--table", tmp_path / "labels.csv", "--structures", structures)
    run("--embedder", "counting", *given, "--output", tmp_path / "b.h5")
    assert EmbeddingCache(tmp_path / "b.h5").entries == {"1ubi_A": (sequence, "sequence+structure", digest)}
    capsys.readouterr()
    run("--embedder", "onehot", *given, "--output", tmp_path / "c.h5")
    assert "onehot reads no structure" in capsys.readouterr().out
    assert EmbeddingCache(tmp_path / "c.h5").entries == {"1ubi_A": (sequence, "sequence", "")}
    (tmp_path / "labels.csv").write_text(f"entry_ID,sequence\n1ubi_A,{sequence[:-1]}\n")
    with pytest.raises(SystemExit):
        run("--embedder", "counting", *given, "--output", tmp_path / "d.h5")
    assert "sequence for 1ubi_A has 75" in capsys.readouterr().err
    (tmp_path / "labels.csv").write_text("entry_ID,sequence\n9xyz,MK\n")
    with pytest.raises(SystemExit):
        run("--embedder", "counting", *given, "--output", tmp_path / "d.h5")
    assert "no structure of 9xyz" in capsys.readouterr().err
    assert not (tmp_path / "d.h5").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--embedder", "onehot"], "no protein is given"),
        (["--embedder", "onehot", "--table", "t.csv", "--sequence", "MK"], "give one of them"),
        (["--embedder", "onehot", "--table", "t.csv"], "t.csv: no such"),
        (["--embedder", "onehot", "--table", "t.csv", "--sequence", ""], "give one of them"),
        (["--embedder", "onehot", "--table", "t.csv", "--chain", "A"], "--chain does not go with --table t.csv"),
        (["--embedder", "onehot", "--table", "t.csv", "--name", "x"], "--name does not go with --table t.csv"),
        (["--embedder", "onehot", "--table", "t.csv", "--use-pdb-seq"], "--use-pdb-seq does not go with --table"),
        (["--embedder", "none", "--sequence", "MK"], "known are onehot"),
        (["--embedder", "af2:.", "--sequence", "MK"], "nothing to keep"),
    ],
)
def test_wrong_options(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(*arguments, "--output", "cache.h5")
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
