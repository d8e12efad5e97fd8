"""The networks: tokenizer, encoder, heads, and their weights."""
