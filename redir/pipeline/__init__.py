"""Passes, pipelines of them, and how they are run."""

from redir.pipeline.pipeline import Pass, Pipeline, Place, available, fields_of, promised

__all__ = ["Pass", "Pipeline", "Place", "available", "fields_of", "promised"]
