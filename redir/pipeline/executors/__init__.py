"""What gets the tasks of a run done elsewhere: processes on this machine, or a cluster."""

from redir.pipeline.executors.cluster import Cluster
from redir.pipeline.executors.pool import Pool

__all__ = ["Cluster", "Pool"]
