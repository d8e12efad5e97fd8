"""Predictions in files: a folder with one npz per protein, an HDF5 file with one group per protein, or a table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.errors import reading, require
from data_prepare.files import (
    fixed_text,
    new_hdf5,
    open_hdf5,
    open_npz,
    own_array,
    plain_value,
    whole_file,
    write_attributes,
)
from data_prepare.properties import PROPERTIES, RESIDUE_COLUMNS, table_columns
from data_prepare.resume import Results, digest
from model.inference.batches import residue_rows
from model.inference.inputs import Protein, file_name
from model.inference.tables import write_tables
from model.network.tokenizer import split_tokens

Properties = dict[str, NDArray[np.float32]]  # property -> (N,), (N, bins) or (N, N)

COMPRESSED: Final = {"compression": "gzip", "compression_opts": 1, "shuffle": True}  # every HDF5 library reads it
SMALL: Final = 2**12  # bytes of an array that is not worth compressing
PART: Final = "prediction"  # group of a file of one prediction
TEXTS: Final = ("name", "sequence", "model")  # of a stored prediction, beside chain and the properties


@dataclass(frozen=True)
class Prediction:
    """Predicted properties of a protein of N residues."""

    name: str
    sequence: str  # chains are joined by `<eos><cls>`
    model: str  # name and digest of the weights, see `DanceModel.label`
    chain: NDArray[np.int32]  # (N,) index of the chain of each residue
    properties: Properties
    digest: str = ""  # of the weights and, unless it is fp32, of the precision

    @property
    def arrays(self) -> dict[str, Any]:
        """Content of an npz file or HDF5 group, by name."""
        texts = {name: getattr(self, name) for name in (*TEXTS, "digest")}
        return {**texts, "chain": self.chain, **self.properties}


def read_prediction(path: str | os.PathLike[str], group: str | None = None) -> Prediction:
    """Read an npz file or a group of an HDF5 file; InputError if it is missing or not a prediction."""
    with _stored(Path(path), group) as arrays:
        texts = {name: _text(arrays[name]) for name in TEXTS}
        values = {name: np.asarray(arrays[name]) for name in PROPERTIES if name in arrays}
        return Prediction(chain=np.asarray(arrays["chain"]), properties=values, digest=_digest(arrays), **texts)


def residue_table(protein: Protein, prediction: Prediction) -> pd.DataFrame:
    """A row per residue: protein, chain, number, position (from 1 over all chains), residue, properties, model.

    Chain and number are those of the structure, see `Protein.residue_ids`; numbers are text, as they may have insertion
    codes. Columns of secondary structure and angles: `properties.table_columns`.
    """
    rows, _ = residue_rows(protein.sequence)
    tokens = ["<cls>", *split_tokens(protein.sequence)]
    chains, numbers = zip(*protein.residue_ids, strict=True)
    columns: dict[str, Any] = {
        "protein": protein.name,
        "chain": chains,
        "number": numbers,
        "position": np.arange(1, len(rows) + 1),
        "residue": [tokens[row] for row in rows],
    }
    for name in RESIDUE_COLUMNS:
        if name in prediction.properties:
            columns |= zip(table_columns(name), prediction.properties[name].reshape(len(rows), -1).T, strict=True)
    return pd.DataFrame(columns | {"model": prediction.model})


class PredictionFolder:
    """npz files in a folder; finished ones stay.

    `digest` is a `network_digest`, `properties` the wanted names, `model` the label of the network.
    """

    def __init__(self, output: Path, digest: str, properties: Sequence[str], model: str = "") -> None:
        self.output, self.digest, self.properties, self.model = output, digest, properties, model

    def part(self, protein: Protein) -> Path:
        """The npz file to which a new prediction is written."""
        return self.output / f"{file_name(protein.name)}.npz"

    def location(self, protein: Protein) -> tuple[Path, str | None]:
        """File and HDF5 group of a finished prediction."""
        return self.part(protein), None

    def has(self, protein: Protein) -> bool:
        """Whether a protein is finished; InputError if its name holds another prediction."""
        return self.part(protein).exists() and self._fits(protein)

    def write(self, protein: Protein, chain: NDArray[np.int32], properties: Properties) -> None:
        """Write the prediction of a protein; the file is complete or absent."""
        prediction = Prediction(protein.name, protein.sequence, self.model, chain, properties, self.digest)
        with whole_file(self.part(protein)) as temporary:
            self.write_part(temporary, prediction.arrays)

    def write_part(self, path: Path, arrays: Mapping[str, Any]) -> None:
        """Write the arrays of a prediction."""
        np.savez(path, **arrays)

    def finish(self, proteins: Sequence[Protein]) -> None:
        """Call when all proteins are predicted."""

    def read(self, protein: Protein) -> Prediction:
        """The prediction of a protein, after `finish`."""
        return read_prediction(*self.location(protein))

    def _fits(self, protein: Protein) -> bool:
        path, group = self.location(protein)
        with _stored(path, group) as arrays:
            other = {"sequence": _text(arrays["sequence"]) != protein.sequence}
            other["model or precision"] = _digest(arrays) != self.digest
            problems = [f"of another {name}" for name, differs in other.items() if differs]
            problems += [f"without {name}" for name in self.properties if name not in arrays]
        fault = f"{group or protein.name} is a prediction {', '.join(problems)}"
        require(not problems, f"{path}: {fault}; remove it or choose another --output")
        return True


class PredictionFile(PredictionFolder):
    """An HDF5 file with compressed arrays.

    Until all predictions are finished they are files of one group, from which an interrupted run resumes, and whose
    compressed bytes are copied.
    """

    def __init__(self, output: Path, digest: str, properties: Sequence[str], model: str = "") -> None:
        super().__init__(output, digest, properties, model)
        self.parts = Results(output)
        self.groups: frozenset[str] = frozenset()
        if output.exists():
            with (
                reading(output, "an HDF5 file of predictions", "choose another --output"),
                open_hdf5(output) as file,
            ):
                own = all(isinstance(group, h5py.Group) and "chain" in group for group in file.values())
                require(own and not file.attrs, f"{output}: holds data other than predictions; choose another --output")
                self.groups = frozenset(file)

    def part(self, protein: Protein) -> Path:
        """See `PredictionFolder`; the name is a digest of everything that the prediction depends on."""
        return _part(self.parts, self, protein).with_suffix(".h5")

    def write_part(self, path: Path, arrays: Mapping[str, Any]) -> None:
        """See `PredictionFolder`."""
        with new_hdf5(path) as (file, _):
            for name, values in arrays.items():
                options = COMPRESSED if np.asarray(values).nbytes >= SMALL and np.ndim(values) else {}
                file.create_dataset(f"{PART}/{name}", data=fixed_text(values), **options)
            write_attributes(file[PART], {"model": self.model})

    def location(self, protein: Protein) -> tuple[Path, str | None]:
        """See `PredictionFolder`."""
        return self.output, file_name(protein.name)

    def has(self, protein: Protein) -> bool:
        """See `PredictionFolder`."""
        return self._fits(protein) if file_name(protein.name) in self.groups else self.part(protein).exists()

    def finish(self, proteins: Sequence[Protein]) -> None:
        """Add the finished predictions to the file and remove their parts."""
        new = [protein for protein in proteins if file_name(protein.name) not in self.groups]
        if new:
            with whole_file(self.output) as temporary, new_hdf5(temporary) as (file, check):
                sources = [(self.output, group, group) for group in self.groups]
                sources += [(self.part(protein), PART, file_name(protein.name)) for protein in new]
                for path, group, name in sources:
                    with _stored(path, group) as stored:
                        file.copy(stored, name)
                    check()
        for protein in proteins:
            self.part(protein).unlink(missing_ok=True)
        with suppress(OSError):  # absent, or it holds parts of another interrupted run
            self.parts.folder.rmdir()


class PredictionTable(PredictionFolder):
    """A table with a row per residue; until the whole output is finished, predictions are files of one protein."""

    def __init__(self, output: Path, digest: str, properties: Sequence[str], model: str = "") -> None:
        super().__init__(output, digest, properties, model)
        self.parts = Results(output)

    def part(self, protein: Protein) -> Path:
        """See `PredictionFile`."""
        return _part(self.parts, self, protein)

    def has(self, protein: Protein) -> bool:
        """See `PredictionFolder`."""
        return self.part(protein).exists()

    def finish(self, proteins: Sequence[Protein]) -> None:
        """Write the table; the parts stay until `Results.finish`."""
        write_tables((residue_table(protein, self.read(protein)) for protein in proteins), self.output)


def _part(results: Results, store: PredictionFolder, protein: Protein) -> Path:
    """File of an unfinished output; its name is a digest of everything that the prediction depends on."""
    return results.path(digest(store.digest, store.properties, protein.name, protein.sequence))


@contextmanager
def _stored(path: Path, group: str | None) -> Iterator[Mapping[str, Any]]:
    """Arrays of an npz file or a group by name; whatever a reader raises becomes one line."""
    where, remedy = path if group is None else f"{path}, {group}", "remove it and predict again"
    with (
        reading(where, "a prediction", remedy),
        open_npz(path) if group is None else open_hdf5(path) as file,
    ):
        found: Any = file
        if group is not None:
            require(isinstance(found.get(group, getlink=True), h5py.HardLink), f"{where}: no prediction; {remedy}")
            found = found[group]
            for name in found:
                own_array(found, name, where, remedy)
        yield found


def _digest(arrays: Mapping[str, Any]) -> str:
    """Empty in files of earlier versions."""
    return _text(arrays["digest"]) if "digest" in arrays else ""


def _text(array: Any) -> str:
    return str(plain_value(np.asarray(array).item()))
