"""The report on what became of a model: one page that needs nothing else, made of the JSON."""
