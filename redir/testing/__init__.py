"""The conformance kit: what proves a pass, yours or ours."""

from redir.testing.conformance import check_on, check_pass, check_removal
from redir.testing.duplicates import plant_duplicates
from redir.testing.strategies import graphs
from redir.testing.whole_numbers import whole_number_twin

__all__ = [
    "check_on",
    "check_pass",
    "check_removal",
    "graphs",
    "plant_duplicates",
    "whole_number_twin",
]
