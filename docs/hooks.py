"""What MkDocs adds while it builds the site: pages of the commands, notebooks, pictures, formulas as MathML."""

from __future__ import annotations

import contextlib
import html
import importlib
import io
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT: Final = Path(__file__).resolve().parents[1]
SITE: Final = "https://github.com/seqdance/seqdance/blob/main/"
COLAB: Final = "https://colab.research.google.com/github/seqdance/seqdance/blob/main/"
FORMULA: Final = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
sys.path.insert(0, str(ROOT))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add generated pages and the pictures of `image/`."""
    for path in sorted((ROOT / "image").glob("*.png")):
        files.append(File.generated(config, f"image/{path.name}", abs_src_path=str(path)))
    for name, content in [*command_pages(), *notebook_pages()]:
        files.append(File.generated(config, name, content=content))
    return files


def on_page_content(content: str, /, **_: object) -> str:
    """Formulas as MathML, which browsers draw without JavaScript."""
    display = {"span": "inline", "div": "block"}
    return FORMULA.sub(lambda found: convert(html.unescape(found[2]), display=display[found[1]]), content)


def notebook_pages() -> Iterator[tuple[str, str | bytes]]:
    """Notebooks with their stored outputs as Markdown, and the pictures in them."""
    for path in sorted((ROOT / "notebook").glob("*.ipynb")):
        where = f"notebook/{path.name}"
        body, resources = MarkdownExporter().from_filename(str(path), {"unique_key": path.stem})
        title, rest = body.strip().split("\n", 1)
        links = f"[Open in Colab]({COLAB}{where}) · [Notebook file]({SITE}{where})"
        yield f"notebooks/{path.stem}.md", f"{title}\n\n{links}\n{_without_style(rest)}"
        for name, content in resources["outputs"].items():
            yield f"notebooks/{name}", content


def _without_style(body: str) -> str:
    """Notebook text without the styles that pandas adds to its tables."""
    body = re.sub(r"<style scoped>.*?</style>", "", body, flags=re.DOTALL)
    return re.sub(r"\]\((?:\.\./)((?:model|data_prepare|notebook|benchmarks)/[^)]*)\)", rf"]({SITE}\1)", body)


def command_pages() -> Iterator[tuple[str, str]]:
    """A page for each command, made from its --help, and one that lists them."""
    lines = ["# Commands", "", "Made from `--help` of each command. An option is optional unless it is *required*.", ""]
    for name, what, texts in help_texts():
        yield f"reference/commands/{_file_name(name)}", page_of(name, texts)
        lines.append(f"- [`{name}`]({_file_name(name)}): {what}")
    yield "reference/commands/index.md", "\n".join(lines) + "\n"


def help_texts() -> Iterator[tuple[str, str, list[str]]]:
    """Name of each command, what it does, and its help text or those of its sub-commands."""
    from seqdance.cli import COMMANDS, DYNA1_COMMANDS, main

    ours = {name: what for name, (_, what) in COMMANDS.items() if name != "dyna1"}
    ours |= {f"dyna1 {name}": what for name, (_, what) in DYNA1_COMMANDS.items()}
    for name, what in ours.items():
        words = name.split()
        text = help_of(main, words)
        yield f"seqdance {name}", what, [help_of(main, [*words, one]) for one in subcommands(text)] or [text]
    for name, call in scripts():
        yield name, "a command of the paper, or beside one", [help_of(call, [])]


def scripts() -> Iterator[tuple[str, Callable[[Sequence[str]], None]]]:
    """Commands with names of their own: those of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    targets: Mapping[str, str] = project["scripts"]
    for name, target in targets.items():
        module, _, function = target.partition(":")
        if name != "seqdance":
            yield name, getattr(importlib.import_module(module), function)


def help_of(call: Callable[[Sequence[str]], Any], words: Sequence[str]) -> str:
    """What `--help` prints."""
    told = io.StringIO()
    os.environ.update(COLUMNS="120", NO_COLOR="1")  # wider ones get several columns
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        call([*words, "--help"])
    return told.getvalue()


def subcommands(told: str) -> list[str]:
    """Names of the sub-commands in a help text."""
    return re.findall(r"^ +• (\w+)", told, re.MULTILINE)


def page_of(name: str, texts: Sequence[str]) -> str:
    """Markdown of the page of a command; several help texts are those of sub-commands."""
    lines = [f"# {name}", ""]
    for text in texts:
        usage, _, rest = text.partition("\n\n")
        if len(texts) > 1:
            lines += [f"## {usage.removeprefix('usage: ').partition(' [')[0]}", ""]
        lines += ["```text", usage.strip(), "```", "", *tables(rest), ""]
    return "\n".join(lines)


def _file_name(command: str) -> str:
    return f"{command.removeprefix('seqdance ').removesuffix('.py').replace(' ', '-')}.md"


def tables(told: str) -> Iterator[str]:
    """Description and options of a help text as Markdown: a table for each group of options."""
    description, *groups = re.split(r"^ (\S.*?)\s*\n -{5,}\s*\n", told, flags=re.MULTILINE)
    yield _plain(description.strip())
    for title, body in zip(groups[::2], groups[1::2], strict=True):
        head, ruled, options = body.rpartition("-" * 9)
        if len(groups) > 2:
            yield f"\n### {title.capitalize()}"
        yield "\n" + (_plain(" ".join(head.strip(" -\n").split())) if ruled else "")
        yield "\n| option | meaning | default |\n|---|---|---|"
        for option, meaning in entries(options if ruled else body):
            default = re.search(r"\s*\(default: ?(.*?)\)$", meaning) or re.search(r"\s*\((required)\)$", meaning)
            text = meaning[: default.start()] if default else meaning
            value = default[1] if default and default[1] not in ("None", "") else ""
            yield f"| {_code(option)} | {_plain(text)} | {'*required*' if value == 'required' else _code(value)} |"


def entries(options: str) -> Iterator[tuple[str, str]]:
    """Options of a group and what is said of them, without --help."""
    blocks = re.split(r"^ {2}(?=\S)", options, flags=re.MULTILINE)[1:]
    for block in blocks:
        option, _, meaning = block.strip().partition("  ")
        if "\n" in option:
            option, _, meaning = block.strip().partition("\n")
        option = option.replace("{None}|", "").replace("{None,", "{")
        if "--help" not in option:
            yield option, " ".join(meaning.split())


def _plain(text: str) -> str:
    """Text without a meaning in Markdown."""
    return re.sub(r"([|*_\[\]])", r"\\\1", html.escape(text, quote=False))


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""
