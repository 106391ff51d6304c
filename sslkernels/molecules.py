"""The one place that talks to RDKit: SMILES to graphs with the atom and bond features of OGB.

Features and their order are those of the Open Graph Benchmark (Hu et al., NeurIPS 2020;
`ogb.utils.features`); each list ends with an entry for everything else, so that whatever RDKit reads becomes
a graph. RDKit is imported at the first call, its messages are silenced inside a call alone.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

# Categories of: atomic number, chirality, degree, formal charge, hydrogens, radical electrons, hybridisation,
# aromatic, in a ring.
ATOM_FEATURES = (119, 5, 12, 12, 10, 6, 6, 2, 2)
# Categories of: bond type, stereo, conjugated.
BOND_FEATURES = (5, 6, 2)

_CHIRALITY = ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER")
_HYBRIDIZATION = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
_BOND_TYPE = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
_STEREO = ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS")
_ORDER = {1.0: 0, 2.0: 1, 3.0: 2, 1.5: 3}  # the place of a bond type by its order
# Only bonds of other elements may be dative, which the order does not show, unless the SMILES says so itself.
_COVALENT = frozenset((1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 34, 35, 53))


_CHUNK = 1024  # molecules whose features are held as Python lists at a time


class MoleculeGraph(NamedTuple):
    """A molecule of N atoms and E / 2 bonds as int64 arrays; a bond's two columns stand side by side."""

    edge_index: "np.ndarray"  # (2, E)
    x: "np.ndarray"  # (N, 9) in [0, ATOM_FEATURES)
    edge_attr: "np.ndarray"  # (E, 3) in [0, BOND_FEATURES)

    @property
    def num_nodes(self) -> int:
        return self.x.shape[0]


@functools.cache
def _chem() -> Any:
    try:
        from rdkit import Chem
    except ImportError as error:
        raise ImportError("reading molecules needs RDKit: pip install sslkernels[chem]") from error
    return Chem


def parse_smiles(smiles: Sequence[str]) -> list[MoleculeGraph | None]:
    """One graph a SMILES, None where RDKit cannot read it or it is empty; about 150 us a molecule.

    The arrays are views of larger ones: copy them before keeping a few of many. ImportError without RDKit.
    """
    chem = _chem()
    from rdkit import rdBase

    graphs: list[MoleculeGraph | None] = []
    with rdBase.BlockLogs():  # silent in this scope alone
        for begin in range(0, len(smiles), _CHUNK):
            graphs += _graphs(chem, smiles[begin : begin + _CHUNK])
    return graphs


def _read(chem: Any, text: str) -> Any:
    """The molecule, or None."""
    if not isinstance(text, str) or not text.strip():
        return None
    if not text.isascii() and not text.split(maxsplit=1)[0].isascii():
        return None  # RDKit leaves such letters out, and reads the rest; a name behind may hold them
    try:
        molecule = chem.MolFromSmiles(text)
    except (RuntimeError, TypeError, ValueError):  # a fault inside RDKit; text that is no UTF-8
        return None
    return molecule if molecule is not None and molecule.GetNumAtoms() > 0 else None


def _graphs(chem: Any, smiles: Sequence[str]) -> Iterator[MoleculeGraph | None]:
    features = _Features()
    readable = []
    atoms, bonds = [0], [0]
    for text in smiles:
        molecule = _read(chem, text)
        readable.append(molecule is not None)
        if molecule is not None:
            features.add(text, molecule)
        atoms.append(len(features.atoms[0]))
        bonds.append(2 * len(features.bonds[0]))
    x, ends, edge_attr = features.arrays()
    for place, known in enumerate(readable):
        rows = slice(atoms[place], atoms[place + 1])
        columns = slice(bonds[place], bonds[place + 1])
        yield MoleculeGraph(ends[:, columns], x[rows], edge_attr[columns]) if known else None


