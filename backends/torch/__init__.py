"""Writing PyTorch: source, or a module made from it."""
