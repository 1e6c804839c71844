"""The network of the paper, as docs/model.md describes it."""
