"""What the README and docs/ say can be typed, works; what they link to exists.

Blocks run in a folder that looks like a clone, with small files under the names that the pages use and a small network
in the place of the published ones. `<!-- not run: REASON -->` before a block leaves it out, and so does `pip install`
in it; its options are checked.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path

import pytest
from documentation import PAGES, READMES, ROOT, blocks, command_lines, links, name_of

import seqdance
from model.training.command_line import parse_train_config as parse
from seqdance.cli import COMMANDS, main
from seqdance.cli import DYNA1_COMMANDS as DYNA1

SITE = "https://seqdance.github.io/seqdance/"
FILES = re.compile(
    r"https://(?:github\.com/seqdance/seqdance/(?:blob|tree)|raw\.githubusercontent\.com/seqdance/seqdance)/main/"
)
GENERATED = ("notebooks/", "reference/commands/")  # made while the site is built; MkDocs checks links to them
EXAMPLES = ROOT / "data_prepare" / "examples"
WITH_STORE = ("docs/how-to/compare.md", "docs/how-to/predict.md")  # other pages make data/ themselves
RUN = [page for page in PAGES if any(block.reason is None for block in blocks(page))]
COMMANDS_OF_PAGES = sorted({tuple(words) for page in PAGES for words in command_lines(page)})


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a clone has, and the files that a reader would have."""
    for name in ("data_prepare", "model", "notebook", "seqdance"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("long", "bioemu"):
        shutil.copy(EXAMPLES / "trajectories" / "5pti.pdb", tmp_path / f"{name}.pdb")
    for name in ("long", "bioemu", "r1", "r2", "r3"):
        shutil.copy(EXAMPLES / "trajectories" / "5pti.xtc", tmp_path / f"{name}.xtc")
    shutil.copy(EXAMPLES / "trajectories" / "2juy.pdb", tmp_path / "protein_h.pdb")
    with gzip.open(EXAMPLES / "structures" / "1ubi_A.pdb.gz", "rb") as structure:
        (tmp_path / "protein.pdb").write_bytes(structure.read())
    (tmp_path / "proteins.fasta").write_text(">first\nMKTAYIAKQRQISFVKSHFSRQ\n>second\nMQIFVKTLTGKTITLEV\n")
    rows = ["MKTAYIAK,one,c,wt,2.0", "MATAYIAK,one,c,K2A,1.0", "MKAAYIAK,one,c,T3A,0.5", "MKTAYIAR,one,c,K8R,2.1"]
    (tmp_path / "measured.csv").write_text("\n".join(["aa_seq,WT_name,WT_cluster,mut_type,ddG_ML", *rows]))
    return tmp_path


@pytest.fixture
def environment(tmp_path: Path, tiny_model_folder: Path) -> dict[str, str]:
    """Commands on the PATH, and a small network in the Hub's cache under the published names."""
    hub = tmp_path / "hugging_face" / "hub"
    for name in ("SeqDance", "ESMDance"):
        snapshot = hub / f"models--ChaoHou--{name}" / "snapshots" / "0" / "x"
        shutil.copytree(tiny_model_folder, snapshot.parent)
        (snapshot.parents[2] / "refs").mkdir()
        (snapshot.parents[2] / "refs" / "main").write_text("0")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = {"PATH": path, "PYTHONPATH": str(Path(seqdance.__file__).parents[1]), "HF_HOME": str(hub.parent)}
    return os.environ | found | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the features of a trajectory and a structure."""
    from seqdance.commands import prepare

    folder = tmp_path_factory.mktemp("store")
    lines = (EXAMPLES / "examples.csv").read_text().splitlines()
    rows = [line for line in lines if line.startswith(("name,", "5pti,", "1ubi_A,", "p53_tad,"))]
    manifest = folder / "entries.csv"
    manifest.write_text("\n".join(rows).replace("trajectories/", f"{EXAMPLES}/trajectories/"))
    manifest.write_text(manifest.read_text().replace("structures/", f"{EXAMPLES}/structures/"))
    prepare.main(["--manifest", str(manifest), "--out", str(folder / "features.h5")])
    return folder


def slow_but(pages: list[Path], *names: str) -> list:
    """Parameters: these pages take a minute, all others together many."""
    return [
        pytest.param(page, marks=pytest.mark.slow if name_of(page) in names else pytest.mark.long) for page in pages
    ]


@pytest.mark.parametrize("page", slow_but(RUN, "README.md"), ids=name_of)
def test_blocks_run(page: Path, clone: Path, environment: dict[str, str], request: pytest.FixtureRequest) -> None:
    """In order, in one folder; the Python of a page is one session."""
    if name_of(page) in WITH_STORE:
        shutil.copytree(request.getfixturevalue("store"), clone / "data")
    if name_of(page) == "README.md":  # two simulations are as good as all
        for path in (clone / "data_prepare" / "examples" / "trajectories").iterdir():
            if path.stem not in ("5pti", "2juy"):
                path.unlink()
    code = json.dumps([(block.language, block.code) for block in blocks(page) if block.reason is None])
    words = [sys.executable, ROOT / "tests" / "oracles" / "run_blocks.py"]
    done = subprocess.run(words, input=code, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def test_every_block_is_found() -> None:
    """No other fence hides code, and a mark has a block."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fences = re.findall(r"^```(\w*)", text, re.MULTILINE)[::2]
        assert fences.count("sh") + fences.count("python") == len(blocks(page)), page
        assert set(fences) <= {"sh", "python", "", "text"}, page
        assert text.count("<!-- not run") == sum(block.mark is not None for block in blocks(page)), page


def test_targets_and_files_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = {words[1] for words in COMMANDS_OF_PAGES if words[0] == "make"}
    assert made <= targets
    assert len(made) >= 2


@cache
def help_of(*words: str) -> str:
    told = io.StringIO()
    with redirect_stdout(told), suppress(SystemExit):
        main([*words, "--help"])
    return told.getvalue()


@pytest.mark.parametrize("words", [w for w in COMMANDS_OF_PAGES if w[0] == "seqdance"], ids=lambda w: " ".join(w[1:3]))
def test_options_of_seqdance_exist(words: tuple[str, ...]) -> None:
    """Also those of blocks that are not run."""
    known = [word for word in words[1:3] if word in COMMANDS or word in DYNA1]  # dyna1 has sub-commands
    assert known or words[1].startswith("-"), words
    ours, _, others = " ".join(words).partition(" -- ")
    for own, text in ((known, ours), (["prepare"], others)):
        if text:
            told = help_of(*own, *([words[3]] if own[-1:] == ["labels"] else []))
            options = [word.split("=")[0] for word in text.split() if word.startswith("--")]
            assert not [option for option in options if option not in told]


def test_training_commands_are_parsed() -> None:
    trainings = [words for words in COMMANDS_OF_PAGES if words[0] == "torchrun" and "train_ddp" in " ".join(words)]
    assert len(trainings) >= 3
    for words in trainings:
        start = next(i for i, word in enumerate(words) if "train_ddp" in word)
        assert parse([word for word in words[start + 1 :] if word != "..."]).preset in ("seqdance", "demo")


@pytest.mark.parametrize("page", [*PAGES, *READMES[1:]], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Files of the repository, pages of the site; other addresses are not visited."""
    for target in links(page):
        place = target.partition("#")[0]
        if place.startswith(SITE):
            source = place.removeprefix(SITE).replace(".html", ".md") or "index.md"
            assert source.startswith(GENERATED) or (ROOT / "docs" / source).is_file(), target
        elif FILES.match(place):
            assert (ROOT / FILES.sub("", place)).exists(), target
        elif not place.startswith("https://") and place and ROOT / "docs" not in page.parents:
            assert (page.parent / place).exists(), target


def test_readme_links_work_elsewhere() -> None:
    """On PyPI, where relative links lead nowhere."""
    assert all(target.startswith("https://") for target in links(ROOT / "README.md"))


def test_reference_names_all_public_names() -> None:
    text = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^::: seqdance\.(\w+)", text, re.MULTILINE)) == set(seqdance.__all__)
