"""MD and NMA features by the plain routes of MDTraj, NumPy and ProDy, on the whole trajectory at once."""

from __future__ import annotations

import mdtraj
import numpy as np
import pandas as pd
import prody

STATES = ["B", "E", "H", "I", "G", "S", "T", " "]
prody.confProDy(verbosity="none")


ACETYL, METHYLAMIDE = {"CA": "CH3", "C": "C", "O": "O"}, {"N": "N", "H": "H", "CA": "CH3"}


def capped(pdb_text):
    """Atom lines of a chain whose first and last residue became caps ACE and NME, and the indices of its atoms."""
    lines = [line for line in pdb_text.splitlines() if line.startswith("ATOM")]
    ends = {lines[0][22:27]: ("ACE", ACETYL), lines[-1][22:27]: ("NME", METHYLAMIDE)}
    kept, result = [], []
    for index, line in enumerate(lines):
        residue, names = ends.get(line[22:27], (line[17:20], None))
        name = line[12:16].strip() if names is None else names.get(line[12:16].strip())
        if name:
            kept.append(index)
            result.append(f"{line[:12]}{line[12:16] if names is None else f' {name:<3}'} {residue}{line[20:]}")
    return result, np.array(kept)


def residue_table(pdb, trajectory, number=None):
    """Published residue table of what MDTraj takes for protein in the first frames, with MDTraj alone.

    Only residues with N, CA and C have a row, caps have none.
    """
    reader = mdtraj.iterload(str(trajectory), top=str(pdb), chunk=number or 10**6)
    frames = next(reader)
    protein = frames.topology.select("protein")
    frames = frames.atom_slice(protein)
    names = [{atom.name: atom.index for atom in residue.atoms} for residue in frames.topology.residues]
    rows = [index for index, atoms in enumerate(names) if {"N", "CA", "C"} <= atoms.keys()]
    ca = np.array([names[row]["CA"] for row in rows])
    frames.superpose(frames, 0, atom_indices=ca)
    table = {"ca_atom": protein[ca]}
    dssp = mdtraj.compute_dssp(frames, simplified=False)
    table |= {f"dssp_{state}": (dssp == state).mean(axis=0)[rows] for state in STATES}
    # one call a frame: within a call some area of each frame leaks into the next
    sasa = np.concatenate([mdtraj.shrake_rupley(frame, mode="residue") for frame in frames])[:, rows].astype(float)
    table |= {"sasa_mean": sasa.mean(axis=0), "sasa_std": sasa.std(axis=0)}
    for name, compute, atom in (
        ("chi", mdtraj.compute_chi1, 1),
        ("phi", mdtraj.compute_phi, 2),
        ("psi", mdtraj.compute_psi, 1),
    ):
        indices, values = compute(frames, periodic=False)
        shares = np.full((frames.n_residues, 12), np.nan)
        for quartet, angle in zip(indices, values.T, strict=True):
            residue = frames.topology.atom(quartet[atom]).residue.index
            shares[residue] = np.histogram(np.clip(angle, -np.pi, np.pi), 12, (-np.pi, np.pi))[0] / len(angle)
        table |= {f"{name}_{b}": shares[rows, b] for b in range(12)}
    xyz = frames.xyz[:, ca].astype(float)
    table["rmsf"] = np.sqrt(((xyz - xyz.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0))
    return pd.DataFrame(table)


def displacement_correlation(pdb, trajectory):
    """Correlation of C-alpha displacements (N, N) by its definition, pair by pair."""
    frames = mdtraj.load(str(trajectory), top=str(pdb))
    ca = frames.topology.select("name CA")
    frames.superpose(frames, 0, atom_indices=ca)
    moved = frames.xyz[:, ca].astype(float)
    moved -= moved.mean(axis=0)
    n = len(ca)
    result = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            dot = (moved[:, i] * moved[:, j]).sum(axis=1).mean()
            norm = (moved[:, i] ** 2).sum(axis=1).mean() * (moved[:, j] ** 2).sum(axis=1).mean()
            result[i, j] = dot / np.sqrt(norm)
    return result


class _Gamma(prody.Gamma):
    def gamma(self, dist2, i, j):
        return 10 if dist2 <= 16 else 2 if dist2 <= 100 else 1 if dist2 <= 225 else 0


def _groups(eigenvalues):
    share = np.cumsum(1 / eigenvalues) / (1 / eigenvalues).sum()
    first = int(np.argmin(abs(share - 1 / 3)))
    second = int(np.argmin(abs(share - (1 + share[first]) / 2)))
    index = np.arange(len(eigenvalues))
    return index <= first, (index > first) & (index <= second), index > max(first, second)


def nma(pdb):
    """gnm_msf (3, N) and anm_cor (3, N, N) with ProDy's matrices and modes."""
    ca = prody.parsePDB(str(pdb), subset="ca")
    n = ca.numAtoms()
    gnm, anm = prody.GNM(), prody.ANM()
    gnm.buildKirchhoff(ca, cutoff=15, gamma=_Gamma())
    gnm.calcModes(None)
    anm.buildHessian(ca, cutoff=15, gamma=_Gamma())
    anm.calcModes(None)
    msf, cor = np.zeros((3, n)), np.zeros((3, n, n))
    for k, group in enumerate(_groups(gnm.getEigvals())):
        for mode in np.flatnonzero(group):
            msf[k] += gnm.getEigvecs()[:, mode] ** 2 / gnm.getEigvals()[mode]
    for k, group in enumerate(_groups(anm.getEigvals())):
        covariance = np.zeros((3 * n, 3 * n))
        for mode in np.flatnonzero(group):
            vector = anm.getEigvecs()[:, mode]
            covariance += np.outer(vector, vector) / anm.getEigvals()[mode]
        trace = covariance.reshape(n, 3, n, 3).trace(axis1=1, axis2=3)
        if group.any():
            cor[k] = trace / np.sqrt(np.outer(np.diag(trace), np.diag(trace)))
    return msf, cor
