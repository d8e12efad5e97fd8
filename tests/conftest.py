"""Paths and small builders that several tests use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported: its kernels run on a CPU

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, then slow ones: while the last of several processes ends, the others wait for fast ones."""
    items.sort(key=lambda item: [item.get_closest_marker(mark) is None for mark in ("long", "slow")])


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the reference data that are not part of the project."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("the reference data beside the project are not here")
    return SHARED


@pytest.fixture(scope="session")
def examples() -> Path:
    """Folder of the example data."""
    return ROOT / "data_prepare" / "examples"


def pdb_line(serial, name, resname, chain, resid, xyz, element=None, icode=" ", altloc=" ", record="ATOM"):
    """One line of a PDB file; the element column is the first letter of the name unless given ("" = blank)."""
    element = name.lstrip("0123456789")[0] if element is None else element
    padded = name if len(name) == 4 else f" {name:<3}"
    return (
        f"{record:<6}{serial:5d} {padded}{altloc}{resname:>3} {chain}{resid:4d}{icode}   "
        f"{xyz[0]:8.3f}{xyz[1]:8.3f}{xyz[2]:8.3f}  1.00  0.00          {element:>2}\n"
    )


@pytest.fixture
def write_pdb(tmp_path):
    """Write atoms (name, resname, chain, resid, xyz[, options]) to a PDB file and return its path."""

    def write(atoms, name="system.pdb"):
        path = tmp_path / name
        with open(path, "w") as file:
            for serial, (*fields, options) in enumerate(
                [atom if isinstance(atom[-1], dict) else (*atom, {}) for atom in atoms], 1
            ):
                if options.pop("ter_before", False):
                    file.write("TER\n")
                file.write(pdb_line(serial, *fields, **options))
            file.write("END\n")
        return path

    return write


@pytest.fixture(scope="session")
def tiny_model():
    """SeqDance of hidden size 32 with the weights behind the golden values of tests/data/model, in evaluation mode."""
    from safetensors.torch import load_file

    from model.config import ModelConfig
    from model.network.dance import DanceModel

    network = DanceModel(ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64))
    network.load_state_dict(load_file(ROOT / "tests" / "data" / "model" / "tiny_weights.safetensors"))
    return network.eval()


@pytest.fixture(scope="session")
def tiny_model_folder(tiny_model, tmp_path_factory) -> Path:
    """The same as a folder that `--model` takes."""
    folder = tmp_path_factory.mktemp("tiny_model")
    tiny_model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def load_script():
    """Import a script that is not part of a package, by its path in the project."""
    import importlib.util
    import sys

    def load(name: str):
        spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look for it there
        spec.loader.exec_module(module)
        return module

    return load
