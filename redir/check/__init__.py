"""Whether a graph still computes the same."""