class _Features:
    """Features of many molecules, a list each: calls into RDKit are what costs, so that enumerations, which
    take five times an integer's time, are asked for only where the SMILES can hold more than the usual kind.
    """

    def __init__(self) -> None:
        from rdkit.Chem import rdchem

        self.atoms: list[list[int]] = [[] for _ in ATOM_FEATURES]
        self.bonds: list[list[int]] = [[] for _ in range(2 + len(BOND_FEATURES))]
        self._atom, self._bond = rdchem.Atom, rdchem.Bond
        self._chirality = _places(rdchem.ChiralType, _CHIRALITY)
        self._hybridization = _places(rdchem.HybridizationType, _HYBRIDIZATION)
        self._bond_type = _places(rdchem.BondType, _BOND_TYPE)
        self._stereo = _places(rdchem.BondStereo, _STEREO)

    def add(self, text: str, molecule: Any) -> None:
        numbers = self._add_atoms(text, molecule)
        self._add_bonds(text, molecule, numbers)

    def _add_atoms(self, text: str, molecule: Any) -> list[int]:
        kind = self._atom
        atoms = list(map(molecule.GetAtomWithIdx, range(molecule.GetNumAtoms())))
        numbers = list(map(kind.GetAtomicNum, atoms))
        columns = self.atoms
        columns[0] += numbers
        if "@" in text or "|" in text:
            columns[1] += [self._chirality.get(kind.GetChiralTag(atom), 4) for atom in atoms]
        else:
            columns[1] += [0] * len(atoms)
        columns[2] += map(kind.GetTotalDegree, atoms)
        columns[3] += map(kind.GetFormalCharge, atoms)
        columns[4] += map(kind.GetTotalNumHs, atoms)
        if (
            "[" in text or "|" in text
        ):  # an atom outside brackets has its hydrogens, and so no radical electron
            columns[5] += map(kind.GetNumRadicalElectrons, atoms)
        else:
            columns[5] += [0] * len(atoms)
        columns[6] += [self._hybridization.get(value, 5) for value in map(kind.GetHybridization, atoms)]
        columns[7] += map(kind.GetIsAromatic, atoms)
        columns[8] += map(kind.IsInRing, atoms)
        return numbers

    def _add_bonds(self, text: str, molecule: Any, numbers: list[int]) -> None:
        kind = self._bond
        bonds = list(map(molecule.GetBondWithIdx, range(molecule.GetNumBonds())))
        columns = self.bonds
        columns[0] += map(kind.GetBeginAtomIdx, bonds)
        columns[1] += map(kind.GetEndAtomIdx, bonds)
        if _COVALENT.issuperset(numbers) and not any(mark in text for mark in "<>|"):
            columns[2] += [_ORDER.get(order, 4) for order in map(kind.GetBondTypeAsDouble, bonds)]
        else:
            columns[2] += [self._bond_type.get(kind.GetBondType(bond), 4) for bond in bonds]
        if any(mark in text for mark in "/\\|"):
            columns[3] += [self._stereo.get(kind.GetStereo(bond), 5) for bond in bonds]
        else:
            columns[3] += [0] * len(bonds)
        columns[4] += map(kind.GetIsConjugated, bonds)

    def arrays(self) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
        """Atom features, the ends of the columns, bond features; two columns a bond."""
        import numpy as np

        atoms = np.array(self.atoms, dtype=np.int64)
        number, charge = atoms[0] - 1, atoms[3] + 5
        atoms[0] = np.where((number >= 0) & (number < 118), number, 118)
        atoms[3] = np.where((charge >= 0) & (charge < 11), charge, 11)
        for row, last in ((2, 11), (4, 9), (5, 5)):
            np.minimum(atoms[row], last, out=atoms[row])
        bonds = np.array(self.bonds, dtype=np.int64).repeat(2, axis=1)
        ends = bonds[:2]
        ends[:, 1::2] = ends[::-1, ::2].copy()
        return np.ascontiguousarray(atoms.T), ends, np.ascontiguousarray(bonds[2:].T)


def _places(kind: Any, names: Sequence[str]) -> dict[Any, int]:
    return {getattr(kind, name): place for place, name in enumerate(names)}
