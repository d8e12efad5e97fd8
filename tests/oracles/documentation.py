"""Code blocks and links of the README and of docs/."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
READMES = tuple(path for path in ROOT.rglob("README.md") if ".venv" not in str(path.relative_to(ROOT)))
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>sh|python)\n(?P<code>.*?)^```", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block; `reason` says why it is not run, in a mark before it unless it installs packages."""

    language: str
    code: str
    mark: str | None

    @property
    def reason(self) -> str | None:
        return "installs packages" if "pip install" in self.code else self.mark


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(match["language"], match["code"], match["reason"]) for match in found]


def command_lines(page: Path) -> list[list[str]]:
    """Words of the commands in all `sh` blocks of a page."""
    code = "\n".join(block.code for block in blocks(page) if block.language == "sh").replace("\\\n", " ")
    lines = (shlex.split(line, comments=True) for line in code.splitlines())
    return [words for words in lines if words]


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
