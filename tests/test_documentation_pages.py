"""Pages that are generated while the site is built. MkDocs checks the links (`make docs`)."""

from __future__ import annotations

import re

import pytest

from seqdance.cli import COMMANDS, DYNA1_COMMANDS

pytest.importorskip("mkdocs", reason="`make docs` installs the packages of the documentation")
pytest.importorskip("latex2mathml")
FIRST = r"(?:-\w, )?(--(?!help)[a-z][\w.-]*)"  # long name of an option


def test_every_command_has_a_page_with_its_options(load_script) -> None:
    hooks = load_script("docs/hooks.py")
    pages = dict(hooks.command_pages())
    names = [name for name in COMMANDS if name != "dyna1"] + [f"dyna1-{name}" for name in DYNA1_COMMANDS]
    assert {f"reference/commands/{name}.md" for name in names} <= set(pages)
    for name, _, texts in hooks.help_texts():
        page = next(text for text in pages.values() if text.startswith(f"# {name}\n"))
        told = [option for text in texts for option in re.findall(rf"^ {{2}}{FIRST}", text, re.MULTILINE)]
        assert re.findall(rf"^\| `{FIRST}", page, re.MULTILINE) == told, name
        assert told, name
