"""The notebooks run from a fresh copy, and what is committed of them is clean, small and true to its outputs."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebook").glob("*.ipynb"))
LARGEST = 600_000  # bytes
MACHINE = re.compile(r"(?<![\w./-])/(?:home|root|tmp|usr|work|Users|opt|mnt|var)/|[A-Z]:\\\\")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w)")
notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
LONG = [path for path in NOTEBOOKS if path.stem != "zero_shot_mutation"]


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def texts(notebook: nbformat.NotebookNode) -> str:
    """What the outputs say in words and numbers."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "\n".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder notebook/ of its own, beside the data of the project."""
    ignored = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__")
    shutil.copytree(ROOT / "notebook", tmp_path / "notebook", ignore=ignored)
    (tmp_path / "data_prepare").symlink_to(ROOT / "data_prepare")
    return tmp_path / "notebook"


def assays(folder: Path) -> str:
    """A table in the form of ProteinGym; the numbers are made up."""
    protein = "MKTAYIAKQRQISFVKSHFSRQ"
    rows = ["mutant,mutated_sequence,DMS_score"]
    for k, old in enumerate(protein, start=1):
        for new in "AW".replace(old, ""):
            rows.append(f"{old}{k}{new},{protein[: k - 1]}{new}{protein[k:]},{(7 * k) % 5 - ord(new) / 100}")
    (folder / "assay.csv").write_text("\n".join(rows))
    return str(folder / "assay.csv")


def tiny_esm2(folder: Path) -> str:
    """ESM2 with few random weights."""
    from transformers import EsmConfig, EsmForMaskedLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    settings = {"position_embedding_type": "rotary", "token_dropout": True, "emb_layer_norm_before": False}
    config = EsmConfig(vocab_size=33, pad_token_id=1, mask_token_id=32, layer_norm_eps=1e-5, **sizes, **settings)
    EsmForMaskedLM(config).save_pretrained(folder / "esm2")
    return str(folder / "esm2")


def relaxation(folder: Path) -> str:
    """A table in the form of RelaxDB; the labels are made up."""
    sequences, label = ["MKTAYIAKQRQISFVKSHFSRQ", "MVKTSYHAKQGQLSFIKSHFSW"], "A.AA^AAvAAAbAAAAxAAAAt"
    table = pd.DataFrame({"entry_ID": ["one", "two"], "sequence": sequences, "label": [label, label[::-1]]})
    table.to_json(folder / "relaxdb.json")
    return str(folder / "relaxdb.json")


# notebook -> optional cell, the line of it that is set, what makes its file, cells that are run again, a word to see
OPTIONS = {
    "zero_shot_mutation": ("measured_file", assays, (), "assay, 42 mutants"),
    "dyna1_relaxdb": ("relaxdb", relaxation, (), "2 proteins count"),
    "embedding_conformation_property": ("esm2", tiny_esm2, ("regress", "regress-plot"), "ESM2 "),
}


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.long if path in LONG else pytest.mark.slow) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_runs(path: Path, copy: Path, load_script, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells, then the optional one with a file: the words and nearly the numbers that are committed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook, held = read(copy / path.name), texts(read(path))
    before = sorted(found.relative_to(copy) for found in copy.rglob("*"))
    cells = len(notebook.cells)
    variable, make, again, word = OPTIONS.get(path.stem, (None, None, (), ""))
    if variable:
        by_name = {cell.id: cell.source for cell in notebook.cells}
        (optional,) = (source for source in by_name.values() if f"{variable} = None" in source)
        chosen = optional.replace(f"{variable} = None", f"{variable} = {make(copy.parent)!r}")
        notebook.cells += map(nbformat.v4.new_code_cell, [chosen, *(by_name[name] for name in again)])
    load_script("notebook/execute.py").execute(notebook, copy)

    parts = notebook.cells[:cells], notebook.cells[cells:]
    found, extra = (texts(nbformat.v4.new_notebook(cells=part)) for part in parts)
    stale = "outputs are not up to date: python notebook/execute.py notebook/*.ipynb"
    assert NUMBER.sub("#", found).split() == NUMBER.sub("#", held).split(), stale
    numbers = [list(map(float, NUMBER.findall(text))) for text in (found, held)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.02), stale  # other processors round otherwise
    assert found.count("skipped") == bool(variable)
    assert word in extra
    assert "skipped" not in extra
    assert sorted(found.relative_to(copy) for found in copy.rglob("*")) == before, "a notebook leaves files behind"


@pytest.mark.parametrize("folder", [".", "notebook"])
def test_finds_its_table_from_both_folders(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / folder)
    names: dict[str, Path] = {}
    notebook = read(ROOT / "notebook" / "embedding_conformation_property.ipynb")
    exec(next(cell.source for cell in notebook.cells if cell.id == "weights"), names)
    assert (names["root"] / "notebook" / "shapes.csv").is_file()


@notebooks
def test_first_cell_installs_a_missing_package(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Colab, where it also fetches the files, also after a restart; elsewhere it does nothing."""
    commands: list[list[str]] = []
    folders: list[str] = []
    monkeypatch.setattr("subprocess.run", lambda words, check: commands.append(words))
    monkeypatch.setattr("os.chdir", folders.append)
    first = next(cell for cell in read(path).cells if cell.cell_type == "code")
    exec(first.source, {})
    assert not commands
    assert not folders
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    with monkeypatch.context() as fresh:
        fresh.setattr("importlib.util.find_spec", lambda name: None)
        exec(first.source, {})
    assert [words[:2] for words in commands] == [["git", "clone"], [sys.executable, "-m"]]
    assert commands[0][-1] == folders[0]
    assert commands[1][-1].startswith(".[")
    monkeypatch.setattr("os.path.isdir", lambda folder: True)
    exec(first.source, {})
    assert len(commands) == 2
    assert folders[1] == folders[0]


@notebooks
def test_outputs_are_committed_and_clean(path: Path) -> None:
    text, notebook = path.read_text(), read(path)
    assert len(text.encode()) < LARGEST
    assert not MACHINE.findall(text), "a path of this machine"
    assert not re.search(r" at 0x[0-9a-f]{6}", texts(notebook)), "an address in memory changes with each run"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not any(cell.metadata for cell in notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run all cells in order"
    outputs = [output for cell in code for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


@notebooks
def test_numbers_in_the_text_are_in_the_outputs(path: Path) -> None:
    notebook = read(path)
    shown = set(re.findall(r"(?<![\w.])\d+\.\d+(?!\w)", texts(notebook)))
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.id.endswith("found"):
            assert shown.issuperset(numbers := re.findall(r"\d+\.\d+", cell.source)), cell.id
            assert numbers
