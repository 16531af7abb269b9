"""Passes, pipelines of them, and how they are run."""

from redir.pipeline.pipeline import Pass, Pipeline, available, promised

__all__ = ["Pass", "Pipeline", "available", "promised"]
