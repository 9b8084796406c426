"""The Hugging Face hub: snapshots of a repository at one revision, brought here or found here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atlas.contracts import Progress
from atlas.errors import BadInput

__all__ = ["bring_snapshot", "find_snapshot", "has_snapshot"]

_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "README.md")
_LEFT = ("original/*", "onnx/*", "openvino/*", "coreml/*")


def bring_snapshot(repository: str, revision: str, *, pickles: bool, progress: Progress) -> Path:
    """Download what is missing of a repository at a revision; return the snapshot's folder.

    The folder is named by the commit that the revision stands for.

    Raises:
        BadInput: The hub cannot be reached, or has no such repository or revision for this user.
    """
    from huggingface_hub import snapshot_download
    from tqdm.std import tqdm  # type: ignore[import-untyped] # it ships no types

    message = f"downloading {repository} at {revision}"
    seen = 0

    class Bar(tqdm):  # type: ignore[misc] # it ships no types
        """Tells the host of the bytes, where the hub's own bars would draw on the terminal."""

        def display(self, *args: Any, **kwargs: Any) -> None:
            nonlocal seen
            if self.unit == "B" and self.n > seen:
                seen = self.n
                progress(message, done=int(self.n), total=int(self.total) if self.total else None)

    progress(message)
    try:
        found = snapshot_download(repository, revision=revision, tqdm_class=Bar, **_choice(pickles))
    except Exception as error:  # the hub's own errors, or those of whichever HTTP library it uses
        reason = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"the model cannot be fetched from the hub: {type(error).__name__}: {reason}",
            where=f"{repository} at {revision}",
            fix="check the name, the revision and the network, or set `path` to a folder that is here",
        ) from error
    return Path(found)


def find_snapshot(repository: str, revision: str, *, pickles: bool) -> Path:
    """Return the folder of a snapshot that is already here; nothing is asked of the network.

    Raises:
        BadInput: It is not here, or not whole.
    """
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(repository, revision=revision, local_files_only=True, **_choice(pickles))
    except Exception as error:
        raise BadInput(
            "the model is not on this machine, or not all of it",
            where=f"{repository} at {revision}",
            fix="run the manifest with network, or set `path` to a folder that is here",
        ) from error
    return Path(found)


def has_snapshot(repository: str, revision: str, *, pickles: bool) -> bool:
    """Whether a snapshot is already here; nothing is asked of the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot_download(repository, revision=revision, local_files_only=True, **_choice(pickles))
    except LocalEntryNotFoundError:
        return False
    return True


def _choice(pickles: bool) -> dict[str, Any]:
    return {
        "allow_patterns": [*_WANTED, *(["pytorch_model*.bin"] if pickles else [])],
        "ignore_patterns": list(_LEFT),
    }
