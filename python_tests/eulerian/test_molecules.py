"""SMILES to graphs: OGB's features, whatever RDKit reads, and what it cannot read named."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from token_graphs import LAYOUTS, assert_reversible

from sslkernels.eulerian.graph_batch import GraphBatch
from sslkernels.eulerian.tokens.tokenizer import GraphTokenizer
from sslkernels.molecules import ATOM_FEATURES, BOND_FEATURES, MoleculeGraph, parse_smiles

Chem = pytest.importorskip("rdkit.Chem")
ROOT = Path(__file__).parents[2]

# Beside the usual: chirality of squares and bipyramids, dative, zero, quadruple and hydrogen bonds, an
# allene, dummies, radicals, high charges and degrees, elements past the lists, stereo by wedges (CXSMILES),
# one atom, many pieces.
UNUSUAL = [
    "F[Pt@SP1](Cl)(Br)I",
    "S[As@TB1](F)(Cl)(Br)N",
    "S[Co@OH1](F)(Cl)(Br)(I)C",
    "[NH3]->[Pt](Cl)(Cl)<-[NH3]",
    "CN(C)(C)->[Fe]",
    "[U]$[U]",
    "C~C",
    "C[C@@H](O)[C@H](N)C",
    "C/C=C/C",
    "C/C=C\\C",
    "CC=CC",
    "CC=[C@]=CC",
    "*CC*",
    "[CH3]",
    "[CH2]",
    "[O][O]",
    "[Fe+6]",
    "[C-4]",
    "[Zn+2]",
    "[I-].[K+]",
    "[2H]C([2H])([2H])[2H]",
    "[Og]",
    "C",
    "[H][H]",
    "O=[N+]([O-])c1ccccc1",
    "O=N(=O)c1ccccc1",
    "c1ccc2[nH]ccc2c1",
    "FS(F)(F)(F)(F)F",
    "FP(F)(F)(F)F",
    "[Fe](Cl)(Cl)Cl",
    "C1=CC=C[CH]1[Fe]C1C=CC=C1",
    "CC(Cl)=C(F)Br |c:1|",
    "CCO |^1:0|",
    "N->B",
    "C[SiH3] |C:0.0|",
]


def place(value: Any, known: list[Any]) -> int:
    return known.index(value) if value in known else len(known)


def atom_row(atom: Any) -> tuple[int, ...]:
    """The features as OGB lists them, asked for one by one; the last entry is for all others."""
    return (
        place(atom.GetAtomicNum(), list(range(1, 119))),
        place(
            str(atom.GetChiralTag()),
            ["CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER"],
        ),
        place(atom.GetTotalDegree(), list(range(11))),
        place(atom.GetFormalCharge(), list(range(-5, 6))),
        place(atom.GetTotalNumHs(), list(range(9))),
        place(atom.GetNumRadicalElectrons(), list(range(5))),
        place(str(atom.GetHybridization()), ["SP", "SP2", "SP3", "SP3D", "SP3D2"]),
        int(atom.GetIsAromatic()),
        int(atom.IsInRing()),
    )


def bond_row(bond: Any) -> tuple[int, ...]:
    stereo = ["STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS"]
    return (
        place(str(bond.GetBondType()), ["SINGLE", "DOUBLE", "TRIPLE", "AROMATIC"]),
        place(str(bond.GetStereo()), stereo),
        int(bond.GetIsConjugated()),
    )


def assert_is(graph: MoleculeGraph, molecule: Any) -> None:
    assert [tuple(row) for row in graph.x.tolist()] == [atom_row(atom) for atom in molecule.GetAtoms()]
    ends, rows = [], []
    for bond in molecule.GetBonds():
        u, v = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        ends += [[u, v], [v, u]]
        rows += [bond_row(bond)] * 2
    assert graph.edge_index.T.tolist() == ends
    assert [tuple(row) for row in graph.edge_attr.tolist()] == rows
    assert graph.num_nodes == molecule.GetNumAtoms()


def rdkit_smiles() -> list[str]:
    """Every sixth molecule of RDKit's own file, and those of unusual kinds."""
    from rdkit import RDConfig

    with open(os.path.join(RDConfig.RDDataDir, "NCI", "first_5K.smi")) as file:
        return [line.split()[0] for line in file][::6] + UNUSUAL


def test_letters_that_no_smiles_has_are_not_left_out() -> None:
    """RDKit drops what is no ASCII and reads the rest; a name behind the SMILES may hold it."""
    graphs = parse_smiles(["C\u00e9", "\u0421C", "CC", "CCO \u00c9thanol"])
    assert [None if graph is None else len(graph.x) for graph in graphs] == [None, None, 2, 3]


def test_features() -> None:
    smiles = rdkit_smiles()
    graphs = parse_smiles(smiles)
    read = 0
    for text, graph in zip(smiles, graphs, strict=True):
        molecule = Chem.MolFromSmiles(text)
        assert (graph is None) == (molecule is None), text
        if graph is not None:
            assert_is(graph, molecule)
            read += 1
            assert all(
                0 <= value < size
                for row in graph.x.tolist()
                for value, size in zip(row, ATOM_FEATURES, strict=True)
            )
            assert all(
                0 <= value < size
                for row in graph.edge_attr.tolist()
                for value, size in zip(row, BOND_FEATURES, strict=True)
            )
    assert read > 850


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unusual_molecules_are_reversible(layout: str) -> None:
    """PyG #10167, ogb #399: square planar platinum and its like are graphs, not errors."""
    readable = [text for text in UNUSUAL if Chem.MolFromSmiles(text) is not None]
    assert UNUSUAL[0] in readable
    assert len(readable) > 30
    batch = GraphBatch.from_smiles(readable)
    assert_reversible(GraphTokenizer(ATOM_FEATURES, BOND_FEATURES, layout=layout), batch, seed=1)
    assert int(batch.node_features[1, 1]) == ATOM_FEATURES[1] - 1, "an unknown chirality is the last entry"


