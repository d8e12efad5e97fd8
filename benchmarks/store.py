"""Random crops from our store, from gzip read whole, and from the published contiguous form.

    python benchmarks/store.py [--entries 12] [--crops 200] [--repeats 3] [--merge]

The entries are made up: a compact random chain of 200 to 1000 residues, correlations of its elastic network (dense),
contacts between near residues about as often as in trajectories of folded proteins (5.6 per residue over all types,
frequencies of 1000 frames). All forms hold the same numbers and are read from the page cache; float16 is ours with half
the digits. With `--merge` also the time and the peak memory of checking and merging these files (Linux).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import tyro
from measure import in_child, peak_growth
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from data_prepare.dataset.check import check_store
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_layout import LIST_SUFFIX, SUFFIXES
from data_prepare.dataset.store_writer import StoreWriter, merge_stores
from data_prepare.dataset.token_space import md_entry, nma_entry

Entry = tuple[NDArray[np.float32], NDArray[np.float32]]

# partners of a residue by type of contact, as in the example trajectories and a little more, since these are short
PARTNERS = (3.0, 1.0, 0.6, 0.4, 0.3, 0.12, 0.12, 0.03, 0.03)
FRAMES = 1000


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    entries: int = 12
    """Entries of each kind, as many of 200 as of 1000 residues."""
    crops: int = 200
    """Reads of each form and kind."""
    repeats: int = 3
    """Runs of each; the median counts."""
    length: int = 256
    """Tokens of a crop."""
    merge: bool = False
    """Measure checking and merging, too."""


def made_up(residues: int, rng: np.random.Generator) -> dict[str, Entry]:
    """An MD and an NMA entry of a random compact chain."""
    positions = np.zeros((residues + 1, 3))
    radius = 2.2 * residues**0.38  # Angstrom: of gyration, folded proteins
    for k, step in enumerate(rng.normal(size=(residues, 3))):  # 3.8 Angstrom steps, pulled back to the centre
        direction = step - positions[k] / radius
        positions[k + 1] = positions[k] + 3.8 * direction / np.linalg.norm(direction)
    distance = np.linalg.norm(positions[1:, None] - positions[None, 1:], axis=2)  # (N, N)
    network = -(distance < 10.0).astype(float)
    np.fill_diagonal(network, 0.0)
    np.fill_diagonal(network, -network.sum(axis=1))
    values, modes = np.linalg.eigh(network)
    parts = np.split(np.arange(1, residues), (residues // 10, residues // 3))
    covariances = np.stack([(modes[:, part] / values[part]) @ modes[:, part].T for part in parts])  # (3, N, N)
    fluctuation = np.diagonal(covariances, axis1=1, axis2=2)  # (3, N)
    correlations = covariances / np.sqrt(fluctuation[:, :, None] * fluctuation[:, None])

    residue = rng.random((residues, 47))
    for first, width in ((3, 8), (11, 12), (23, 12), (35, 12)):
        residue[:, first : first + width] = rng.multinomial(FRAMES, rng.dirichlet([0.3] * width, residues)) / FRAMES
    pair = np.zeros((residues, residues, 10))
    near = np.argwhere((distance < 8.0) & ~np.eye(residues, dtype=bool))
    for channel, partners in enumerate(PARTNERS):
        chosen = near[rng.integers(len(near), size=int(partners * residues))]
        pair[chosen[:, 0], chosen[:, 1], channel] = rng.integers(1, FRAMES + 1, len(chosen)) / FRAMES
    whole = covariances.sum(axis=0)
    pair[..., 9] = whole / np.sqrt(np.outer(np.diag(whole), np.diag(whole)))
    return {"MD": md_entry(residue, pair, [residues]), "NMA": nma_entry(fluctuation, correlations, [residues])}


def write_plainly(path: Path, entries: dict[str, Entry], gzip: bool) -> None:
    """Datasets under the names of a store with other options of HDF5."""
    with h5py.File(path, "w") as file:
        for name, arrays in entries.items():
            for suffix, data in zip(SUFFIXES, arrays, strict=True):
                options = {"compression": "gzip", "chunks": data.shape} if gzip else {}
                file.create_dataset(f"{name}{suffix}", data=data, **options)


def whole_reader(path: Path) -> Callable[[str, int, int], object]:
    """Read both arrays whole, then crop."""
    file = h5py.File(path)

    def read(name: str, start: int, stop: int) -> object:
        residue, pair = (file[f"{name}{suffix}"][()] for suffix in SUFFIXES)
        return residue[start:stop], pair[start:stop, start:stop]

    return read


def seconds_of(action: Callable[[], object]) -> float:
    """Wall time."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def time_and_memory(action: str, path: Path, out: Path) -> tuple[float, float]:
    """Seconds, and megabytes that the peak of the memory grows by."""
    took: list[float] = []
    grown = peak_growth(
        lambda: took.append(seconds_of(lambda: check_store(path) if action == "check" else merge_stores([path], out)))
    )
    return took[0], grown


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    rng = np.random.default_rng(0)
    entries: dict[str, Entry] = {}
    for number, residues in enumerate(np.linspace(200, 1000, arguments.entries).astype(int)):
        entries |= {f"{kind}{number}": entry for kind, entry in made_up(int(residues), rng).items()}
    with tempfile.TemporaryDirectory() as name, threadpool_limits(1):
        paths = {form: Path(name, f"{form}.h5") for form in ("ours", "ours float16", "gzip whole", "contiguous")}
        with StoreWriter(paths["ours"]) as ours, StoreWriter(paths["ours float16"], "float16") as half:
            for entry, arrays in entries.items():
                ours.add(entry, *arrays)
                half.add(entry, *arrays)
        write_plainly(paths["gzip whole"], entries, gzip=True)
        write_plainly(paths["contiguous"], entries, gzip=False)
        readers = {f: whole_reader(p) if f == "gzip whole" else FeatureStore(p).read for f, p in paths.items()}
        for kind in ("MD", "NMA"):
            names = [entry for entry in entries if entry.startswith(kind)]
            crops = []
            for entry in rng.choice(names, arguments.crops).tolist():
                start = int(rng.integers(max(1, len(entries[entry][0]) - arguments.length + 1)))
                crops.append((entry, start, start + arguments.length))
            print(f"{kind}: {len(names)} entries")
            rates, sizes = {}, {}
            for form, read in readers.items():
                runs = [seconds_of(lambda: [read(*crop) for crop in crops]) for _ in range(arguments.repeats)]  # noqa: B023
                rates[form] = len(crops) / statistics.median(runs)
                with h5py.File(paths[form]) as file:
                    stored = [
                        file[key].id.get_storage_size()
                        for entry in names
                        for suffix in (*SUFFIXES, LIST_SUFFIX)
                        if (key := f"{entry}{suffix}") in file
                    ]
                sizes[form] = sum(stored) / len(names)
            for form, rate in rates.items():
                ratios = ", ".join(f"{rate / rates[o]:6.2f} x {o}" for o in ("gzip whole", "contiguous"))
                size = f"{sizes[form] / 1e6:6.2f} MB/entry ({sizes[form] / sizes['contiguous']:.3f})"
                print(f"  {form:13} {rate:8.1f} reads/s ({ratios}), {size}")
        for action, form in [(a, f) for a in ("check", "merge") for f in ("ours", "contiguous") if arguments.merge]:
            took, grown = in_child(time_and_memory, action, paths[form], Path(name, "merged.h5"))
            print(f"{action} {form}: {1e3 * took / len(entries):.1f} ms/entry, {grown:.0f} MB more at the peak")


if __name__ == "__main__":
    main()
