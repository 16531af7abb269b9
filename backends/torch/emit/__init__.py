"""From a graph to statements of Python: one step for each operator."""
