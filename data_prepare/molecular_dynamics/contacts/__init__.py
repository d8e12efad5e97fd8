"""Non-covalent contacts of proteins: the nine interactions of GetContacts that SeqDance learns from, without VMD.

Each interaction has a file with its thresholds, atoms and rule. Definitions: GetContacts,
https://getcontacts.github.io/interactions.html; lengths in Angstrom, angles in degrees.
"""
