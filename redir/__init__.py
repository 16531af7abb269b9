"""redir removes redundancy from neural networks, without data."""
