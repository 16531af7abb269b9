"""Files: models, arrays, and where outputs go."""
