"""Non-covalent contacts in one structure file, with the options of GetContacts; see `get_dynamic_contacts.py`.

get_static_contacts.py --itypes all --structure S.pdb --output contacts.tsv --sele protein --sele2 ligand
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.molecular_dynamics.contacts.hydrogen_bond import HydrogenBond
from data_prepare.molecular_dynamics.contacts.kernels import Criteria
from data_prepare.molecular_dynamics.frames.trajectory import Chunk, FrameCheck
from data_prepare.molecular_dynamics.get_dynamic_contacts import ContactOptions, write_contacts
from data_prepare.structure.readers import read_structure

# as in GetContacts, any angle makes a hydrogen bond: hydrogens of structures are modelled
OF_STRUCTURES: Final = Criteria(hydrogen_bond=HydrogenBond(hbond_cutoff_ang=180.0))


@dataclass(frozen=True, kw_only=True)
class Options(ContactOptions):
    """Contacts of a structure."""

    structure: Path
    """PDB or mmCIF file with hydrogens; the first model counts."""
    criteria: tyro.conf.OmitArgPrefixes[Criteria] = OF_STRUCTURES
    """Thresholds."""


def contacts_of_structure(options: Options) -> None:
    """Write the contact file of a structure, as one frame."""
    topology, xyz = read_structure(options.structure)
    chunk = Chunk(np.array([0]), xyz[None].astype(np.float32), "angstrom")
    [(chunk, _)] = FrameCheck(topology, options.structure).sound([(chunk, None)])
    write_contacts(options, topology, chunk.angstrom[0], range(1), [chunk])


main = partial(run, Options, contacts_of_structure, use_underscores=True, description=__doc__)

if __name__ == "__main__":
    main()
