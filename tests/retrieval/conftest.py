"""Tiny corpora, written once."""

from __future__ import annotations

from tests.train.conftest import tiny

__all__ = ["tiny"]
