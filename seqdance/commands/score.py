"""Command `seqdance score`: zero-shot scores of mutations as a table, a heat map, and on a structure."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.resume import Results, digest, sample_digest
from model.choices import Numbering, PropertySet
from seqdance.options import FigureFormat, ModelOptions, ProteinOptions

if TYPE_CHECKING:
    from model.mutations.substitution import Mutants

FEW: Final = 20  # mutants of a protein, below which their ranks say little


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ProteinOptions, ModelOptions):
    """Score mutations by how much the predicted dynamics change: a higher score means more damage.

    Columns: protein; mutant; chain and number, with --pdb or --cif those of the structure; position in the sequence;
    score, the published one (norm_geometric_mean); damage, the fraction of the other mutants and the wild type that
    score lower (1 = most damaging); eight ways to combine the changes; the relative change of each property; model. In
    proteins of more than 1,024 tokens, the network sees a window of 1,024 around the mutation.
    """

    output: Path
    """Table: .csv, .csv.gz, .xlsx or .parquet. All single mutants of one protein also give a heat map (NAME.png). Rerun
    the same command to resume an interrupted run; a finished one is recognized."""
    mutations: str | None = None
    """Mutants of one protein, such as A12G,K5R:L7V; also p.Ala12Gly. Insertion code and chain: A27bG, AH27bG. Default:
    all 19 of each residue."""
    mutants: Path | None = None
    """CSV with a column mutant or mut_type (A12G:K5R), mutated_sequence or aa_seq; and protein for several proteins."""
    megascale: Path | None = None
    """File with mutants and wild types in the form of Tsuboyama2023_Dataset2_Dataset3_20230416.csv."""
    proteingym: Path | None = None
    """ProteinGym file (substitutions or clinical) with mutants of one wild type, or a folder of them."""
    offset: int = 0
    """Residue number in the mutations minus position in the sequence."""
    numbering: Numbering | None = None
    """Of the mutations: by position in the sequence, from 1, or as in the structure. Default: structure with --pdb or
    --cif, otherwise sequence."""
    plot_format: FigureFormat = "png"
    """Format of the heat map."""
    properties: PropertySet = "all"
    """residue: only the 10 residue properties; faster."""
    sequences: bool = False
    """Add a column with the sequence of each mutant."""
    write_pdb: Path | None = None
    """With --pdb or --cif: copy of the structure with the mean damage of each residue (0 to 1) as B-factors, -1 without
    mutants, 0 for other atoms; and scripts beside it that show it, .pml of PyMOL and .cxc of ChimeraX."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Mutants per batch; does not change the results. Default: by protein length and, on a GPU, free memory."""

    def __post_init__(self) -> None:
        sources = ("mutations", "mutants", "megascale", "proteingym")
        given = [f"--{name.replace('_', '-')}" for name in sources if getattr(self, name)]
        require(len(given) < 2, f"{' and '.join(given)} exclude each other; give one of them")
        measured = self.megascale or self.proteingym
        require(not (measured and self.offset), f"--offset {self.offset} does not apply to {measured}; remove it")
        wild_types = "--megascale already contains wild types; remove --sequence, --fasta, --pdb, --cif and --chain"
        require(not (self.megascale and self.names_proteins), wild_types)
        asked = self.numbering == "structure"
        require(not asked or (self.structure and not measured), "--numbering structure requires --pdb or --cif")
        by_position = "--numbering sequence, which counts positions in the sequence of the structure"
        require(not (self.of_structure and self.offset), f"--offset {self.offset}: add {by_position}")
        require(not (self.write_pdb and measured), f"--write-pdb does not apply to {measured}; remove it")
        self.check_write_pdb(self.write_pdb)

    @property
    def of_structure(self) -> bool:
        """Whether mutations have the numbers of the structure."""
        measured = self.megascale or self.proteingym
        return self.structure is not None and not measured and self.numbering != "sequence"

    @property
    def names_proteins(self) -> bool:
        """Whether an option names a wild type."""
        return any((self.sequence, self.fasta, self.structure, self.chain))


def score(config: ScoreConfig) -> list[Path]:
    """Write the table, and the heat map of all single mutants of one protein; returns the paths."""
    from model.figures.mutations import draw_mutation_map
    from model.figures.save import save_figure
    from model.inference.structure_scripts import DAMAGE, script_paths, write_on_structure
    from model.inference.tables import check_table, without_suffix, write_tables
    from model.mutations.score import mean_damage, score_tables
    from model.mutations.tables import measured_mutants, mutants_to_score
    from model.network.dance import load_model
    from model.network.weights import network_digest

    check_table(config.output)
    measured = config.megascale or config.proteingym
    proteins = config.proteins() if config.names_proteins or not measured else []
    chosen: Iterable[Mutants]
    if measured:
        chosen = measured_mutants(measured, "megascale" if config.megascale else "proteingym", proteins)
    else:
        numbers = proteins[0].residue_ids if config.of_structure and config.numbering is None else ()
        if any(number not in ("", str(position)) for position, (_, number) in enumerate(numbers, start=1)):
            how = "mutations have the residue numbers of the structure; --numbering sequence counts positions from 1"
            print(f"note: {config.structure}: {how}", file=sys.stderr)
        chosen = mutants_to_score(proteins, config.mutations, config.mutants, config.offset, config.of_structure)
        if config.mutations or config.mutants:
            _note_few(chosen, "--mutations" if config.mutations else "--mutants")
    drawn = len(proteins) == 1 and not (config.mutations or config.mutants or measured)
    copy, structure = config.write_pdb, config.structure
    picture = config.output.with_name(f"{without_suffix(config.output).name}.{config.plot_format}")
    paths = [config.output, picture] if drawn else [config.output]
    paths += [copy, *script_paths(copy)] if copy else []
    model, results = load_model(config.model, config.device), Results(config.output)
    key = digest(
        network_digest(model, model.config.heads, config.precision),
        (config.properties, config.sequences, config.offset, config.of_structure),
        [(protein.name, protein.sequence, protein.structure_ids) for protein in proteins],
        sample_digest(structure) if structure else "",
        # all single mutants of several proteins are made when they are scored
        [(own.name, own.wild_type.sequence, own.labels) for own in chosen] if isinstance(chosen, list) else [],
    )
    if results.is_finished(key, paths):
        return paths
    settings = (config.properties, config.batch_size, config.sequences, config.precision)
    tables = score_tables(model, chosen, results, *settings)
    kept = list(tables) if drawn or copy else []
    write_tables(kept or tables, config.output)
    if kept:
        (mutants,) = chosen  # of the only protein
        if drawn:
            figure = draw_mutation_map(kept[0], mutants.wild_type, note=model.label, name=mutants.name)
            save_figure(figure, picture, dpi=150)
        if copy and structure:
            damage = mean_damage(kept[0], len(mutants.ids))
            write_on_structure(structure, damage, copy, config.chain, DAMAGE, model.label)
    results.finish(key, paths)
    return paths


def _note_few(chosen: Iterable[Mutants], option: str) -> None:
    """Say what damage means where a protein has few mutants: 1 may be a harmless one."""
    from model.mutations.substitution import WILD_TYPE_LABEL

    counts = [sum(label != WILD_TYPE_LABEL for label in own.labels) for own in chosen]
    few = min(filter(None, counts), default=FEW)
    if few < FEW:
        which = f"these {few} mutants among themselves" if few > 1 else "this mutant only"
        print(f"note: damage ranks {which}; leave out {option} to score all", file=sys.stderr)


main = partial(run, ScoreConfig, score)
