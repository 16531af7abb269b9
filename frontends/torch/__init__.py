"""Reading PyTorch: modules, and the programs that ``torch.export`` saves."""
