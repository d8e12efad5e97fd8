"""What a structure file says about atoms, residues and chains."""
