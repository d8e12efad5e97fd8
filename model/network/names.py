"""Where weights are: built-in names, folders, files, and repositories of the Hub, which are cached.

A built-in name means the same weights in every folder: `demo` is the network of this package even where a folder `demo`
exists; `./demo` is that folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Final

from data_prepare.errors import InputError, first_line, require, some_of

WEIGHTS_NAME: Final = "model.safetensors"
TORCH_SUFFIXES: Final = (".pt", ".pth", ".bin")
CONFIG_NAME: Final = "config.json"
HUB_ID: Final = re.compile(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+))?")
PUBLISHED: Final = {"seqdance": "ChaoHou/SeqDance", "esmdance": "ChaoHou/ESMDance"}  # name -> Hub repository
DEMO: Final = "demo"
DEMO_FOLDER: Final = Path(__file__).with_name("demo")
DEMO_NOTE: Final = "demonstration network, not for conclusions"
BUILT_IN: Final = (*PUBLISHED, DEMO)
HUB_SECONDS: Final = 3.0  # to wait for an answer of the Hub


def find_weights(source: str | os.PathLike[str], names: Sequence[str]) -> tuple[Path, Path | None]:
    """Weight file, and config.json in the same folder if it exists.

    `source` is a built-in name (a str), a folder, a weight file, or a Hub repository as `owner/name` or
    `owner/name/file`. Uses the first of `names` in a folder or repository. Raises InputError if nothing is found.
    """
    path, text = Path(source), str(source)
    if is_built_in(source) and text in PUBLISHED:
        weights = _download(PUBLISHED[text], names, text)
    elif is_built_in(source):
        weights = DEMO_FOLDER / WEIGHTS_NAME
    elif path.is_dir():
        weights = next((path / name for name in names if (path / name).is_file()), path)
        runs = [str(own.parent) for own in sorted(path.glob("*/checkpoints"))]  # as in the folder of `seqdance demo`
        remedy = f"give {some_of(runs)}, a training run" if runs else "give the path of the weight file"
        require(weights != path, f"{path}: no {' or '.join(names)} in this folder; {remedy}")
    elif path.is_file():
        weights = path
    else:
        local = path.parent != Path(".") and path.parent.is_dir()  # runs/best is not a repository if runs/ exists
        hub_id = None if local else HUB_ID.fullmatch(text)
        if hub_id is None:
            known = f"no Hub id of the form owner/name, and none of {', '.join(BUILT_IN)}"
            raise InputError(f"{text}: no such file or folder, {known}")
        weights = _download(hub_id[1], [hub_id[2]] if hub_id[2] else names, text)
    config = weights.parent / CONFIG_NAME
    return weights, config if config.is_file() else None


def is_built_in(source: str | os.PathLike[str]) -> bool:
    """Whether this is a name of weights, and not a path."""
    return isinstance(source, str) and source in BUILT_IN


def name_of(source: str | os.PathLike[str], weights: Path) -> str:
    """Name of weights for outputs: as they were asked for; the checkpoint of a training run; ./demo for that folder."""
    if weights.parent == DEMO_FOLDER:
        return DEMO
    if is_built_in(source):
        return str(source)
    name = str(weights.parent if Path(source) in weights.parents and weights.parent != Path(source) else source)
    return f"./{name}" if name in BUILT_IN else name


def short_name(path_or_hub_id: str) -> str:
    """Last part of a path or Hub id, without the suffix of a weight file; of NAME/model.safetensors NAME."""
    path = Path(path_or_hub_id).absolute()
    path = path.parent if path.name == WEIGHTS_NAME else path
    return path.stem if path.suffix in (".safetensors", *TORCH_SUFFIXES) else path.name


def check_repo_id(repo_id: str) -> None:
    """Raise InputError unless this is the id of a repository of the Hub."""
    known = HUB_ID.fullmatch(repo_id) and repo_id.count("/") == 1
    require(known, f"{repo_id}: not the id of a Hub repository; give owner/name")


def _download(hub_id: str, names: Sequence[str], asked: str) -> Path:
    """Path in the cache of the first of these files in a Hub repository, beside its config.json if it has one.

    Published weights in the cache need no network. Of other repositories the newest version is read, or the one in the
    cache if the Hub does not answer within seconds.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    def get(name: str) -> Path | None:
        cached = huggingface_hub.try_to_load_from_cache(hub_id, name)
        if asked in PUBLISHED and cached is not None:
            return Path(cached) if isinstance(cached, str) else None  # an object: known to be absent
        try:
            _ask_hub(huggingface_hub.hf_hub_url(hub_id, name))
            return Path(huggingface_hub.hf_hub_download(hub_id, name, etag_timeout=HUB_SECONDS))
        except LocalEntryNotFoundError:  # no network: the file may exist
            raise
        except EntryNotFoundError:
            return None
        except Exception:
            if isinstance(cached, str):
                return Path(cached)
            raise

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # no warning for each retry
    try:
        get(CONFIG_NAME)
        found = next((path for path in map(get, names) if path is not None), None)
    except Exception as error:  # the client passes on the errors of several network libraries
        kind = "not in the cache" if asked in PUBLISHED else "no such file or folder, not in the cache"
        wanted = CONFIG_NAME, " or ".join(names)
        where = huggingface_hub.hf_hub_url(hub_id, "").rstrip("/")
        raise InputError(
            f"{asked}: {kind}, and the Hub cannot be read ({first_line(error)}); fetch {' and '.join(wanted)} from "
            f"{where}/ on a machine with network access, put them into one folder, and give its path"
        ) from None
    finally:
        logging.set_verbosity(verbosity)
    if found is None:
        raise InputError(f"{hub_id}: no {' or '.join(names)} in this Hub repository; give another one")
    return found


def _ask_hub(url: str) -> None:
    """Raise the error of asking the Hub for a file once, at the latest after `HUB_SECONDS`.

    The client itself repeats failed requests for half a minute, and looking up a name has no time limit of its own.
    """
    import huggingface_hub

    errors: list[Exception] = []

    def ask() -> None:
        try:
            huggingface_hub.get_hf_file_metadata(url, timeout=HUB_SECONDS)
        except Exception as error:
            errors.append(error)

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HUB_SECONDS)
    if asking.is_alive():
        raise TimeoutError(f"no answer within {HUB_SECONDS:.0f} seconds")
    if errors:
        raise errors[0]
