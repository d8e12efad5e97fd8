"""Where the embeddings of Dyna-1 come from: frozen language models, one-hot letters, or files.

`make_embedder` takes one line:

    onehot               24 channels, one for each token id of ESM2 below 24 (X and other rare letters are all zeros)
    esm2[:PATH][:LAYER]  ESM2, by default facebook/esm2_t30_150M_UR50D and its last layer
    dance:PATH           last hidden state of SeqDance or ESMDance
    esm3[:LAYER]         esm3-sm-open-v1 of the package `esm`, by default layer 22; reads structures too
    af2:FOLDER           AlphaFold2 pair representations, NAME.npy of (L, L, 128) for each entry
    cache:FILE.h5        embeddings kept by `seqdance dyna1 embed`

Source: Wayment-Steele, El Nesr et al., Nature 2026 (doi 10.1038/s41586-026-10989-4).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from data_prepare.errors import InputError, first_line
from model.dyna1.classifier import Dyna1Config
from model.inference.embed import embed as embed_with_dance
from model.network.dance import UNUSED_ESM2_ENTRIES, check_entries, choose_device, load_model, read_esm2, weights_digest
from model.network.encoder import Esm2Encoder
from model.network.language_model import esm2_config
from model.network.tokenizer import CLS_ID, EOS_ID, PAD_ID, tokenize

# (L, 3, 3) float32: N, CA and C of each residue in Angstrom, NaN where it has no coordinates
Backbone: TypeAlias = NDArray[np.float32]

HIDDEN_RESIDUE: Final = "<mask>"  # stands for a residue that the language model shall not see
ONE_HOT_WIDTH: Final = 24
# width of published weights -> embedder that they were trained on
EMBEDDER_OF_WIDTH: Final = {1536: "esm3", 640: "esm2", 24: "onehot"}
ESM2_DEFAULT: Final = "facebook/esm2_t30_150M_UR50D"
ESM3_DEFAULT: Final = "esm3-sm-open-v1"
ESM3_LAYER: Final = 22
AF2_CHANNELS: Final = 128


class EmbeddingSource(ABC):
    """Gives the embedding of an entry.

    Attributes
    ----------
    fingerprint
        One line that tells sources of other numbers apart.
    width
        Channels of an embedding (of a pair, for pair representations).
    reads_pairs
        Whether `read` gives (L, L, width).
    reads_structure
        Whether structures change the embedding.
    """

    fingerprint: str
    width: int
    reads_pairs: bool = False
    reads_structure: bool = False

    @abstractmethod
    def read(self, name: str, sequence: str) -> Tensor:
        """Embedding of an entry, (L, width) float32 on the CPU, or (L, L, width) for pair representations."""


class Embedder(EmbeddingSource):
    """Computes embeddings of sequences, and of structures where it reads them."""

    @abstractmethod
    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """Embeddings of single chains.

        Parameters
        ----------
        sequences
            One-letter codes; `<mask>` hides a residue.
        structures
            Backbone of each, as long as its sequence; None where there is none.

        Returns
        -------
        list
            (L, width) float32 on the CPU, a row for each residue.

        Raises
        ------
        InputError
            A sequence cannot be used, or structures are given to an embedder that reads none.
        """

    def read(self, name: str, sequence: str) -> Tensor:
        """As `EmbeddingSource.read`; the name plays no part."""
        return self.embed([sequence])[0]

    def _refuse_structures(self, structures: Sequence[Backbone | None] | None) -> None:
        if structures is not None and any(structure is not None for structure in structures):
            raise InputError(f"{self.fingerprint.split()[0]} reads no structure; give the sequence alone")


def make_embedder(line: str, device: str | torch.device = "auto") -> EmbeddingSource:
    """Source of embeddings from its line (see the top of this file).

    Raises
    ------
    InputError
        The line is of no known form, or what it names cannot be used.
    """
    kind, _, rest = line.partition(":")
    path, layer = rest, None
    if match := re.fullmatch(r"(?:(.*):)?(\d+)", rest):
        path, layer = match[1] or "", int(match[2])
    if kind == "onehot" and not rest:
        return OneHot()
    if kind == "esm2":
        return Esm2(path or ESM2_DEFAULT, layer, device)
    if kind == "dance" and rest:
        return Dance(rest, device)
    if kind == "esm3":
        return Esm3(path or ESM3_DEFAULT, ESM3_LAYER if layer is None else layer, device)
    if kind == "af2" and rest:
        return Af2Pairs(rest)
    if kind == "cache" and rest:
        from model.dyna1.embeddings.cache import EmbeddingCache

        return EmbeddingCache(rest)
    raise InputError(
        f"embedder {line!r}: known are onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER], af2:FOLDER, cache:FILE.h5"
    )


def default_embedder(config: Dyna1Config) -> str:
    """Line of the embedder that a classifier was trained on.

    Raises
    ------
    InputError
        It cannot be told, or is one with a path of its own.
    """
    kind, *words = (config.embedder or EMBEDDER_OF_WIDTH.get(config.width, "unknown")).split()
    if kind == "onehot":
        return kind
    if kind in ("esm2", "esm3"):  # its fingerprint is checked once it is loaded
        return f"{kind}:{words[1]}" if words else kind
    raise InputError(
        f"the classifier reads {config.embedder or f'embeddings of width {config.width}'}; name where they are from "
        "with --embedder (dance:PATH, af2:FOLDER, ...) or --cache"
    )


def check_source(config: Dyna1Config, source: EmbeddingSource) -> None:
    """See that a classifier was trained on embeddings like those of a source.

    Raises
    ------
    InputError
        The widths differ, one reads pairs and the other does not, or the fingerprints differ (if the classifier knows).
    """
    wanted = config.pair_channels or config.width
    if (wanted, bool(config.pair_channels)) != (source.width, source.reads_pairs):
        kinds = {False: "embeddings", True: "pair representations"}
        raise InputError(
            f"the classifier reads {kinds[bool(config.pair_channels)]} of width {wanted}, {source.fingerprint} gives "
            f"{kinds[source.reads_pairs]} of width {source.width}; choose the --embedder that it was trained on"
        )
    if config.embedder not in (None, source.fingerprint):
        raise InputError(
            f"the classifier was trained on {config.embedder}, these are embeddings of {source.fingerprint}; choose "
            "the --embedder that it was trained on"
        )


def residue_tokens(sequences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids of the residues alone, without <cls> and <eos>.

    Returns
    -------
    ids
        (B, L) int64, padded.
    mask
        (B, L) bool, True at residues.
    """
    batch = tokenize(sequences)
    ids = batch["input_ids"][:, 1:-1]  # (B, L)
    mask = batch["attention_mask"][:, 2:].bool()  # (B, L), as many as there are residues
    ids = ids.masked_fill(~mask, PAD_ID)
    linked = ((ids == CLS_ID) | (ids == EOS_ID)).any(1)
    if linked.any():
        raise InputError(
            f"sequence {int(linked.nonzero()[0]) + 1} of {len(sequences)}: Dyna-1 reads one chain at a time; "
            "give the chains one by one"
        )
    return ids, mask


