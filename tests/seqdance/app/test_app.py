"""The parts of the page that need no browser: inputs within limits, jobs, files, and who may ask."""

from __future__ import annotations

import gzip
import io
import re
import socket
import threading
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from refusals import command_refused, refused

from data_prepare.errors import InputError, InputWarning
from model.inference.predict import predict_properties
from model.inference.prediction_files import read_prediction
from model.mutations.score import score_mutations
from model.mutations.substitution import all_single_mutants

pytest.importorskip("dash", reason="the extra app is not installed")

from model.inference.inputs import ResidueId
from seqdance.app.analysis import Networks, compare, new_mutants, score
from seqdance.app.charts.structure import position_of
from seqdance.app.given import File, Limits, read_file, read_text, unpack
from seqdance.app.jobs import Job, Jobs, collect_warnings, noted
from seqdance.app.server import make_app, serve
from seqdance.app.service import Service
from seqdance.commands.app import main

PEPTIDE = "MKTAYIAKQRQ"
LIMITS = Limits(residues=50, megabytes=0.1)


@pytest.fixture
def service(tiny_model):
    made = Service(Networks(tiny_model), LIMITS)
    yield made
    made.jobs.close()


def done(service: Service, text: str) -> str:
    """Key of a finished prediction."""
    key = service.start(read_text(text), None, [])
    found = service.get(key)
    while found.job.active:
        threading.Event().wait(0.01)
    assert found.job.state == "finished", found.job.message
    return key


def run(service: Service, key: str, labels: list[str]) -> Job:
    job = Job("scores", len(labels))
    job.run(lambda own: score(service.networks, service.get(key), labels, own))
    return job


def test_prediction_and_scores_are_those_of_the_package(service, tiny_model, tmp_path: Path) -> None:
    key = done(service, f">a b\n{PEPTIDE}")
    found = service.get(key)
    (tmp_path / "a.npz").write_bytes(service.files(found)["prediction.npz"]())
    stored = read_prediction(tmp_path / "a.npz")
    assert (stored.name, stored.sequence) == ("a", PEPTIDE)
    for name, expected in predict_properties(tiny_model, PEPTIDE).items():
        np.testing.assert_array_equal(stored.properties[name], expected)
    assert run(service, key, new_mutants(found, "K2R")).state == "finished"
    assert new_mutants(found, "K2R") == []
    assert found.damage is None
    rest = new_mutants(found, "")
    assert len(rest) == 19 * len(PEPTIDE) - 1
    assert run(service, key, rest).done == len(rest)
    every = score_mutations(tiny_model, PEPTIDE, all_single_mutants(PEPTIDE)).set_index("mutant")
    ours = found.scores.set_index("mutant").loc[every.index]
    np.testing.assert_allclose(ours["damage"], every["damage"], atol=0.01)  # equal scores may change places
    np.testing.assert_allclose(ours["score"], every["score"], rtol=1e-4)
    damage = every["damage"].groupby(every.index.str[1:-1].astype(int)).mean()
    np.testing.assert_allclose(found.damage, damage, atol=0.01)


def test_cancelled_scores_are_not_kept(service) -> None:
    key = done(service, PEPTIDE)
    found = service.get(key)
    job = Job("scores")
    advance = job.advance

    def cancelled_after_the_first(steps: int = 0) -> None:
        if steps:
            job.cancel()
        advance(steps)

    job.advance = cancelled_after_the_first  # type: ignore[method-assign]
    job.run(lambda own: score(service.networks, found, ["K2R"], own))
    assert (job.state, found.scores, found.version) == ("cancelled", None, 1)


def test_a_waiting_job_knows_its_place_and_can_be_cancelled() -> None:
    jobs, release, ran = Jobs(), threading.Event(), []
    first = jobs.start(Job("first"), lambda job: release.wait(10) and None, "long")
    second = jobs.start(Job("second"), ran.append, "long")
    assert jobs.before(second) == 1
    second.cancel()
    third = jobs.start(Job("third"), lambda job: ran.append("third"), "long")
    release.set()
    while third.active:
        threading.Event().wait(0.01)
    assert (first.state, second.state, third.state, ran) == ("finished", "cancelled", "finished", ["third"])
    jobs.close()


