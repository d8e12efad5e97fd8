"""Non-covalent contacts of proteins: the nine types of GetContacts that SeqDance learns from, without VMD."""

from data_prepare.molecular_dynamics.contacts.criteria import PUBLISHED, Criteria
from data_prepare.molecular_dynamics.contacts.file_format import (
    ContactHeader,
    contact_lines,
    read_contacts,
    read_header,
    write_header,
)
from data_prepare.molecular_dynamics.contacts.search import (
    HYDROGEN_BONDS,
    Contacts,
    ContactSearch,
    atom_labels,
    iter_contacts,
    types_asked,
)
from data_prepare.molecular_dynamics.contacts.tables import TYPES

__all__ = [
    "HYDROGEN_BONDS",
    "PUBLISHED",
    "TYPES",
    "ContactHeader",
    "ContactSearch",
    "Contacts",
    "Criteria",
    "atom_labels",
    "contact_lines",
    "iter_contacts",
    "read_contacts",
    "read_header",
    "types_asked",
    "write_header",
]
