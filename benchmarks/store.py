"""Random crops from our store, from gzip read whole, and from the published contiguous form.

    python benchmarks/store.py [--entries 12] [--crops 200] [--repeats 3] [--merge]

The entries are made up: a compact random chain of 200 to 1000 residues, correlations of its elastic network (dense),
contacts between near residues about as often as in trajectories of folded proteins (5.6 per residue over all types,
frequencies of 1000 frames). `--store` takes the entries of a store of your own instead.
All forms hold the same numbers and are read from the page cache; float16 is ours with half the digits. With `--merge`
also the time and the peak memory of checking and merging these files (Linux).
"""

from __future__ import annotations

import multiprocessing
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import tyro
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from data_prepare.dataset.check import check_store
from data_prepare.dataset.store import FeatureStore, StoreWriter, merge_stores
from data_prepare.dataset.token_space import md_entry, nma_entry

Entry = tuple[NDArray[np.float32], NDArray[np.float32]]
Reader = Callable[[str, int, int], object]

# partners of a residue by type of contact, as in the example trajectories and a little more, since these are short
PARTNERS = (3.0, 1.0, 0.6, 0.4, 0.3, 0.12, 0.12, 0.03, 0.03)
FRAMES = 1000
KINDS = ("MD, 47 + 10", "NMA, 3 + 3")


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
    store: Path | None = None
    """Take the entries of this store that are at least as long as a crop."""
    merge: bool = False
    """Measure checking and merging, too."""


def made_up(residues: int, rng: np.random.Generator) -> tuple[Entry, Entry]:
    """One MD and one NMA entry of a random compact chain."""
    steps = rng.normal(size=(residues, 3))
    places = np.empty((residues, 3))
    radius = 2.2 * residues**0.38  # Angstrom: of gyration, folded proteins
    place = np.zeros(3)
    for k, step in enumerate(steps):  # a walk of 3.8 Angstrom steps that is pulled back to the centre
        direction = step - place / radius
        place = place + 3.8 * direction / np.linalg.norm(direction)
        places[k] = place
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)  # (N, N)
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
    # the nearest pairs are the candidates of contacts
    candidates = np.argwhere((distance < 8.0) & ~np.eye(residues, dtype=bool))
    for channel, partners in enumerate(PARTNERS):
        chosen = candidates[rng.integers(len(candidates), size=int(partners * residues))]
        pair[chosen[:, 0], chosen[:, 1], channel] = rng.integers(1, FRAMES + 1, len(chosen)) / FRAMES
    whole = covariances.sum(axis=0)
    pair[..., 9] = whole / np.sqrt(np.outer(np.diag(whole), np.diag(whole)))
    return md_entry(residue, pair, [residues]), nma_entry(fluctuation, correlations, [residues])


def entries_of(arguments: Arguments) -> Iterator[tuple[str, str, Entry]]:
    """Kind, name and arrays."""
    if arguments.store is not None:
        with FeatureStore(arguments.store) as store:
            for name in store.names():
                if store.length(name) >= arguments.length:
                    entry = store.read(name)
                    yield KINDS[entry[0].shape[1] == 3], name, entry
        return
    rng = np.random.default_rng(0)
    for number, residues in enumerate(np.linspace(200, 1000, arguments.entries).astype(int)):
        for kind, entry in zip(KINDS, made_up(int(residues), rng), strict=True):
            yield kind, f"{kind[:3].strip(',')}{number}", entry


class PlainWriter:
    """Write datasets under the names of a store with other options of HDF5."""

    def __init__(self, path: Path, whole_gzip: bool) -> None:
        self.path, self.whole_gzip = path, whole_gzip

    def add(self, name: str, residue: NDArray[np.float32], pair: NDArray[np.float32]) -> None:
        """Add one entry."""
        with h5py.File(self.path, "a") as file:
            for suffix, data in (("res", residue), ("pair", pair)):
                options = {"compression": "gzip", "chunks": data.shape} if self.whole_gzip else {}
                file.create_dataset(f"{name}_{suffix}_feature", data=data, **options)


