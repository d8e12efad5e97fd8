"""A value on a structure: the copy, and the scripts of PyMOL and ChimeraX beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.inference.structure_scripts import DAMAGE, PALETTE, write_on_structure


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


IN_PYMOL = """
import json, pymol2, sys
with pymol2.PyMOL() as pymol:
    cmd, found = pymol.cmd, []
    cmd.load(sys.argv[1])
    cmd.sync()
    cmd.iterate("name CA", "found.append((chain, b, color))", space={"found": found})
    grey = cmd.get_color_index("grey80")
    ends = [cmd.get_color_index(f"seqdance_{number}") for number in (0, 4)]
    ends = [[round(255 * part) for part in cmd.get_color_tuple(end)] for end in ends]
    shown = [[round(255 * part) for part in cmd.get_color_tuple(color)] for _, _, color in found]
    print(json.dumps({"names": cmd.get_names(), "atoms": found, "grey": grey, "shown": shown, "ends": ends}))
"""


def test_in_pymol(examples: Path, tmp_path: Path) -> None:
    """The script finds the copy beside it from any folder, and colours the chain: the ends of the scale, and grey."""
    pytest.importorskip("pymol2", reason="PyMOL is not installed", exc_type=ImportError)
    structure = examples / "structures" / "1hvr_AB.pdb.gz"
    values = np.linspace(0, 1, 99)
    values[3] = np.nan
    write_on_structure(structure, values, tmp_path / "a" / "it's a.pdb.gz", "B", DAMAGE, "n")
    folder = Path(shutil.move(tmp_path / "a", tmp_path / "b c"))
    words = [sys.executable, "-c", IN_PYMOL, folder / "it's a.pml"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["names"] == ["damage"]
    chains, b_factors, colours = map(np.array, zip(*found["atoms"], strict=True))
    assert list(chains).count("A") == list(chains).count("B") == 99
    np.testing.assert_allclose(b_factors[chains == "B"], np.where(np.isnan(values), -1, values), atol=0.006)
    own = np.arange(198)[chains == "B"]
    assert (colours[chains == "A"] == found["grey"]).all()
    assert (colours[own] == found["grey"]).nonzero()[0].tolist() == [3]
    assert [found["shown"][index] for index in (own[0], own[-1])] == found["ends"]
    assert found["ends"] == [[0x44, 0x01, 0x54], [0xFD, 0xE7, 0x25]]
