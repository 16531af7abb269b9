"""One layer and its weights."""