class OneHot(Embedder):
    """One channel for each token id below 24; X, B, U, Z, O and `<mask>` are all zeros."""

    fingerprint = "onehot"
    width = ONE_HOT_WIDTH

    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """See `Embedder.embed`."""
        self._refuse_structures(structures)
        ids, mask = residue_tokens(sequences)
        channels = F.one_hot(ids.clamp(max=ONE_HOT_WIDTH), ONE_HOT_WIDTH + 1)[..., :ONE_HOT_WIDTH].float()
        return [rows[real] for rows, real in zip(channels, mask, strict=True)]


class Esm2(Embedder):
    """ESM2 of any size: a hidden state of the sequence without <cls> and <eos>.

    Parameters
    ----------
    path_or_hub_id
        As Hugging Face writes it: a folder or a weight file with its config.json, or a Hub id.
    layer
        Hidden state: 0 is the embedding layer, the last follows the final LayerNorm. Default: the last.
    device
        "auto" takes a GPU if there is one.
    """

    def __init__(self, path_or_hub_id: str, layer: int | None = None, device: str | torch.device = "auto") -> None:
        state, sizes = read_esm2(path_or_hub_id)
        config = esm2_config(path_or_hub_id, sizes)
        self.layer = config.layers if layer is None else layer
        if not 0 <= self.layer <= config.layers:
            raise InputError(f"{path_or_hub_id}: no hidden state {self.layer}; it has 0 to {config.layers}")
        state = {name: value.float() for name, value in state.items() if not UNUSED_ESM2_ENTRIES.fullmatch(name)}
        self.encoder = Esm2Encoder(config).eval()
        check_entries(self.encoder, state, path_or_hub_id)
        self.encoder.load_state_dict(state)
        self.width = config.hidden
        self.fingerprint = f"esm2 layer {self.layer} {weights_digest(self.encoder)}"
        self.device = choose_device(device)
        self.encoder.to(self.device)

    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """See `Embedder.embed`. All sequences go through the model together."""
        self._refuse_structures(structures)
        ids, mask = residue_tokens(sequences)
        ids, mask = ids.to(self.device), mask.to(self.device)
        with torch.no_grad():  # not inference_mode: a training may take these
            if self.layer == len(self.encoder.encoder.layer):
                hidden = self.encoder(ids, mask)  # (B, L, width)
            else:
                blocks = [self.encoder.embeddings, *self.encoder.encoder.layer]
                hidden = output_of(blocks[self.layer], lambda: self.encoder(ids, mask))  # (B, L, width)
        return [rows[real].float().cpu() for rows, real in zip(hidden, mask, strict=True)]


