from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

from model.network.tokenizer import MASK_ID, PAD_ID, VOCABULARY, tokenize

DATA = Path(__file__).resolve().parents[2] / "data" / "model"


def test_vocabulary() -> None:
    published = "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>"
    assert published.split() == list(VOCABULARY)
    assert (len(VOCABULARY), PAD_ID, MASK_ID) == (33, 1, 32)


def test_batch_is_padded() -> None:
    batch = tokenize(["LA<eos><cls>G<mask><unk>", "L"])
    assert batch["input_ids"].tolist() == [[0, 4, 5, 2, 0, 6, 32, 3, 2], [0, 4, 2, *[1] * 6]]
    assert batch["attention_mask"].tolist() == [[1] * 9, [1] * 3 + [0] * 6]
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64


def test_golden_batch() -> None:
    golden = np.load(DATA / "tiny_seqdance.npz")
    ids, mask = golden["in.input_ids"], golden["in.attention_mask"]
    texts = ["".join(VOCABULARY[i] for i in row[: n.sum()][1:-1]) for row, n in zip(ids, mask, strict=True)]
    assert "<eos><cls>" in texts[2]
    batch = tokenize(texts)
    np.testing.assert_array_equal(batch["input_ids"], ids)
    np.testing.assert_array_equal(batch["attention_mask"], mask)


def test_hugging_face_tokenizer_agrees(tmp_path: Path) -> None:
    from transformers import EsmTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    reference = EsmTokenizer(str(tmp_path / "vocab.txt"))
    for text in ("LAGVSERTIDPKQNFYMHWCXBUZO.-", "MK<mask>L", "MK<eos><cls>L"):
        assert tokenize([text])["input_ids"][0].tolist() == reference(text)["input_ids"]


def test_max_length_keeps_the_first_tokens() -> None:
    assert tokenize(["LAGV", "L"], max_length=3)["input_ids"].tolist() == [[0, 4, 5], [0, 4, 2]]


@pytest.mark.parametrize(
    ("sequences", "named"),
    [
        (["LAG", "LAgV"], ["sequence 2 of 2", "position 3", "'g'"]),
        (["LJG"], ["sequence 1 of 1", "position 2", "'J'"]),
        (["LA G"], ["position 3", "' '"]),
        (["LA\n"], ["position 3"]),
        (["L<pad>A"], ["position 2", "'<'"]),
        (["LA<mask>g"], ["position 4", "'g'"]),
        (["LA", ""], ["sequence 2 of 2"]),
        ([], []),
        ("LAG", []),
    ],
)
def test_errors_name_the_position(sequences: list[str], named: list[str]) -> None:
    refused(lambda: tokenize(sequences), *named)
