"""The command `seqdance`: finds the module of a sub-command and hands it the rest of the line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from seqdance import __version__, check_packages

# sub-command -> (module with main(args), what it does)
COMMANDS = {
    "demo": ("seqdance.demo", "the whole main job on the example data"),
    "prepare": ("data_prepare.pipeline", "structures and trajectories -> feature store, training table, loss weights"),
    "train": ("model.train_ddp", "train a network (with several processes: torchrun model/train_ddp.py)"),
    "evaluate": ("model.evaluation", "losses and correlations on the test entries, beside baselines"),
    "plot": ("seqdance.plot", "curves of a training as one picture"),
    "score": ("seqdance.score", "zero-shot scores of mutations: CSV and heat map"),
}


def usage() -> str:
    """Help text."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        ["usage: seqdance COMMAND [options]", "", *lines, "", "seqdance COMMAND --help tells the options."]
    )


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        raise SystemExit(0 if args else 2)
    if args[0] == "--version":
        print(f"seqdance {__version__}")
        return
    if args[0] not in COMMANDS:
        print(f"error: unknown command {args[0]!r}\n\n{usage()}", file=sys.stderr)
        raise SystemExit(2)
    try:
        check_packages()
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    sys.argv[0] = f"seqdance {args[0]}"  # as the usage lines of the sub-commands show it
    importlib.import_module(COMMANDS[args[0]][0]).main(args[1:])


if __name__ == "__main__":
    main()
