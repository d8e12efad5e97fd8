"""Files of repositories on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_prepare.errors import InputError, first_line


def hub_file(hub_id: str, names: Sequence[str]) -> Path:
    """The first of these files that a repository has, downloaded or from the cache of the Hub's client.

    Raises
    ------
    InputError
        There is no network, repository or such file.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # each attempt without a network would print two lines
    try:
        for name in names[:-1]:
            try:
                return Path(huggingface_hub.hf_hub_download(hub_id, name))
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError):  # no network, rather than no such file
                    raise
        return Path(huggingface_hub.hf_hub_download(hub_id, names[-1]))
    except Exception as error:  # the client lets the errors of several network libraries through
        line = first_line(error)
        raise InputError(
            f"{hub_id}: no such file or folder here, and the download from the Hub failed ({line}); "
            "download it where there is network and give its path"
        ) from None
    finally:
        logging.set_verbosity(verbosity)
