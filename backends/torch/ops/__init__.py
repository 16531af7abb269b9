"""What each operator becomes in PyTorch: one rule for each, by family."""