def test_warnings_of_two_threads_do_not_mix() -> None:
    barrier, found = threading.Barrier(2), {}

    def work(name: str) -> None:
        with noted() as notes:
            barrier.wait()
            warnings.warn(name, InputWarning, stacklevel=1)
            barrier.wait()
        found[name] = notes

    with warnings.catch_warnings():
        collect_warnings()
        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {"a": ["a"], "b": ["b"]}


def test_an_error_is_the_line_of_the_input_error() -> None:
    def fail(job: Job) -> None:
        raise InputError("x.pdb: no protein")

    job = Job("read")
    job.run(fail)
    assert (job.state, job.message) == ("failed", "x.pdb: no protein")


def test_structures_keep_their_numbers(examples: Path) -> None:
    file = unpack("../../etc/1HVR.pdb.gz", (examples / "structures" / "1hvr_AB.pdb.gz").read_bytes(), Limits())
    assert file.name == "1HVR.pdb.gz"
    given = read_file(file)
    assert given.names == ("all chains", "A", "B")
    name, choice = given.choose("B", Limits())
    assert (name, choice.protein.name) == ("B", "1HVR_B")
    assert {residue.chain for residue in choice.protein.residue_ids} == {"B"}
    assert choice.letters == choice.protein.sequence
    assert choice.residues[:2] == ("P1", "Q2")
    _, both = given.choose("all chains", Limits())
    assert both.residues[0] == "PA1"  # both chains have a residue 1
    assert given.choose(None, Limits(residues=150))[0] == "A"  # the first that is short enough
    refused(lambda: given.choose("all chains", Limits(residues=150)), "1HVR", "198 residues", "at most 150")


def test_limits_and_damaged_files() -> None:
    bomb = gzip.compress(bytes(2_000_000))
    assert len(bomb) < 100_000
    refused(lambda: unpack("x.pdb.gz", bomb, LIMITS), "x.pdb.gz", "0.1 MB", "--max-upload")
    refused(lambda: unpack("x.pdb.gz", b"\x1f\x8bnothing", LIMITS), "x.pdb.gz", "damaged")
    refused(lambda: unpack("x.fasta.gz", gzip.compress(bytes(range(256)) * 9)[:-20], LIMITS), "x.fasta.gz", "damaged")
    parts = gzip.compress(b">a\nMKT\n") + gzip.compress(b">b\nGGS\n")  # as bgzip and cat make them
    assert read_file(unpack("x.fasta.gz", parts, LIMITS)).names == ("a", "b")
    refused(lambda: unpack("x.fasta", b"", LIMITS), "x.fasta", "empty")
    refused(lambda: read_file(File("x.docx", b"MKT")), "x.docx", "unknown format")
    refused(lambda: read_text("  "), "no sequence")
    refused(lambda: read_text("MKTJ"), "residue 4")
    line = refused(lambda: read_file(File("x.pdb", b"HEADER\n")), "x.pdb")
    assert "/" not in line  # no path of the server


def test_typed_fasta_files_are_named_after_the_upload() -> None:
    with warnings.catch_warnings():
        collect_warnings()
        with noted() as notes:
            given = read_file(File("complex.fasta", b">A|protein\nMKV\n>B|protein\nGGS\n"))
    assert [protein.sequence for protein in given.proteins] == ["MKV<eos><cls>GGS"]
    assert given.names == ("complex",)
    assert len(notes) == 1
    assert notes[0].startswith("complex.fasta: ")


def test_results_only_under_their_key(service) -> None:
    client = make_app(service).server.test_client()
    key = done(service, PEPTIDE)
    table = client.get(f"/results/{key}/residues.csv")
    assert table.status_code == 200
    assert "filename=sequence_residues.csv" in table.headers["Content-Disposition"]
    assert len(table.text.splitlines()) == 1 + len(PEPTIDE)
    for path in (f"/results/{key}/mutations.csv", "/results/x/residues.csv"):
        assert client.get(path).status_code == 404
    assert "connect-src 'self'" in client.get("/").headers["Content-Security-Policy"]
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert make_app(service, local=False).server.test_client().get("/", headers={"Host": "a.b"}).status_code == 200


