"""Command `seqdance completion`: a script for the shell that completes commands and their options."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout, suppress
from functools import partial
from typing import Annotated, Literal

import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from seqdance.cli import COMMANDS, DYNA1_COMMANDS, call
from seqdance.options import CommandOptions

SCRIPT = """\
_seqdance() {{
    local words="" place="${{COMP_WORDS[1]}}"
    [[ $place == dyna1 && $COMP_CWORD -gt 2 ]] && place="dyna1 ${{COMP_WORDS[2]}}"
    [[ $COMP_CWORD -eq 1 ]] && place=""
    case "$place" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o bashdefault -o default -F _seqdance seqdance
"""


@dataclass(frozen=True, kw_only=True)
class CompletionOptions(CommandOptions):
    """Print a script that completes commands, options and file names with the Tab key.

    For bash: seqdance completion bash > ~/.local/share/bash-completion/completions/seqdance
    For zsh, in ~/.zshrc: source <(seqdance completion zsh)
    """

    shell: Annotated[Literal["bash", "zsh"], tyro.conf.Positional]
    """The shell."""


def completion(options: CompletionOptions) -> list[str]:
    """The script."""
    words = {"": [*COMMANDS, "--help", "--version"], "dyna1": [*DYNA1_COMMANDS]}
    words |= {name: options_of(command) for name, (command, _) in COMMANDS.items() if name != "dyna1"}
    words |= {f"dyna1 {name}": options_of(command) for name, (command, _) in DYNA1_COMMANDS.items()}
    cases = "\n".join(f'        "{place}") words="{" ".join(found)}" ;;' for place, found in words.items())
    before = ["autoload -Uz bashcompinit && bashcompinit"] if options.shell == "zsh" else []
    return [*before, SCRIPT.format(cases=cases)]


def options_of(command: str) -> list[str]:
    """Options of a command, from the beginnings of the lines of its help."""
    with redirect_stdout(io.StringIO()) as told, suppress(SystemExit):
        call(command, ["--help"])
    lines = re.findall(r"^\W?\s?(-.*?)(?:  |$)", told.getvalue(), flags=re.MULTILINE)
    return sorted({option for line in lines for option in re.findall(r"--[\w.-]*\w", line)})


main = partial(run, CompletionOptions, completion)
