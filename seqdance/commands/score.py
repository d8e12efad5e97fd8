"""Command `seqdance score`: zero-shot scores of mutations as a table, and as a heat map of one protein.

    seqdance score --model ChaoHou/ESMDance --sequence MQIFVKTLTG --output scores.csv
    seqdance score --model ChaoHou/ESMDance --fasta proteins.fasta --mutants mutants.csv --output scores.parquet

First the changes of the properties go into a work file beside the output, which an interrupted run goes on with; then
they are combined, because the normalisation needs all mutants of a protein. It is done on disk, column by column, in a
nameless file of the size of the work file. Memory grows by some 70 bytes per mutant.
"""

from __future__ import annotations

import bisect
import fcntl
import gzip
import hashlib
import importlib.util
import io
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

import numpy as np
import pandas as pd
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.errors import InputError, run_command
from data_prepare.files import check_output, whole_file
from model.inference.inputs import Protein, proteins_of
from model.inference.predict import model_fingerprint
from model.mutations.score import (
    PROPERTIES_OF,
    PUBLISHED_SCORE,
    PropertySet,
    Vector,
    changes_of_batches,
    combine_rows,
    geometric_mean,
    normalised_columns,
    plan_batches,
    plot_mutation_map,
)
from model.mutations.substitution import WINDOW, WINDOW_STEP, Mutants, mutants_of, read_mutants
from model.network.dance import DanceModel, load_model
from model.network.device import evaluating

ROWS_PER_PIECE: Final = 5_000  # of files read and written at once
WORK_FILE: Final = b"seqdance score "  # its first bytes; a version and a fingerprint follow