def test_no_features_of_their_own() -> None:
    """dgl-lifesci #176, espaloma #224, deepchem #2978, chemprop #763: molecules of one atom, without any
    bond.
    """
    for smiles in (["C"], ["[Zn+2]"], ["[I-].[K+]"]):
        batch = GraphBatch.from_smiles(smiles)
        assert batch.edge_index.shape == (2, 0)
        assert batch.edge_features.shape == (0, 3)
        for layout in LAYOUTS:
            tokenizer = GraphTokenizer(ATOM_FEATURES, BOND_FEATURES, layout=layout)
            encoded = assert_reversible(tokenizer, batch, seed=0)
            assert tokenizer.decode(encoded.tokens, encoded.ptr).edge_features.shape == (0, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lone_atoms_among_molecules(layout: str) -> None:
    batch = GraphBatch.from_smiles(["C", "CCO", "[Zn+2]", "[I-].[K+]", "C1CC1", "[Na+].[Cl-].O"])
    assert batch.graph_ptr.tolist() == [0, 1, 4, 5, 7, 10, 13]
    assert_reversible(GraphTokenizer(ATOM_FEATURES, BOND_FEATURES, layout=layout), batch, seed=0)


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        (["CCO", "CN", "C11", "CC"], r"smiles\[2\] is 'C11', which RDKit cannot read"),
        (["", "CC"], r"smiles\[0\] is '', which is empty"),
        (["CC", "   "], r"smiles\[1\] is '   ', which is empty"),
        (["CC", "C", "not a molecule"], r"smiles\[2\]"),
        (["c1cccc1"], r"smiles\[0\]"),
        (["C(C)(C)(C)(C)C"], r"smiles\[0\]"),
        (["CC", "\ud800"], r"smiles\[1\]"),
        (["C\0C"], r"smiles\[0\]"),
    ],
)
def test_unreadable_molecules_are_named(smiles: list[str], message: str) -> None:
    """ogb #498, chemprop #61, rdkit #1925: never a graph without nodes."""
    with pytest.raises(ValueError, match=message):
        GraphBatch.from_smiles(smiles)
    assert None in parse_smiles(smiles)


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="smiles must be a list"):
        GraphBatch.from_smiles("CCO")
    for wrong in (3, None, b"CC"):
        with pytest.raises(TypeError, match=r"smiles\[1\] must be a str"):
            GraphBatch.from_smiles(["CC", wrong])  # type: ignore[list-item]


def test_no_molecules() -> None:
    batch = GraphBatch.from_smiles([])
    assert [tuple(tensor.shape) for tensor in batch] == [(2, 0), (1,), (0, 9), (0, 3)]
    assert parse_smiles([]) == []
    assert parse_smiles(["", "C11"]) == [None, None]


def test_rdkit_stays_silent_and_as_it_was() -> None:
    """Nothing is printed for a bad line, and RDKit warns its own callers again afterwards."""
    script = (
        "import sys\nfrom sslkernels.molecules import parse_smiles\nfrom rdkit import Chem\n"
        "assert parse_smiles(['C11', 'CCO'])[0] is None\n"
        "print('between', file=sys.stderr, flush=True)\n"
        "Chem.MolFromSmiles('C1')"
    )
    done = python(script)
    before, _, after = done.stderr.partition("between")
    assert before == ""
    assert "C1" in after


def python(script: str) -> "subprocess.CompletedProcess[str]":
    """A fresh process: torch_geometric, too, turns RDKit's log off, for good."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True)


def test_chunks() -> None:
    """More molecules than are held at a time, unreadable ones at the seams."""
    smiles = ["CCO", "C11", "N"] * 800
    graphs = parse_smiles(smiles)
    assert [graph is None for graph in graphs] == [False, True, False] * 800
    assert all(graph is None or graph.num_nodes in (1, 3) for graph in graphs)


def test_without_rdkit() -> None:
    """One line that says how to get it; nothing but the call needs it."""
    done = python(
        "import sys; sys.modules['rdkit'] = None\n"
        "from sslkernels.eulerian.graph_batch import GraphBatch\n"
        "try: GraphBatch.from_smiles(['CC'])\n"
        "except ImportError as error: print(error)"
    )
    assert done.stdout.strip() == "reading molecules needs RDKit: pip install sslkernels[chem]"


def test_importing_does_not_import_rdkit() -> None:
    script = "import sys, sslkernels.molecules; print({'rdkit', 'numpy', 'torch'} & set(sys.modules))"
    assert python(script).stdout.strip() == "set()"


def test_dtypes() -> None:
    batch = GraphBatch.from_smiles(["CCO"])
    assert all(tensor.dtype == torch.int64 and tensor.is_contiguous() for tensor in batch)
