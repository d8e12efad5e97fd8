"""The code of notebook/own_labels.ipynb learns the made-up labels, and its files load again."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import torch

from seqdance import embed, load_model

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebook" / "own_labels.ipynb"


@pytest.mark.long
def test_code_of_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    namespace: dict = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source.replace("folder.cleanup()", ""), namespace)
    assert namespace["protein_correlation"] > 0.8
    assert namespace["residue_correlation"] > 0.8
    assert namespace["same"]
    adapters = {name: value for name, value in namespace["model"].named_parameters() if "lora_" in name}
    assert len(adapters) == 2 * 2 * 4  # two matrices on queries and values of four layers
    assert all(value.any() for value in adapters.values())  # lora_B starts at zero
    demo, merged = (
        load_model("demo", "cpu").state_dict(),
        load_model(namespace["work"] / "my_network", "cpu").state_dict(),
    )
    changed = {name for name, value in merged.items() if not torch.equal(value, demo[name])}
    assert changed == {name for name in demo if re.search(r"\.(query|value)\.weight$", name)}
    found = namespace["merged"].eval()
    hidden = torch.from_numpy(
        embed(load_model(namespace["work"] / "my_network", "cpu"), namespace["proteins"][0], True)
    )
    with torch.no_grad():
        again = namespace["again"]([namespace["proteins"][0]])[0]
        torch.testing.assert_close(namespace["again"].head(hidden)[:, 0], again, rtol=0, atol=1e-4)
    assert embed(found, "MKV").shape == (128,)
