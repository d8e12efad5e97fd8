"""Run notebooks and save their outputs without times and paths of this machine.

python notebook/execute.py notebook/*.ipynb
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from model.network.names import DEMO_NOTE

NOTES: Final = (DEMO_NOTE, "IProgress not found")  # left out; that of tqdm comes without ipywidgets
SECONDS_PER_CELL: Final = 300  # compiling for the first time


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run all cells in place, with `folder` as working directory.

    Output on the error stream is an error, too, but for `NOTES`.
    """
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS_PER_CELL, record_timing=False, resources=resources).execute()
    for cell in notebook.cells:
        for output in [output for output in cell.get("outputs", ()) if output.get("name") == "stderr"]:
            if not any(note in output.text for note in NOTES):
                raise RuntimeError(f"cell {cell.id} writes to the error stream:\n{output.text}")
            cell.outputs.remove(output)
    # only the name of the language; the rest depends on the version of Python
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main(paths: list[str]) -> None:
    """Execute each notebook in its folder and save it."""
    for path in map(Path, paths):
        notebook = execute(nbformat.read(path, as_version=4), path.resolve().parent)
        text = nbformat.writes(notebook) + "\n"
        path.write_text(text, encoding="utf-8")
        print(f"{path}: {len(text) / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
