"""Non-covalent contacts of proteins: nine interactions of GetContacts, each with its thresholds, atoms and rule.

Definitions: https://getcontacts.github.io/interactions.html; lengths in Angstrom, angles in degrees.
"""
