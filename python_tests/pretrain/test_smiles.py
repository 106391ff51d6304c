import gzip

import numpy as np
import pytest
import torch

from sslkernels.eulerian import GraphBatch
from sslkernels.pretrain import lines, smiles
from sslkernels.pretrain.config import UserError
from sslkernels.pretrain.smiles import Molecules, nci_smiles, nci_tpsa, read_smiles

# as OGB ships PCQM4Mv2: raw/data.csv.gz
PCQM = "idx,smiles,homolumogap\n0,O=C1[N]c2ccccc2[C@@]1(O)C,3.05\n1,CCO,\n2,,1.0\n3,c1ccccc1,5.1\n"


@pytest.fixture
def said():
    return []


def write(path, text):
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix.lower() == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.smi", "CCO ethanol\n\nC\tmethane\n", [(1, "CCO"), (3, "C")]),
        ("a.txt", "CCO\r\nC\r\n", [(1, "CCO"), (2, "C")]),
        ("a.smi.gz", "CCO\n", [(1, "CCO")]),
        ("a.csv", '"name","SMILES"\n"a, b",CCO\n', [(2, "CCO")]),
        ("a.csv", "\ufeffsmiles,y\nCCO,1\n", [(2, "CCO")]),  # as spreadsheets write it
        ("a.csv", "canonical_smiles\nC\n", [(2, "C")]),
        ("a.csv", "smiles,isomeric_smiles\nC,CC\n", [(2, "C")]),
        ("a.csv", 'x,smiles\n"two\nlines",C\n1\n', [(3, "C"), (4, "")]),
        ("a.csv", '\r\n\n"name","smiles"\r\n"a","CCO"\r\n\r\n  \r\nb,CC\r\n', [(4, "CCO"), (7, "CC")]),
        ("a.SMI.GZ", "CCO\n", [(1, "CCO")]),
        ("a.smi", "CCO\rC\r", [(1, "CCO"), (2, "C")]),
        ("a.tsv", "x\tSmiles\n1\tC\n", [(2, "C")]),
        ("a.csv.gz", PCQM, [(2, "O=C1[N]c2ccccc2[C@@]1(O)C"), (3, "CCO"), (4, ""), (5, "c1ccccc1")]),
    ],
)
def test_files(tmp_path, name, text, expected):
    assert list(read_smiles(write(tmp_path / name, text))) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"x,y\n1,2\n"),
        ("a.csv", b""),
        ("a.csv", b"in_smiles,out_smiles\nC,C\n"),
        ("a.smi", b"\xff\xfe\x00"),
        ("a.smi", "CCO\nCC\n".encode("utf-16")),
        ("a.csv", "smiles\nCC\n".encode("utf-16")),
        ("a.smi.gz", b"not gzip"),
        ("a.smi.gz", gzip.compress(b"CCO\n" * 99, mtime=0)[:-9]),
        ("a.csv", b'smiles\n"' + b"C" * 200_000 + b'"\n'),
    ],
)
def test_what_cannot_be_read_names_the_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        list(read_smiles(tmp_path / name))


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere.smi"):
        with pytest.raises(UserError, match=path.name):
            list(read_smiles(path))


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_lines_are_counted_and_named(tmp_path, said, workers, monkeypatch):
    monkeypatch.setattr(smiles, "CHUNK", 3)
    path = write(tmp_path / "a.smi", "CCO\nnonsense\n\nC1CC\nCCCCCC\nc1ccccc1O\n")
    molecules = Molecules.read(path, 6, said.append, workers)
    assert molecules.line.tolist() == [1, 5]
    assert ["line 2" in said[0], "line 4" in said[1], "2 of 5" in said[2]] == [True] * 3
    assert "1 molecules have more than 6 atoms" in said[3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_line_in_another_encoding_is_one_bad_line(tmp_path, said, workers):
    path = tmp_path / "a.smi"
    path.write_bytes(b"CCO caf\xe9\nC\xe9\nCC\nC\xc3\xa9\n")
    assert Molecules.read(path, 9, said.append, workers).line.tolist() == [1, 3]
    assert "line 2" in said[0]
    assert "line 4" in said[1]
    assert all(text.isascii() for text in said)  # whatever the terminal shows
    path = tmp_path / "a.csv"
    path.write_bytes(b"name,smiles\ncaf\xe9,CCO\nb,\xff\n")
    assert Molecules.read(path, 9, said.append, workers).line.tolist() == [2]


def test_many_bad_lines_are_only_counted(tmp_path, said):
    path = write(tmp_path / "a.smi", "C\n" + "bad\n" * 100)
    assert len(Molecules.read(path, 9, said.append)) == 1
    assert len(said) == lines.SHOWN + 2
    assert "100 of 101" in said[-1]


def test_no_molecule_at_all_is_an_error(tmp_path, said):
    for text in ("", "\n\n", "bad\nworse\n", "CCCCC\n"):
        with pytest.raises(UserError, match=r"a\.smi"):
            Molecules.read(write(tmp_path / "a.smi", text), 4, said.append)


def test_a_limit_ends_the_reading(tmp_path, said, monkeypatch):
    monkeypatch.setattr(smiles, "CHUNK", 2)
    path = write(tmp_path / "a.smi", "C\nCC\nCCC\nCCCC\n" + "bad\n" * 9)
    assert Molecules.read(path, 9, said.append, limit=3).line.tolist() == [1, 2, 3]
    assert said == []


def test_graphs_are_those_of_the_room(tmp_path, said):
    lines = ["CCO", "[Na+].[Cl-]", "C", "C/C=C/[C@H](N)O", "c1ccncc1"]
    molecules = Molecules.read(write(tmp_path / "a.smi", "\n".join(lines)), 99, said.append)
    for order in ([0, 1, 2, 3, 4], [3, 3, 1], [2], []):
        ours = molecules.graphs(np.array(order, dtype=np.int64))
        theirs = GraphBatch.from_smiles([lines[place] for place in order])
        for name, tensor in ours._asdict().items():
            assert torch.equal(tensor, getattr(theirs, name)), name
            assert tensor.dtype == torch.int64


def test_the_molecules_of_rdkit(said):
    molecules = Molecules.read(nci_smiles(), 10**6, said.append)
    assert len(molecules) == 4991
    assert "8 of 4999" in said[-1]
    assert len(nci_tpsa()) == 4999
    from rdkit import Chem
    from rdkit.Chem.rdMolDescriptors import CalcTPSA

    lines = nci_smiles().read_text().splitlines()
    for line in molecules.line[::500]:  # labels stand at their molecules (another program's, within 30)
        molecule = Chem.MolFromSmiles(lines[line - 1].split()[0])
        assert abs(CalcTPSA(molecule) - nci_tpsa()[line - 1]) < 30
