"""Carrying out a run: its journal, its sealed files, and each of its steps in a process of its own."""

from __future__ import annotations

from atlas.run.journal import DiskFull, Journal
from atlas.run.store import Deposit, Store

__all__ = ["Deposit", "DiskFull", "Journal", "Store"]
