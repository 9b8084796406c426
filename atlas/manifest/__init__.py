"""Manifests: reading, resolving, expanding, planning and writing them."""

from __future__ import annotations

from atlas.manifest.document import Document, load_document
from atlas.manifest.matrix import expand
from atlas.manifest.model import Reference, Resolved, Step
from atlas.manifest.planning import PlanLine, plan
from atlas.manifest.resolution import resolve
from atlas.manifest.writing import dump

__all__ = [
    "Document",
    "PlanLine",
    "Reference",
    "Resolved",
    "Step",
    "dump",
    "expand",
    "load_document",
    "plan",
    "resolve",
]