def test_the_oldest_results_make_room(service, monkeypatch) -> None:
    monkeypatch.setattr("seqdance.app.service.MOST_RESULTS", 2)
    keys = [done(service, PEPTIDE) for _ in range(3)]
    assert [service.get(key) is not None for key in keys] == [False, True, True]
    assert len(set(keys)) == 3


def test_a_simulation_of_another_protein_is_named(service) -> None:
    found, files = service.get(done(service, PEPTIDE)), service.example_trajectory()
    job = Job("simulation")
    job.run(lambda own: compare(service.networks, LIMITS, found, *files, own))
    assert (job.state, found.comparison) == ("failed", None)
    assert "BPTI.pdb: 58 residues, at most 50" in job.message
    trace = [line for line in files[0].content.splitlines() if line[13:15] == b"CA"]
    job.run(lambda own: compare(service.networks, LIMITS, found, File("CA.pdb", b"\n".join(trace)), None, own))
    assert "CA.pdb: 58 residues, at most 50" in job.message
    with warnings.catch_warnings():
        collect_warnings()
        job.run(lambda own: compare(service.networks, Limits(), found, *files, own))
    assert any("another protein, BPTI" in note for note in job.notes)
    table = pd.read_csv(io.BytesIO(service.files(found)["comparison.csv"]()))
    assert table["simulation"].unique().tolist() == ["BPTI"]
    assert table["within_a_pearson"].notna().any()
    assert found.nbytes > 92 * 58**2


def test_results_that_are_looked_at_stay(service, monkeypatch) -> None:
    keys = [done(service, PEPTIDE) for _ in range(2)]
    assert service.get(keys[0])
    monkeypatch.setattr("seqdance.app.service.KEPT_BYTES", 2.5 * service.get(keys[0]).nbytes)
    keys.append(done(service, PEPTIDE))
    assert [service.get(key) is not None for key in keys] == [True, False, True]


@pytest.mark.parametrize(("host", "name"), [("localhost", "localhost"), ("0.0.0.0", socket.gethostname())])
def test_the_address_that_is_printed(tiny_model, host: str, name: str) -> None:
    with closing(serve(Networks(tiny_model), LIMITS, host, 0)) as page:
        address = next(page)
        port = re.fullmatch(rf"http://{re.escape(name)}:([1-9]\d*)/", address)
        assert port
    with socket.socket() as free, pytest.raises(ConnectionRefusedError):  # nothing listens any more
        free.connect(("127.0.0.1", int(port[1])))


def test_wrong_options(capsys, tmp_path: Path) -> None:
    command_refused(main, ["--embedder", "onehot"], capsys, "--embedder", "--dyna1")
    command_refused(main, ["--host", "999.1.1.1"], capsys, "--host 999.1.1.1")


def test_residues_of_a_complex(service) -> None:
    found = service.get(done(service, f"{PEPTIDE}:GGS"))
    table = pd.read_csv(io.BytesIO(service.files(found)["residues.csv"]()))
    assert table["chain"].tolist() == ["A"] * len(PEPTIDE) + ["B"] * 3
    assert table["number"].tolist() == list(range(1, len(PEPTIDE) + 4))
    assert table["protein"].unique().tolist() == ["sequence"]


def test_residue_that_is_clicked_in_the_viewer() -> None:
    """The form in which dash-molstar reports it."""
    residues = [ResidueId("A", "30"), ResidueId("B", "30"), ResidueId("B", "30A")]

    def clicked(chain: str, number: int, code: str = "") -> dict:
        return {"chains": [{"name": "x", "auth_name": chain, "residues": [{"number": number, "ins_code": code}]}]}

    assert position_of(clicked("B", 30), residues) == 1
    assert position_of(clicked("B", 30, "A"), residues) == 2
    assert position_of(clicked("C", 30), residues) is None  # a ligand
    assert position_of({"chains": []}, residues) is None  # beside the structure
    assert position_of(None, residues) is None
