"""Folders of generated ensembles as their programs write them; the order of samples has no meaning.

| program | files of an entry |
|---|---|
| BioEmu | `topology.pdb` with `samples.xtc`, or `samples_md_equil.*` or `samples_sidechain_rec.*` if they exist |
| AlphaFlow, NMR | a multi-model PDB or mmCIF file |
| Boltz, server of AlphaFold 3 | `NAME_model_0.cif`, `NAME_model_1.cif` ... |
| AlphaFold 3 | `seed-1_sample-0/model.cif` or `NAME_seed-1_sample-0_model.cif` ... of all seeds |
| Chai | `pred.model_idx_0.cif` ... |
| ColabFold | `NAME_unrelaxed_rank_*.pdb`, or `NAME_relaxed_rank_*.pdb` if there are as many |

Other trajectories are paired as in `trajectories`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from data_prepare.errors import require
from data_prepare.files import stem
from data_prepare.sources.entry import Ensemble, Entry, FileEntry, Selection
from data_prepare.sources.pooled import PooledEntry
from data_prepare.sources.trajectories import GROUP, OWNER_OF_OTHERS, paired, without_topology
from data_prepare.sources.walk import joined_name, walk
from data_prepare.structure.readers import is_structure_file, read_models
from data_prepare.structure.topology import Structure

SOURCE: Final = "ensembles"
WANTED: Final = (
    "ensembles of BioEmu (topology.pdb, samples.xtc), AlphaFlow (multi-model PDB), Boltz, AlphaFold 3, Chai or "
    "ColabFold (a structure per sample)"
)
BIOEMU: Final = ("samples_md_equil", "samples_sidechain_rec", OWNER_OF_OTHERS)  # the same samples, the best first
SAMPLE_FOLDER: Final = re.compile(r"seed[-_]\d+(_sample[-_]\d+)?|trunk_\d+")  # the samples of several are pooled
SAMPLES: Final = [
    re.compile(pattern)
    for pattern in (
        r"(?P<name>.+?)_(?P<kind>un)?relaxed_rank_\d+.*",  # before Boltz: old ColabFold ends in _model_N, too
        r"((?P<name>.+?)_)?seed[-_]\d+_sample[-_]\d+(_model)?",
        r"pred\.model_idx_\d+",
        r"(?P<name>.+)_model_\d+",
    )
]
MODEL: Final = "model"  # of AlphaFold 3, in the folder of a sample
BEST: Final = "_model"  # end of the name of a copy of the best one, in the folder above


def entries(raw: Path) -> Iterator[Entry]:
    """One entry per ensemble, named by its folder and, where that differs, the name in its files."""
    pools: dict[tuple[Path, str], dict[str, dict[str, Path]]] = {}  # folder and name -> kind -> sample -> file
    others: list[Path] = []
    for folder, files in walk(raw):
        replicas, alone = paired(files)
        bioemu = [path for key in BIOEMU for path in replicas if stem(path) == key]
        topologies = set(map(stem, replicas))
        for path, several in replicas.items():
            name = _name(raw, folder, "") if path in bioemu else joined_name(raw, path)
            if path not in bioemu[1:]:
                yield FileEntry(name=name, source=SOURCE, group=GROUP, path=path, trajectories=tuple(several))
        for path in alone:
            yield without_topology(SOURCE, raw, path)
        for path in (path for path in files if is_structure_file(path) and stem(path) not in topologies):
            place, kind = _sample(raw, path)
            if place is None:
                others.append(path)
            else:
                pools.setdefault(place, {}).setdefault(kind, {}).setdefault(str(path.with_name(stem(path))), path)
    above_samples = set()
    for (folder, name), kinds in pools.items():
        # relaxed structures precede the others by name, so that they count if there are as many
        samples = tuple(sorted(max(kinds.values(), key=len).values(), key=_natural))
        above_samples |= {folder for sample in samples if sample.parent != folder}
        yield PooledEntry(name=_name(raw, folder, name), source=SOURCE, group=GROUP, path=samples[0], samples=samples)
    for path in others:
        if path.parent not in above_samples or not stem(path).endswith(BEST):
            yield ModelsEntry(name=joined_name(raw, path), source=SOURCE, group=GROUP, path=path, trajectories=(path,))


@dataclass(frozen=True, kw_only=True)
class ModelsEntry(FileEntry):
    """The models of a file."""

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Ensemble | Structure]:
        """Models as frames; InputError if there is one."""
        several = len(list(islice(read_models(self.path), 2))) > 1
        require(several, f"{self.path}: one model is no ensemble; move it, or read structures with --source structures")
        with super().open(selection) as system:
            yield system


def _sample(raw: Path, path: Path) -> tuple[tuple[Path, str] | None, str]:
    """Folder and name of the ensemble of a structure that is one sample, else None, and its kind."""
    inside = path.parent != raw and SAMPLE_FOLDER.fullmatch(path.parent.name)
    folder = path.parent.parent if inside else path.parent
    if inside and stem(path) == MODEL:
        return (folder, ""), ""
    if match := next(filter(None, (pattern.fullmatch(stem(path)) for pattern in SAMPLES)), None):
        parts = match.groupdict()
        return (folder, parts.get("name") or ""), parts.get("kind") or ""
    return None, ""


def _name(raw: Path, folder: Path, name: str) -> str:
    parts = [*folder.relative_to(raw).parts, *([name] if name not in ("", folder.name) else [])]
    return "_".join(parts) or raw.resolve().name


def _natural(path: Path) -> list[str | int]:
    """Sorts numbers in names by value; texts and numbers alternate."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]