@dataclass(frozen=True)
class ScoreConfig:
    """Score mutations by how much the predicted dynamics change: a higher score means more damage.

    Columns: protein; mutant; score, the published one (norm_geometric_mean); damage, the share of the protein's other
    mutants and wild type that score lower (0 to 1, 1 = most damaging); eight ways to combine the changes; the relative
    change of each property.

    Proteins of more than 1,024 tokens are seen through a window of 1,024: centred on the mutation (on the middle of
    several), moved to a multiple of 256 tokens, so that nearby mutants share a window and its wild type, and cut as in
    training.
    """

    model: str
    """Folder with model.safetensors and config.json, weight file, or Hub id such as ChaoHou/ESMDance."""
    output: Path
    """Table to write: .csv, .csv.gz or .parquet. The heat map of all single mutants of one protein goes beside it."""
    sequence: str | None = None
    """Wild type; chains of a complex are joined by <eos><cls> and numbered on."""
    fasta: Path | None = None
    """Wild types of a FASTA file (.gz too)."""
    pdb: Path | None = None
    """Wild type of a PDB file (.gz too), unresolved residues included."""
    cif: Path | None = None
    """Wild type of an mmCIF file (.gz too)."""
    chain: str | None = None
    """Chain of the structure, or several joined by commas. Default: all protein chains."""
    all_single: bool = False
    """All 19 mutants of each residue; also what is done if no mutants are given."""
    mutations: str | None = None
    """Mutants of one protein, such as A12G,K5R:L7V."""
    mutants: Path | None = None
    """CSV with a column mutant or mut_type (A12G:K5R), mutated_sequence or aa_seq; protein too if of several."""
    megascale: Path | None = None
    """Mutants and wild types of a file of the form of Tsuboyama2023_Dataset2_Dataset3_20230416.csv."""
    proteingym: Path | None = None
    """Mutants of a ProteinGym file; it tells the wild type too."""
    offset: int = 0
    """Number of a residue in the mutations = its position in the sequence + offset."""
    properties: PropertySet = "all"
    """residue: without residue pairs, faster; 10 changes instead of 23, and scores over these."""
    sequences: bool = False
    """Write the whole sequence of each mutant too."""
    batch_size: int | None = None
    """Mutants at a time; changes no number. Default: chosen by length, for bounded memory."""
    device: str = "auto"
    """auto takes a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Job:
    """Mutants of one protein."""

    name: str
    mutants: Mutants


def jobs_of(config: ScoreConfig) -> list[Job]:
    """Proteins and mutants that the options ask for.

    Raises
    ------
    InputError
        Options contradict each other, or an input cannot be used.
    """
    sources = {
        "--all-single": config.all_single or None,
        "--mutations": config.mutations,
        "--mutants": config.mutants,
        "--megascale": config.megascale,
        "--proteingym": config.proteingym,
    }
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are given; give one of them")
    measured = config.megascale or config.proteingym
    if measured is not None:
        return _measured_jobs(config, measured)
    proteins = proteins_of(config.sequence, config.fasta, config.pdb, config.cif, config.chain)
    if config.mutants is not None:
        found = read_mutants(config.mutants, proteins, config.offset)
    elif config.mutations is not None:
        if len(proteins) > 1:
            raise InputError(f"--mutations are of one protein, {config.fasta} has {len(proteins)}; use --mutants")
        found = [mutants_of(proteins[0].sequence, config.mutations.split(","), config.offset)]
    else:
        found = [Mutants(protein.sequence, config.offset) for protein in proteins]
        for mutants in found:
            mutants.add_all_single()
    return _checked([Job(protein.name, mutants) for protein, mutants in zip(proteins, found, strict=True)])


def _measured_jobs(config: ScoreConfig, path: Path) -> list[Job]:
    from model.mutations.measured import read_measured

    form: Final = "megascale" if config.megascale else "proteingym"
    if config.offset:
        raise InputError(f"--offset {config.offset}: --{form} numbers its mutations itself; leave --offset out")
    wild_type: Protein | None = None
    if any(value is not None for value in (config.sequence, config.fasta, config.pdb, config.cif, config.chain)):
        if form == "megascale":
            raise InputError("--megascale brings its wild types; leave the other proteins out")
        proteins = proteins_of(config.sequence, config.fasta, config.pdb, config.cif, config.chain)
        if len(proteins) > 1:
            raise InputError(f"--proteingym is of one protein, {config.fasta} has {len(proteins)}; give one")
        wild_type = proteins[0]
    jobs = []
    for protein in read_measured(path, form):
        if wild_type is not None and wild_type.sequence != protein.wild_type:
            raise InputError(f"{path}: its mutants are not of the wild type that is given; leave that out")
        jobs.append(Job(protein.name, mutants_of(protein.wild_type, protein.mutants)))
    return _checked(jobs)


def _checked(jobs: list[Job]) -> list[Job]:
    """Those with mutants; each mutant is there once and fits into a window."""
    for job in jobs:
        try:
            job.mutants.check_unique()
            job.mutants.window_starts()
        except InputError as error:
            raise InputError(f"{job.name}: {error}") from None
    jobs = [job for job in jobs if len(job.mutants)]
    if not jobs:
        raise InputError("no mutants to score; give at least one")
    return jobs


class WorkFile:
    """Changes of the mutants that are done: a header, then rows of float64 that grow in the order of work.

    Parameters
    ----------
    path
        A work file there goes on if its header is that of `fingerprint`; another is begun anew.
    fingerprint
        64 characters that tell the model, the mutants and what is computed.
    columns
        Numbers in a row.

    Raises
    ------
    InputError
        Another run is writing the file, or it is not a work file; it stays as it is.
    """

    def __init__(self, path: Path, fingerprint: str, columns: int) -> None:
        self.path, self.columns = path, columns
        self.header = WORK_FILE + f"1 {fingerprint}\n".encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "a+b")  # noqa: SIM115 - the file is open as long as the object
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise InputError(f"{path}: another run is writing it; wait for that or choose another --output") from None
        self.file.seek(0)
        found = self.file.read(len(self.header))
        if found != self.header:
            if not is_work_header(found):
                self.file.close()
                raise InputError(f"{path}: not a work file of seqdance score; move it or give another --output")
            if len(found) == len(self.header):
                print(f"{path}: of another model, other mutants or options; begun anew", file=sys.stderr)
            self.file.truncate(0)
            self.file.write(self.header)
            self.file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __len__(self) -> int:
        """Whole rows."""
        return (self.path.stat().st_size - len(self.header)) // (8 * self.columns)

    def truncate(self, rows: int) -> None:
        """Keep the first rows."""
        self.file.truncate(len(self.header) + 8 * self.columns * rows)

    def append(self, changes: NDArray[np.float64]) -> None:
        """Add rows; once this returns they survive the end of the process."""
        self.file.write(changes.astype("<f8").tobytes())
        self.file.flush()

    def read(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """(rows, columns)."""
        shape = (len(self), self.columns)
        # mapped anew each time, so that pages that were read do not stay
        return np.array(np.memmap(self.path, "<f8", "r", len(self.header), shape)[rows])


def is_work_header(found: bytes) -> bool:
    """Whether a file that begins so is a work file, or what a killed run left of its header."""
    rest = found[len(WORK_FILE) :]
    return WORK_FILE.startswith(found[: len(WORK_FILE)]) and re.fullmatch(rb"\d*( [0-9a-f]*\n?)?", rest) is not None


def score(config: ScoreConfig) -> list[Path]:
    """Write the table, and the picture of all single mutants of one protein; returns the paths."""
    check_table(config.output)
    if config.batch_size is not None and config.batch_size < 1:
        raise InputError(f"--batch-size {config.batch_size}: it must be at least 1")
    jobs = jobs_of(config)
    model = load_model(config.model, config.device)
    work = config.output.with_name(config.output.name + ".changes")
    with WorkFile(work, fingerprint(model, jobs, config.properties), len(PROPERTIES_OF[config.properties])) as file:
        orders = compute(config, model, jobs, file)
        scores = write_table(config, jobs, orders, file)
    paths = [config.output]
    if scores is not None:
        (job,) = jobs
        paths.append(config.output.with_suffix(".png"))
        plot_mutation_map(scores, job.mutants.wild_type, paths[-1], offset=config.offset)
    work.unlink()
    return paths


def check_table(path: Path) -> None:
    """Raise InputError if a table cannot be written under this name."""
    check_output(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".png"]:
        raise InputError(f"--output {path}: this is the table; give it the suffix .csv, the picture goes beside it")
    if suffixes[-1:] not in ([".csv"], [".parquet"]) and suffixes[-2:] != [".csv", ".gz"]:
        raise InputError(
            f"--output {path}: tables are written as .csv, .csv.gz or .parquet; give one of these suffixes"
        )
    if suffixes[-1:] == [".parquet"] and importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"--output {path}: Parquet needs the package pyarrow; install it or write .csv")


def fingerprint(model: DanceModel, jobs: Sequence[Job], properties: PropertySet) -> str:
    """64 hexadecimal digits that tell the model, the mutants and what is computed."""
    digest = hashlib.sha256(f"{model_fingerprint(model)} {properties} {WINDOW} {WINDOW_STEP}".encode())
    for job in jobs:
        digest.update(f"\n{job.name}\n".encode())
        for part in job.mutants.content():
            digest.update(part)
    return digest.hexdigest()


def compute(config: ScoreConfig, model: DanceModel, jobs: Sequence[Job], file: WorkFile) -> list[NDArray[np.int64]]:
    """Append the changes that are not in the file yet; returns the mutants of each job in the order of its rows.

    Raises
    ------
    InputError
        A change is not finite; its batch is not appended.
    """
    orders = []
    total = sum(int(job.mutants.changed().sum()) for job in jobs)
    with evaluating(model), tqdm(total=total, unit="mutant") as bar:
        before = 0  # rows of former jobs
        for job in jobs:
            plan = plan_batches(model, job.mutants, config.batch_size, config.properties)
            done = min(max(0, len(file) - before), len(plan.rows))
            begin = bisect.bisect_right([batch.stop for batch in plan.batches], done)
            if begin < len(plan.batches):
                done = plan.batches[begin].first
                file.truncate(before + done)  # a batch that is not whole is made again
            bar.update(done)
            for part in changes_of_batches(model, job.mutants, plan, config.properties, begin):
                if not np.isfinite(part).all():
                    reason = "the network gives numbers that are not finite"
                    raise InputError(f"{job.name}: {reason}; check the weights of {config.model}")
                file.append(part)
                bar.update(len(part))
            before += len(plan.rows)
            orders.append(plan.rows)
    return orders


def write_table(
    config: ScoreConfig, jobs: Sequence[Job], orders: Sequence[NDArray[np.int64]], file: WorkFile
) -> pd.DataFrame | None:
    """Combine the changes and write the table; returns labels and scores of all single mutants of one protein."""
    names = list(PROPERTIES_OF[config.properties])
    map_wanted = len(jobs) == 1 and not (config.mutations or config.mutants or config.megascale or config.proteingym)
    of_map = []
    before = 0
    with writing(config.output) as write:
        for job, order in zip(jobs, orders, strict=True):
            mutants, number = job.mutants, len(job.mutants)
            place = np.full(number, -1)  # of each mutant in the file; the wild type is not there
            place[order] = np.arange(before, before + len(order))
            with tempfile.TemporaryFile(dir=config.output.parent, buffering=0) as disk:
                normalised = Normalised(disk, file, place)
                damage = normalised.damage()
                for first in range(0, number, ROWS_PER_PIECE):
                    rows = slice(first, min(first + ROWS_PER_PIECE, number))
                    shown = range(rows.start, rows.stop)
                    piece = pd.DataFrame({"protein": job.name, "mutant": map(mutants.label, shown)})
                    if config.sequences:
                        piece["sequence"] = [mutants.sequence(row) for row in shown]
                    changes = changes_at(file, place[rows])
                    scores = combine_rows(changes, normalised[rows])
                    scores.insert(0, "score", scores[PUBLISHED_SCORE])
                    scores.insert(1, "damage", damage[rows])
                    piece = pd.concat((piece, scores, pd.DataFrame(changes, columns=names)), axis=1)
                    write(piece)
                    if map_wanted:
                        of_map.append(piece[["mutant", PUBLISHED_SCORE]])
            before += len(order)
    return pd.concat(of_map, ignore_index=True) if map_wanted else None


def changes_at(file: WorkFile, place: NDArray[np.int64]) -> NDArray[np.float64]:
    """(len(place), columns) changes; zeros for the wild type, whose place is -1."""
    changes = np.zeros((len(place), file.columns))
    if (place >= 0).any():
        changes[place >= 0] = file.read(place[place >= 0])
    return changes


class Normalised:
    """Changes of a protein's mutants after quantile normalisation, on disk column by column; the wild type takes part.

    Parameters
    ----------
    disk
        Empty file, opened for reading and writing without a buffer.
    file, place
        Work file and the row of each mutant there, -1 for the wild type.
    """

    def __init__(self, disk: IO[bytes], file: WorkFile, place: NDArray[np.int64]) -> None:
        self.disk, self.columns = disk, file.columns
        self.before = int((place >= 0).all())  # rows before the mutants: the wild type, unless it is one of them
        self.rows = self.before + len(place)
        for first in range(0, len(place), ROWS_PER_PIECE):
            for column, values in enumerate(changes_at(file, place[first : first + ROWS_PER_PIECE]).T):
                self._write(column, self.before + first, values)  # what is not written, the wild type, reads as 0
        for column, values in enumerate(normalised_columns(self._column, self.columns)):
            self._write(column, 0, values)

    def __getitem__(self, rows: slice) -> NDArray[np.float64]:
        """(rows, columns) of some mutants."""
        rows = slice(self.before + rows.start, self.before + rows.stop)
        return np.stack([self._column(number, rows) for number in range(self.columns)], axis=1)

    def damage(self) -> Vector:
        """(mutants,) share of the protein's other mutants and wild type whose published score is lower."""
        score = np.empty(self.rows)
        for first in range(0, self.rows, ROWS_PER_PIECE):
            rows = slice(first - self.before, min(first + ROWS_PER_PIECE, self.rows) - self.before)
            score[first : first + ROWS_PER_PIECE] = geometric_mean(self[rows])
        return (pd.Series(score).rank().to_numpy()[self.before :] - 1) / max(1, self.rows - 1)

    def _write(self, column: int, first: int, values: Vector) -> None:
        self.disk.seek(8 * (column * self.rows + first))
        np.ascontiguousarray(values).tofile(self.disk)

    def _column(self, column: int, rows: slice = slice(0, None)) -> Vector:
        stop = self.rows if rows.stop is None else rows.stop
        self.disk.seek(8 * (column * self.rows + rows.start))
        return np.fromfile(self.disk, np.float64, stop - rows.start)


