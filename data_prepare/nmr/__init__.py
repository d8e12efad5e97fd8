"""Labels of micro- to millisecond motions from NMR: residues without amide signal or with fast relaxation."""
