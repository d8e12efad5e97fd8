"""Labels of micro- to millisecond motions from NMR: which residues lose their amide signal or relax too fast."""