def bytes_of(path: Path, name: str) -> int:
    """Bytes of an entry in the file."""
    with h5py.File(path) as file:
        return sum(file[f"{name}_{suffix}_feature"].id.get_storage_size() for suffix in ("res", "pair"))


def crop_reader(path: Path) -> Reader:
    """What training does."""
    store = FeatureStore(path)
    return lambda name, start, stop: store.read(name, start, stop)


def whole_reader(path: Path) -> Reader:
    """Read both arrays whole, then crop."""
    file = h5py.File(path)

    def read(name: str, start: int, stop: int) -> object:
        residue, pair = file[f"{name}_res_feature"][()], file[f"{name}_pair_feature"][()]
        return residue[start:stop], pair[start:stop, start:stop]

    return read


def reads_per_second(read: Reader, crops: list[tuple[str, int, int]], repeats: int) -> float:
    """Median over the runs."""
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        for crop in crops:
            read(*crop)
        rates.append(len(crops) / (time.perf_counter() - start))
    return statistics.median(rates)


def peak_megabytes() -> float:
    """Largest resident memory of this process so far (Linux)."""
    (kilobytes,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def time_and_memory(action: str, path: Path, out: Path) -> tuple[float, float]:
    """Seconds, and megabytes that the peak of the memory grows by."""
    before = peak_megabytes()
    start = time.perf_counter()
    if action == "check":
        check_store(path)
    else:
        merge_stores([path], out)
    return time.perf_counter() - start, peak_megabytes() - before


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    with tempfile.TemporaryDirectory() as name, threadpool_limits(1):
        folder = Path(name)
        paths = {form: folder / f"{form}.h5" for form in ("ours", "ours float16", "gzip whole", "contiguous")}
        lengths: dict[str, dict[str, int]] = {}
        with StoreWriter(paths["ours"]) as ours, StoreWriter(paths["ours float16"], "float16") as half:
            writers = (ours, half, PlainWriter(paths["gzip whole"], True), PlainWriter(paths["contiguous"], False))
            for kind, entry, (residue, pair) in entries_of(arguments):
                lengths.setdefault(kind, {})[entry] = len(residue)
                for writer in writers:
                    writer.add(entry, residue, pair)
        readers = {f: whole_reader(p) if f == "gzip whole" else crop_reader(p) for f, p in paths.items()}
        for kind, tokens in lengths.items():
            rng = np.random.default_rng(1)
            crops = []
            for entry in rng.choice(sorted(tokens), arguments.crops):
                start = int(rng.integers(max(1, tokens[entry] - arguments.length + 1)))
                crops.append((str(entry), start, start + arguments.length))
            print(f"{kind}: {len(tokens)} entries of {min(tokens.values())} to {max(tokens.values())} tokens")
            rates = {form: reads_per_second(reader, crops, arguments.repeats) for form, reader in readers.items()}
            sizes = {form: sum(bytes_of(path, entry) for entry in tokens) / len(tokens) for form, path in paths.items()}
            for form in paths:
                against = ", ".join(
                    f"{rates[form] / rates[o]:6.2f} x reads of {o}" for o in ("gzip whole", "contiguous")
                )
                size = f"{sizes[form] / 1e6:6.2f} MB/entry ({sizes[form] / sizes['contiguous']:.3f})"
                print(f"  {form:13} {rates[form]:8.1f} reads/s ({against}), {size}")
        if arguments.merge:
            jobs = [("check", "ours"), ("check", "contiguous"), ("merge", "ours"), ("merge", "contiguous")]
            count = sum(map(len, lengths.values()))
            for action, form in jobs:
                # a process of its own has a peak of its own
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                    took, megabytes = pool.submit(time_and_memory, action, paths[form], folder / "merged.h5").result()
                print(f"{action} {form}: {1e3 * took / count:.1f} ms/entry, {megabytes:.0f} MB more at the peak")


if __name__ == "__main__":
    main()
