"""Properties of one protein from trajectories, ensembles, stores, feature files or predictions, in one form."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain as joined
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_layout import LIST_SUFFIX, SUFFIXES
from data_prepare.dataset.table import read_table
from data_prepare.dataset.token_space import named_properties
from data_prepare.errors import InputWarning, reading, require, some_of
from data_prepare.files import HDF5_SUFFIXES, csv_pieces, open_hdf5, open_npz
from data_prepare.molecular_dynamics.frames.frame_range import ALL_FRAMES, FrameRange
from data_prepare.pipeline.split import TABLE
from data_prepare.properties import INTERACTIONS, MD_PROPERTIES, NMA_PROPERTIES, PAIR_CHANNELS, PROPERTIES
from data_prepare.structure.sequence import CHAIN_LINKER
from model.inference.batches import residue_rows
from model.inference.prediction_files import Prediction, Properties, read_prediction
from model.network.tokenizer import split_tokens

if TYPE_CHECKING:
    from data_prepare.structure.topology import Topology
    from model.network.dance import DanceModel

FEWEST_FRAMES: Final = 2  # of a half
FORMS: Final = (
    "TOPOLOGY:TRAJECTORY (replicas: TOPOLOGY:X1,X2), a multi-model PDB or mmCIF file, STORE.h5:NAME, the prefix of the "
    "files of MD_features (or TOPOLOGY:PREFIX), or a prediction (NAME.npz or FILE.h5:NAME)"
)


@dataclass(frozen=True)
class Measurement:
    """Properties of the N residues of a protein that have data, measured or predicted."""

    name: str
    sequences: tuple[str, ...]  # a letter per residue of each chain, unresolved ones included; empty if unknown
    residue: NDArray[np.intp]  # (N,) index of each residue among those of all chains, ascending
    chain: NDArray[np.int32]  # (N,) index of its chain
    chain_ids: tuple[str, ...]  # of each residue
    numbers: tuple[str, ...]  # of each residue, with insertion code: those of the file, or positions in the chain
    properties: Properties  # in the units of `properties.UNITS`: interactions as contacts per frame
    missing: tuple[str, ...] = ()  # properties that one would expect
    parts: tuple[Properties, ...] = ()  # of replicas or of the two halves of a trajectory

    @property
    def letters(self) -> str:
        """Letter of each residue; X if unknown."""
        whole = "".join(self.sequences)
        return "".join(whole[k] for k in self.residue) if whole else "X" * len(self.residue)

    def on_whole_sequence(self) -> tuple[NDArray[np.int32], Properties]:
        """Chain (L,) of all residues, unresolved ones included, and the properties with NaN for these.

        Those of the residues with data, if the sequence is unknown.
        """
        if not self.sequences:
            return self.chain, self.properties
        chain = np.repeat(np.arange(len(self.sequences), dtype=np.int32), [len(each) for each in self.sequences])
        whole: Properties = {}
        for name, values in self.properties.items():
            pairs = name in PAIR_CHANNELS
            shape = (len(chain), len(chain)) if pairs else (len(chain), *values.shape[1:])
            whole[name] = np.full(shape, np.nan, np.float32)
            whole[name][np.ix_(self.residue, self.residue) if pairs else self.residue] = values
        return chain, whole

    def select(self, rows: NDArray[np.intp]) -> Measurement:
        """Some of the residues."""

        def of(properties: Properties) -> Properties:
            pairs = np.ix_(rows, rows)
            return {name: values[pairs if name in PAIR_CHANNELS else rows] for name, values in properties.items()}

        return replace(
            self,
            residue=self.residue[rows],
            chain=self.chain[rows],
            chain_ids=tuple(self.chain_ids[row] for row in rows),
            numbers=tuple(self.numbers[row] for row in rows),
            properties=of(self.properties),
            parts=tuple(map(of, self.parts)),
        )


def read_measurement(
    source: str | Path,
    frames: FrameRange = ALL_FRAMES,
    name: str | None = None,
    table: str | Path | None = None,
    convergence: bool = True,
    skip_broken_frames: bool = False,
) -> Measurement:
    """Read a measurement or prediction, given as in `FORMS`.

    Of trajectories the `frames` of each replica are used, and pooled; with `convergence` the features of each replica,
    or of the two halves of a single one, are computed, too. The sequence of a store's entry is in its attributes or in
    a training `table`, by default table.csv in its folder. InputError if the source is none of these or unusable.
    """
    path, part = _split(str(source))
    hdf5 = path.suffix.lower() in HDF5_SUFFIXES
    if hdf5:
        found = _of_hdf5(path, part, table)
    elif path.suffix.lower() == ".npz" and path.is_file():
        found = of_prediction(read_prediction(path))
    elif not path.is_file() or (part and _feature_files(Path(part))[0].is_file()):
        found = _of_feature_files(Path(part) if path.is_file() else path, path if path.is_file() else None)
    else:
        replicas = [Path(text) for text in part.split(",")] if part else [path]
        found = of_trajectories(path, replicas, frames, convergence, skip_broken_frames)
    return found if name is None else replace(found, name=name)


def check_source(source: str) -> None:
    """InputError if a file or the entry that a source names is not there, see `read_measurement`."""
    path, part = _split(source)
    if path.suffix.lower() in HDF5_SUFFIXES:
        _entry(path, part)
    elif part and not _feature_files(Path(part))[0].is_file():
        for text in part.split(","):
            require(Path(text).is_file(), f"{text}: no such file; expected a trajectory")


def _split(source: str) -> tuple[Path, str]:
    """File and what follows its colon; file names may have colons."""
    ends = [len(source), *(k for k, letter in enumerate(source) if letter == ":")]
    for end in ends:
        if Path(source[:end]).is_file():
            return Path(source[:end]), source[end + 1 :]
    known = ":" not in source and _feature_files(Path(source))[0].is_file()
    require(known, f"{source.partition(':')[0] or repr(source)}: no such file; give {FORMS}")
    return Path(source), ""


def of_trajectories(
    topology_path: Path,
    paths: Sequence[Path],
    frames: FrameRange = ALL_FRAMES,
    convergence: bool = True,
    skip_broken_frames: bool = False,
) -> Measurement:
    """Features of the replicas of a system together, and of each; of a single one those of its halves."""
    from data_prepare.molecular_dynamics.features.md_features import md_features
    from data_prepare.molecular_dynamics.frames.trajectory import frame_numbers, read_chunks
    from data_prepare.structure.readers import read_topology

    topology = read_topology(topology_path)

    def left_out() -> list | None:
        return [] if skip_broken_frames else None

    chunks = joined.from_iterable(
        read_chunks(topology, path, frames, whole=True, left_out=left_out()) for path in paths
    )
    features = md_features(topology, chunks)
    parts: list[tuple[Path, FrameRange]] = [(path, frames) for path in paths] if len(paths) > 1 else []
    if len(paths) == 1:
        numbers = frame_numbers(paths[0], frames)
        middle = len(numbers) // 2
        if middle >= FEWEST_FRAMES:
            halves = (numbers[:middle], numbers[middle:])
            parts = [(paths[0], FrameRange(begin=half[0], end=half[-1], stride=half.step)) for half in halves]
    of_parts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # said of the whole already
        for path, some in parts if convergence else ():
            part = md_features(topology, path, frames=some, skip_broken_frames=skip_broken_frames)
            of_parts.append(named_properties(part.residue, part.pair))
    found = _of_residues(paths[0].stem, topology, features.ca_atom, features.residue, features.pair)
    return replace(found, parts=tuple(of_parts))


def _of_residues(name: str, topology: Topology, ca_atom: NDArray, residue: NDArray, pair: NDArray) -> Measurement:
    """Features (N, 47) and (N, N, 10) of the residues with these C-alpha atoms, see `MDFeatures.ca_atom`."""
    place = topology.file_index.argsort()  # atom of each place in the file
    known = (ca_atom < len(place)).all() and all(topology.atom_names[atom] == "CA" for atom in place[ca_atom])
    require(known, f"{topology.path}: its C-alpha atoms are not those of {name}; give the topology of these features")
    residues = topology.residue_of_atom[place[ca_atom]]
    protein = topology.subset(np.flatnonzero(np.isin(topology.residue_of_atom, residues)))
    sequences, index = protein.full_sequences()
    properties = named_properties(residue, pair)
    codes = zip(protein.residue_numbers.tolist(), protein.insertion_codes, strict=True)
    return Measurement(
        name,
        tuple(sequences),
        index.astype(np.intp),
        protein.chain_of_residue,
        tuple(protein.chain_ids[chain] or "X" for chain in protein.chain_of_residue),
        tuple(f"{number}{code}" for number, code in codes),
        properties,
        tuple(name for name in MD_PROPERTIES if name not in properties),
    )


def _feature_files(prefix: Path) -> tuple[Path, Path]:
    return Path(f"{prefix}_res_feature.csv"), Path(f"{prefix}_pair_feature.npz")


def _of_feature_files(prefix: Path, topology_path: Path | None) -> Measurement:
    """The files of MD_features; without a topology the sequence is unknown."""
    from data_prepare.molecular_dynamics.features.md_features import TABLE_COLUMNS
    from data_prepare.structure.readers import read_topology

    path, pair_path = _feature_files(prefix)
    (table,) = csv_pieces(path)
    with reading(path, "a residue table of MD_features"):
        residue = np.empty((len(table), len(TABLE_COLUMNS)))
        for name, column in TABLE_COLUMNS.items():
            residue[:, column] = table[name].replace("", "nan").astype(np.float64)
        ca_atom = table["ca_atom"].astype(np.int64).to_numpy()
    with reading(pair_path, "a pair array of MD_features"), open_npz(pair_path) as arrays:
        pair = arrays["array"]
    same = pair.shape[:2] == (len(table), len(table))
    require(same, f"{pair_path}: {pair.shape} for {len(table)} residues of {path}; give the two files of one run")
    if topology_path is not None:
        return _of_residues(prefix.name, read_topology(topology_path), ca_atom, residue, pair)
    return _without_sequence(prefix.name, np.arange(len(table)), named_properties(residue, pair), MD_PROPERTIES)


def _without_sequence(
    name: str, residue: NDArray[np.intp], properties: Properties, expected: Sequence[str]
) -> Measurement:
    """A measurement of an unknown sequence; its residues are numbered from 1."""
    n = len(residue)
    numbers = tuple(str(k + 1) for k in residue)
    missing = tuple(each for each in expected if each not in properties)
    return Measurement(name, (), residue, np.zeros(n, np.int32), ("A",) * n, numbers, properties, missing)


def _of_tokens(
    name: str, sequence: str, token: NDArray[np.intp], properties: Properties, expected: Sequence[str]
) -> Measurement:
    """Properties of the residues at these tokens of a sequence whose chains are joined by `<eos><cls>`."""
    rows, chain = residue_rows(sequence)
    residue = np.searchsorted(rows, token)
    chains = [
        "".join(letter if len(letter) == 1 else "X" for letter in split_tokens(text))
        for text in sequence.split(CHAIN_LINKER)
    ]
    starts = np.cumsum([0, *map(len, chains)])
    ids = [ascii_uppercase[k] if k < len(ascii_uppercase) else str(k + 1) for k in range(len(chains))]
    return Measurement(
        name,
        tuple(chains),
        residue,
        chain[residue],
        tuple(ids[k] for k in chain[residue]),
        tuple(str(k + 1) for k in residue - starts[chain[residue]]),
        properties,
        tuple(each for each in expected if each not in properties),
    )


def _of_hdf5(path: Path, name: str, table: str | Path | None) -> Measurement:
    """An entry of a store, or a prediction in an HDF5 file."""
    name, is_prediction = _entry(path, name)
    return of_prediction(read_prediction(path, name)) if is_prediction else of_entry(path, name, table)


def _entry(path: Path, name: str) -> tuple[str, bool]:
    """Name of an entry, by default of the only one, and whether it is a prediction; InputError if it is not there."""
    with reading(path, "an HDF5 file"), open_hdf5(path) as file:
        keys = list(file)
    others = (SUFFIXES[1], LIST_SUFFIX)
    entries = sorted(key.removesuffix(SUFFIXES[0]) for key in keys if not key.endswith(others))
    require(entries, f"{path}: no entries; give {FORMS}")
    name = entries[0] if not name and len(entries) == 1 else name
    require(name in entries, f"{path}: no entry {name!r}; give {path}:NAME, one of {some_of(entries)}")
    return name, name in keys


def of_entry(path: str | Path, name: str, table: str | Path | None = None) -> Measurement:
    """An entry of a store; see `read_measurement`."""
    with FeatureStore(path) as store:
        properties = store.as_properties(name)
        sequence = store.attributes_of(name).get("modify_seq")
        tokens = store.length(name)
    token = properties.pop("token")
    beside = Path(path).with_name(TABLE)
    if table or (sequence is None and beside.is_file()):
        listed = read_table(table or beside, labelled=False).set_index("name")["modify_seq"]
        require(name in listed or not table, f"{table}: no entry {name}; give the table of {path}")
        sequence = listed.get(name, sequence)
    expected = NMA_PROPERTIES if any(each in properties for each in NMA_PROPERTIES) else MD_PROPERTIES
    if sequence is None:
        return _without_sequence(name, token - 1, properties, expected)
    length = len(split_tokens(str(sequence))) + 2
    require(length == tokens, f"{path}: entry {name} has {tokens} tokens, its sequence {length}; give its --table")
    rows, _ = residue_rows(str(sequence))
    require(np.isin(token, rows).all(), f"{path}: entry {name} has data between its chains; give its --table")
    return _of_tokens(name, str(sequence), token, properties, expected)


def of_prediction(prediction: Prediction) -> Measurement:
    """A prediction; angles that do not exist are NaN and interactions contacts per frame, as in measurements."""
    properties = dict(prediction.properties)
    properties |= {name: properties[name] ** 3 for name in INTERACTIONS if name in properties}
    rows, chain = residue_rows(prediction.sequence)
    found = _of_tokens(prediction.name, prediction.sequence, rows, properties, PROPERTIES)
    edges = np.flatnonzero(np.diff(chain))
    absent = {
        "chi": np.flatnonzero(np.isin(list(found.letters), ("A", "G"))),
        "phi": np.array([0, *(edges + 1)]),
        "psi": np.array([*edges, len(rows) - 1]),
    }
    for name in absent.keys() & properties.keys():
        properties[name] = properties[name].copy()
        properties[name][absent[name]] = np.nan
    return found


def predicted(model: DanceModel, measurement: Measurement, name: str) -> Measurement:
    """The prediction for the sequence of a measurement, unresolved residues included."""
    from model.inference.predict import predict_properties

    where = f"{measurement.name}: its sequence is unknown"
    require(measurement.sequences, f"{where}; give the training table of the store, or TOPOLOGY:PREFIX")
    sequence = CHAIN_LINKER.join(measurement.sequences)
    _, chain = residue_rows(sequence)
    return of_prediction(Prediction(name, sequence, "", chain, predict_properties(model, sequence)))
