"""A value on a structure: the copy, and the scripts of PyMOL and ChimeraX beside it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.inference.structure_scripts import DAMAGE, PALETTE, RMSF, write_on_structure


def c_alpha_values(path: Path) -> list[str]:
    return [line[60:66] for line in path.read_text().splitlines() if line[:6] + line[12:16] == "ATOM   CA "]


@pytest.mark.parametrize("chain", [None, "B"])
def test_files(examples: Path, tmp_path: Path, chain: str | None) -> None:
    structure = examples / "structures" / "1hvr_AB.pdb.gz"
    values = np.linspace(0, 1, 198 if chain is None else 99)
    values[3] = np.nan
    paths = write_on_structure(structure, values, tmp_path / "x y.pdb", chain, DAMAGE, "some network 0f")
    assert [path.name for path in paths] == ["x y.pdb", "x y.pml", "x y.cxc"]
    expected = [f"{-1 if np.isnan(value) else value:6.2f}" for value in values]
    assert c_alpha_values(paths[0])[-len(values) :] == expected
    pymol, chimerax = (path.read_text().splitlines() for path in paths[1:])
    for script in (pymol, chimerax):
        assert "some network 0f" in "\n".join(script[:2])
        assert str(tmp_path) not in "\n".join(script)  # the folder can be moved
    (coloured,) = (line for line in pymol if line.startswith("spectrum b, "))
    _, colours, selection, *limits = coloured.split(", ")
    defined = [line.split(",")[0].removeprefix("set_color ") for line in pymol if line.startswith("set_color ")]
    assert colours.split() == defined
    assert len(defined) == len(PALETTE)
    assert selection == "damage and polymer" + (" and chain B" if chain else "")
    assert limits == ["minimum=0", "maximum=1"]
    assert 'open "x y.pdb"' in chimerax
    (coloured,) = (line for line in chimerax if line.startswith("color byattribute"))
    shown = "#1/B & protein" if chain else "#1 & protein"
    colours = ":".join(PALETTE)
    assert coloured == f"color byattribute a:bfactor {shown} target abcs palette {colours} range 0,1"


def test_pymol_loads_the_copy_beside_its_script(examples: Path, tmp_path: Path) -> None:
    """From any folder, and after the folder was moved: the line that loads it, run with a stand-in for PyMOL."""
    structure = examples / "structures" / "2gu3_A.pdb.gz"
    write_on_structure(structure, np.zeros(128), tmp_path / "a" / "it's.pdb.gz", None, RMSF, "n")
    folder = Path(shutil.move(tmp_path / "a", tmp_path / "b"))
    script = folder / "it's.pml"
    loads = [line for line in script.read_text().splitlines() if re.match(r"import|cmd\.", line)]
    loaded: list[tuple[str, str]] = []

    class Stand:
        __script__ = str(script)

        @staticmethod
        def load(path: str, name: str) -> None:
            loaded.append((path, name))

    for line in loads:
        exec(line.replace("import os, pymol", "import os"), {"pymol": Stand, "cmd": Stand, **globals_of_os()})
    assert loaded == [(str(folder / "it's.pdb.gz"), "rmsf")]
    assert (folder / "it's.pdb.gz").is_file()


def globals_of_os() -> dict[str, object]:
    import os

    return {"os": os}
