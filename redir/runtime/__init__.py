"""Running a graph: by what, on which numbers, of which sizes."""
