"""What each operator of PyTorch becomes: one rule for each, by family."""
