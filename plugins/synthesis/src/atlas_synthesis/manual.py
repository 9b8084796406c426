"""The adapter `manual`: a person carries the package to a model and the answer back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas.contracts import Answer, AwaitAnswer, Interaction, Package
from atlas_synthesis.answer import read_answer
from atlas_synthesis.package import listing_of

__all__ = ["LISTING", "UPLOAD", "Manual"]

UPLOAD = "package.md"
LISTING = "manifest-sha256.txt"

_ASK = (
    "Start a fresh session with the model, without history, memory or instructions. Upload "
    f"{UPLOAD} from the handout folder and send nothing else. Do not reply to what the model says. Copy its "
    "first answer, whole and unchanged, into a text file, answer.md, and bring that file as this step's "
    "answer (atlas answer RUN STEP --file answer.md)."
)


class Manual:
    """Hands the package out on the first call, and takes the answer that was brought on the second."""

    def submit(
        self, package: Package, params: Mapping[str, Any], interaction: Interaction
    ) -> Answer | AwaitAnswer:
        """Return what the person must do, or the answer they brought.

        Raises:
            BadInput: What they brought is no answer.
        """
        if interaction.brought is None:
            handout = {UPLOAD: package.upload, LISTING: listing_of(package.files), **package.files}
            return AwaitAnswer(_ASK, handout)
        return Answer(read_answer(interaction.brought, uploaded=package.upload), {"carried": "by hand"})