class Dance(Embedder):
    """Last hidden state of SeqDance or ESMDance; <cls> and <eos> are read, their rows are left out.

    Parameters
    ----------
    path_or_hub_id
        See `model.network.dance.load_model`.
    device
        "auto" takes a GPU if there is one.
    """

    def __init__(self, path_or_hub_id: str, device: str | torch.device = "auto") -> None:
        self.model = load_model(path_or_hub_id, device)
        self.width = self.model.config.hidden
        self.fingerprint = f"dance {weights_digest(self.model.esm2, self.model.config.heads)}"

    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """See `Embedder.embed`."""
        self._refuse_structures(structures)
        residue_tokens(sequences)  # refuses complexes
        return [torch.from_numpy(rows) for rows in embed_with_dance(self.model, list(sequences), per_residue=True)]


class Esm3(Embedder):
    """ESM-3 of the package `esm`: a hidden state of sequence and structure tokens without their begin and end tokens.

    What is taken for granted of the package (3.1 to 3.4) stands in `_load_esm3` and in the two private methods. ESM-3
    pins old libraries: requirements-esm3.txt is for an environment of its own, where `seqdance dyna1 embed` writes the
    cache that other environments read.

    Parameters
    ----------
    name
        Name of the model for `ESM3.from_pretrained`, which keeps its files in the cache of the Hub.
    layer
        Hidden state: the output of this transformer block, counted from 0, before the final LayerNorm.
    device
        "auto" takes a GPU if there is one. The weights are float32 everywhere.
    """

    reads_structure = True

    def __init__(self, name: str = ESM3_DEFAULT, layer: int = ESM3_LAYER, device: str | torch.device = "auto") -> None:
        self.device = choose_device(device)
        self.model, self.esm_protein = _load_esm3(name)
        blocks = _assumed(lambda: list(self.model.transformer.blocks), "ESM3.transformer.blocks")
        if not 0 <= layer < len(blocks):
            raise InputError(f"{name}: no hidden state {layer}; it has 0 to {len(blocks) - 1}")
        self.block = blocks[layer]
        self.width = _assumed(lambda: int(self.model.encoder.sequence_embed.weight.shape[1]), "ESM3.encoder")
        self.fingerprint = f"esm3 layer {layer} {weights_digest(self.model)}"
        self.model.to(self.device)

    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """See `Embedder.embed`. One entry after the other goes through the model."""
        if structures is None:
            structures = [None] * len(sequences)
        embeddings = []
        with torch.no_grad():  # not inference_mode: a training may take these
            for sequence, structure in zip(sequences, structures, strict=True):
                ids = residue_tokens([sequence])[0]  # (1, L); ESM-3 has the token ids of ESM2, <mask> included
                if structure is not None and len(structure) != ids.shape[1]:
                    raise InputError(
                        f"structure of {len(structure)} residues, sequence of {ids.shape[1]}; they must be equally long"
                    )
                tokens = None if structure is None else self._structure_tokens(structure)
                embeddings.append(self._hidden_state(ids.to(self.device), tokens).float().cpu())
        return embeddings

    def _structure_tokens(self, backbone: Backbone) -> Tensor:
        """(1, L) int64; residues without coordinates get the token that the package gives them."""
        atoms = torch.full((len(backbone), 37, 3), torch.nan)  # N, CA and C are the first of 37
        atoms[:, :3] = torch.from_numpy(backbone)
        encoded = _assumed(lambda: self.model.encode(self.esm_protein(coordinates=atoms)), "ESM3.encode(ESMProtein)")
        return encoded.structure[None, 1:-1].to(self.device)  # without begin and end

    def _hidden_state(self, sequence: Tensor, structure: Tensor | None) -> Tensor:
        """(1, L) and (1, L) token ids -> (L, width). No structure is as good as a structure of masks."""

        def run() -> object:
            return self.model(sequence_tokens=sequence, structure_tokens=structure)

        return _assumed(lambda: output_of(self.block, run), "ESM3.forward(sequence_tokens, structure_tokens)")[0]


