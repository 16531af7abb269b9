"""Heads that are turned: moments of few places, which float32 rounds."""

from __future__ import annotations

import numpy as np

from redir.passes.factorize.turning import _roots


def test_moments_that_rounding_made_negative_have_a_root() -> None:
    turned, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    moments = turned * [2.0, 1e-9, -1e-7] @ turned.T
    whole, inverse = _roots(moments)
    np.testing.assert_allclose(whole @ whole, moments, atol=1e-5)
    np.testing.assert_allclose(whole @ inverse, np.eye(3), atol=1e-9)
