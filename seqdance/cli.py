"""The command `seqdance`, which calls the module of a sub-command."""

from __future__ import annotations

import atexit
import importlib
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

from seqdance import __version__, check_packages

# sub-command -> (module with main(args) or module:function, what it does)
Commands: TypeAlias = Mapping[str, tuple[str, str]]
COMMANDS: Final[Commands] = {
    "demo": ("seqdance.commands.demo", "features, training, evaluation and mutation scores on the example data"),
    "app": ("seqdance.commands.app", "a web page for one protein: dynamics, mutations, exchange, structure"),
    "predict": ("seqdance.commands.predict", "dynamic properties of sequences; profiles; RMSF into a structure"),
    "score": ("seqdance.commands.score", "zero-shot scores of mutations: table and heat map"),
    "embed": ("seqdance.commands.embed", "embeddings of sequences; regression of properties on them"),
    "attention": ("seqdance.commands.attention", "attention maps; their analysis against a feature store"),
    "benchmark-mutations": ("seqdance.commands.benchmark_mutations", "scores against measured mutations and baselines"),
    "prepare": ("seqdance.commands.prepare", "structures and trajectories -> feature store, table, loss weights"),
    "prepare-on-slurm": ("seqdance.commands.prepare_on_slurm", "prepare with SLURM jobs as workers"),
    "merge": ("seqdance.commands.merge", "several feature stores -> one, split into train and test"),
    "show": ("seqdance.commands.show", "picture of an entry of a feature store, also beside its prediction"),
    "compare": ("seqdance.commands.compare", "two simulations, ensembles or predictions of a protein side by side"),
    "check": ("seqdance.commands.check", "verify a feature store and its training table"),
    "train": ("model.train_ddp", "train a network (with several processes: torchrun model/train_ddp.py)"),
    "evaluate": ("model.evaluate", "losses and correlations of a network and of baselines on the test entries"),
    "plot": ("seqdance.commands.plot", "training curves in one figure"),
    "publish": ("seqdance.commands.publish", "trained weights on the Hugging Face Hub, with a model card"),
    "completion": ("seqdance.commands.completion", "script that completes commands and options in bash or zsh"),
    "dyna1": ("seqdance.cli:dyna1", "micro- to millisecond exchange: labels, embed, train, evaluate, predict"),
}
DYNA1_COMMANDS: Final[Commands] = {
    "predict": ("seqdance.commands.dyna1.predict", "probability of exchange of each residue"),
    "labels": ("seqdance.commands.dyna1.labels", "NMR depositions, RefDB or RelaxDB -> assignment codes and splits"),
    "embed": ("seqdance.commands.dyna1.embed", "embeddings of a frozen model for training and prediction"),
    "train": ("model.dyna1.train", "train a classifier (with several processes: torchrun)"),
    "evaluate": (
        "seqdance.commands.dyna1.evaluate",
        "metrics of a classifier and of baselines on RelaxDB, CPMG, a table",
    ),
}


def usage(program: str, commands: Commands) -> str:
    """Help text."""
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in commands.items()]
    more = f"Run `{program} COMMAND --help` for the options of a command."
    return "\n".join([f"usage: {program} COMMAND [options]", "", *lines, "", more])


def dispatch(program: str, commands: Commands, args: Sequence[str]) -> None:
    """Call `main` of the sub-command `args[0]` with the other arguments."""
    if not args or args[0] in ("-h", "--help"):
        print(usage(program, commands))
        raise SystemExit(0 if args else 2)
    if args[0] not in commands:
        print(f"error: unknown command {args[0]!r}\n\n{usage(program, commands)}", file=sys.stderr)
        raise SystemExit(2)
    try:
        check_packages()
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    sys.argv[0] = f"{program} {args[0]}"  # shown in usage lines
    call(commands[args[0]][0], args[1:])


def call(command: str, args: Sequence[str] | None = None) -> None:
    """Run `main` of a module, or the function of MODULE:FUNCTION; see `run_command` for errors while it is imported."""
    module, _, function = command.partition(":")
    try:
        getattr(importlib.import_module(module), function or "main")(args)
    except KeyboardInterrupt:  # while modules are imported, or options read
        from data_prepare.errors import exit_interrupted

        exit_interrupted()
    except BrokenPipeError:  # of --help
        from data_prepare.errors import exit_unread

        exit_unread()
    except ImportError as error:
        from data_prepare.errors import exit_with
        from data_prepare.extras import missing_extra

        if "--debug" in (sys.argv if args is None else args) or not (line := missing_extra(error)):
            raise
        exit_with(line)
    finally:
        # runs before what libraries registered for the end, which Ctrl-C would interrupt with a traceback
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def dyna1(args: Sequence[str]) -> None:
    """Command `seqdance dyna1`."""
    dispatch("seqdance dyna1", DYNA1_COMMANDS, args)


get_dynamic_contacts = partial(call, "data_prepare.molecular_dynamics.get_dynamic_contacts")
get_static_contacts = partial(call, "data_prepare.molecular_dynamics.get_static_contacts")
get_contact_frequencies = partial(call, "data_prepare.molecular_dynamics.get_contact_frequencies")
md_features = partial(call, "data_prepare.molecular_dynamics.MD_features")
nma_features = partial(call, "data_prepare.normal_mode_analysis.NMA_features")
dyna1_py = partial(call, "seqdance.commands.dyna1.published:dyna1")
dyna1_esm2_py = partial(call, "seqdance.commands.dyna1.published:dyna1_esm2")


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    args = list(sys.argv[1:] if args is None else args)
    if args[:1] == ["--version"]:
        print(f"seqdance {__version__}")
        return
    dispatch("seqdance", COMMANDS, args)


if __name__ == "__main__":
    main()