def _load_esm3(name: str) -> tuple[Any, Any]:
    """Model in float32 on the CPU, and the class ESMProtein."""
    try:
        from esm.models.esm3 import ESM3
        from esm.sdk.api import ESMProtein
    except ImportError as error:
        raise InputError(
            f"ESM-3 needs the package esm, which cannot be imported here ({error}); install requirements-esm3.txt into "
            "an environment of its own, write a cache there (seqdance dyna1 embed) and give cache:FILE.h5 here"
        ) from None
    try:
        model = ESM3.from_pretrained(name, device=torch.device("cpu"))  # on a GPU it would come in bf16
    except Exception as error:  # the client of the Hub lets errors of several libraries through
        raise InputError(
            f"{name}: cannot be loaded by the package esm ({first_line(error)}); accept its terms on the Hub, log in, "
            "and download it where there is network"
        ) from None
    return model.float().eval(), ESMProtein


def _assumed(action: Callable[[], Any], what: str) -> Any:
    """Result of an action on the package `esm`; one clear line if the package is not as it is taken for."""
    try:
        return action()
    except (AttributeError, TypeError, ValueError, AssertionError, LookupError) as error:
        raise InputError(
            f"the package esm is another one than expected at {what} ({first_line(error)}); "
            "install the version of requirements-esm3.txt"
        ) from None


class _Reached(Exception):
    """The output that was waited for is there; nothing after it is computed."""


def output_of(module: nn.Module, run: Callable[[], object]) -> Tensor:
    """Output of a part of a network (the first, if it has several); the run ends there."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        outputs.append(output if isinstance(output, Tensor) else output[0])
        raise _Reached

    handle = module.register_forward_hook(keep)
    try:
        run()
    except _Reached:
        pass
    finally:
        handle.remove()
    return outputs[0]


class Af2Pairs(EmbeddingSource):
    """Pair representations of AlphaFold2, one file NAME.npy for each entry.

    Parameters
    ----------
    folder
        Files of (L, L, 128) floats.
    """

    width = AF2_CHANNELS
    reads_pairs = True
    fingerprint = "af2"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f"{folder}: no such folder; give that of the pair representations")

    def read(self, name: str, sequence: str) -> Tensor:
        """(L, L, 128) float32.

        Raises
        ------
        InputError
            The file of the entry is missing, damaged, or does not fit the sequence.
        """
        path = self.folder / f"{name}.npy"
        try:
            pairs = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise InputError(f"{path}: no pair representation of {name}; add it or leave the entry out") from None
        except (ValueError, EOFError, OSError, BadZipFile) as error:
            raise InputError(f"{path}: cannot be read as npy ({first_line(error)}); write it again") from None
        if not isinstance(pairs, np.ndarray) or pairs.dtype.kind not in "fiu":  # numpy opens an npz of any name
            kind = pairs.dtype if isinstance(pairs, np.ndarray) else "npz"
            raise InputError(f"{path}: holds {kind}, expected one array of floats; write it again with numpy.save")
        expected = (len(sequence), len(sequence), AF2_CHANNELS)
        if pairs.shape != expected:
            raise InputError(f"{path}: shape {pairs.shape}, its sequence needs {expected}")
        return torch.from_numpy(pairs.astype(np.float32))