@contextmanager
def writing(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Give a function that appends to a table, which appears when the block ends."""
    with whole_file(path) as temporary:
        if path.suffix.lower() == ".parquet":
            pyarrow, parquet = map(importlib.import_module, ("pyarrow", "pyarrow.parquet"))
            writer = None
            try:

                def write(piece: pd.DataFrame) -> None:
                    nonlocal writer
                    table = pyarrow.Table.from_pandas(piece, preserve_index=False)
                    writer = writer or parquet.ParquetWriter(temporary, table.schema)
                    writer.write_table(table)

                yield write
            finally:
                if writer is not None:
                    writer.close()
        else:
            zipped = path.suffix.lower() == ".gz"
            with _gzip_text(temporary) if zipped else open(temporary, "w", encoding="utf-8", newline="") as file:
                yield lambda piece: piece.to_csv(file, index=False, header=file.tell() == 0)


@contextmanager
def _gzip_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """Text file that is gzipped; no name and time in its header, so that equal tables are equal files."""
    with (
        open(path, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as zipped,
        io.TextIOWrapper(zipped, encoding="utf-8", newline="") as text,
    ):
        yield text


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    config = tyro.cli(ScoreConfig, args=args)
    for path in run_command(lambda: score(config), config.debug):
        print(path)
