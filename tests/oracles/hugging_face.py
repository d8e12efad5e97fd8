"""ESM2 of Hugging Face at a chosen size, the reference of our encoder."""

from __future__ import annotations

from typing import Any


def esm2_settings(hidden: int, layers: int, heads: int, feed_forward: int, **more: Any) -> Any:
    """Configuration of an ESM2 network that also returns its attention maps."""
    from transformers import EsmConfig

    return EsmConfig(
        vocab_size=33,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=feed_forward,
        pad_token_id=1,
        mask_token_id=32,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
        attn_implementation="eager",
        **more,
    )
