"""The target source `hf`: from a manifest's entry to an open model."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.contracts import LossTerm, Progress
from atlas.errors import BadInput
from atlas_huggingface.cache import file_sha256, model_folder
from atlas_huggingface.checkpoint import Checkpoint, find_checkpoint
from atlas_huggingface.hub import bring_snapshot, find_snapshot, has_snapshot
from atlas_huggingface.pull_list import listed
from atlas_huggingface.pulling import pull
from atlas_huggingface.tasks import NO_TERMS, TASKS, behaviour, make_target

if TYPE_CHECKING:
    import torch

    from atlas.contracts import OutputTarget
    from atlas_huggingface.outline import Outline

__all__ = ["HuggingFaceSource"]

_FETCHED = "fetched"
"""Key under which `fetch` tells `open` where a snapshot of the hub lies."""


class HuggingFaceSource:
    """Opens a folder, a file, a hub id or a model of the pull list."""

    def fetch(self, params: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Bring a hub id or a model of the pull list here; what is local is left as it is.

        Raises:
            BadInput: The hub or the package index cannot be reached or does not have the model.
        """
        if "pulled" in params:
            pull(listed(params["pulled"]), progress)
        if "id" in params:
            folder = bring_snapshot(
                params["id"], params["revision"], pickles=_allows_pickles(params), progress=progress
            )
            return {**params, "revision": folder.name, _FETCHED: str(folder)}
        return params

    def open(
        self, params: Mapping[str, Any], *, threads: int, loss_terms: Mapping[str, LossTerm] = NO_TERMS
    ) -> OutputTarget:
        """Open the target without network; `loss_terms` may be of other plugins.

        Raises:
            BadInput: The files are missing, damaged, of a refused format, or do not fit.
        """
        from atlas_huggingface.transformers_border import load_transformers, vision_fault

        vision = vision_fault()
        load_transformers()
        import torch

        from atlas_huggingface.model import load_model

        task = TASKS[params.get("task", "causal-lm")]
        torch.set_num_threads(threads)
        dtype: torch.dtype = getattr(torch, params.get("dtype", "float32"))
        device = _device(params.get("device", "cpu"))
        path, source = _locate(params)
        checkpoint = find_checkpoint(path, allow_pickle=_allows_pickles(params))
        module, facts = load_model(checkpoint, task, dtype=dtype, device=device)
        tokenizer, token_facts = _tokenizer(params, checkpoint, module)
        facts |= token_facts
        facts |= behaviour(task, module, where=str(path))
        facts |= _file_facts(checkpoint)
        facts |= {
            "model": params.get("id") or params.get("pulled") or path.name,
            "source": source,
            "dtype": str(dtype).removeprefix("torch."),
            "device": str(device),
            "transformers": importlib.metadata.version("transformers"),
        }
        if device.type == "cuda":
            facts["device_name"] = torch.cuda.get_device_name(device)
        if vision is not None:
            facts["torchvision"] = f"left out, since it cannot be imported: {vision}"
        return make_target(task, params, module, tokenizer, facts, loss_terms)

    def outline(self, params: Mapping[str, Any]) -> Outline | None:
        """Return the target without its weights, from its configuration and tokenizer; see `Outline`.

        Returns:
            None where the configuration is not on this machine, or lies in the weight file (GGUF), and
            where the loss has terms of other plugins, which are not loaded yet.

        Raises:
            BadInput: The files are missing, of a refused format, or do not fit.
        """
        from atlas_huggingface.transformers_border import load_transformers

        load_transformers()
        import torch

        from atlas_huggingface.model import outlined_model
        from atlas_huggingface.outline import Outline

        task = TASKS[params.get("task", "causal-lm")]
        foreign = set(params.get("loss", {})) - {term.name for term in task.terms}
        if foreign or not _is_here(params):
            return None
        checkpoint = find_checkpoint(_locate(params)[0], allow_pickle=_allows_pickles(params))
        module = outlined_model(checkpoint, task, dtype=getattr(torch, params.get("dtype", "float32")))
        if module is None:
            return None
        tokenizer, _ = _tokenizer(params, checkpoint, module)
        return Outline(make_target(task, params, module, tokenizer, {}))


def _tokenizer(
    params: Mapping[str, Any], checkpoint: Checkpoint, module: torch.nn.Module
) -> tuple[Any, dict[str, str]]:
    from atlas_huggingface.tokens import load_tokenizer

    rows = module.get_input_embeddings().weight.shape[0]  # type: ignore[operator] # a transformers model
    chosen = Path(params["tokenizer"]) if params.get("tokenizer") else None
    return load_tokenizer(checkpoint, chosen, rows=rows)


def _is_here(params: Mapping[str, Any]) -> bool:
    if params.get("pulled"):
        return model_folder(listed(params["pulled"]).name).is_dir()
    if params.get("id") and not params.get(_FETCHED):
        return has_snapshot(params["id"], params["revision"], pickles=_allows_pickles(params))
    return True


def _allows_pickles(params: Mapping[str, Any]) -> bool:
    return params.get("allow_pickle_weights") == "weights_only"


def _locate(params: Mapping[str, Any]) -> tuple[Path, str]:
    """Return where the target's files lie, and how the record names their source."""
    ways = [way for way in ("path", "id", "pulled") if params.get(way)]
    if len(ways) != 1:
        raise BadInput(
            f"the target names {' and '.join(ways) or 'no model'}",
            where="targets",
            fix="give one of `path`, `id` with `revision`, or `pulled`",
        )
    if ways == ["path"]:
        return Path(params["path"]), str(params["path"])
    if ways == ["id"]:
        found = params.get(_FETCHED)
        folder = (
            Path(found)
            if found
            else find_snapshot(params["id"], params["revision"], pickles=_allows_pickles(params))
        )
        return folder, f"huggingface.co {params['id']} at {folder.name}"
    model = listed(params["pulled"])
    folder = model_folder(model.name)
    if not folder.is_dir():
        raise BadInput(
            f"the model {model.name!r} is not on this machine",
            where=str(folder),
            fix=f"atlas models pull {model.name}",
        )
    return folder, f"{model.source} by way of {model.requirement}"


def _file_facts(checkpoint: Checkpoint) -> dict[str, str]:
    facts = {f"sha256:{name}": digest for name, digest in checkpoint.weight_digests().items()}
    config = checkpoint.folder / "config.json"
    if checkpoint.format != "gguf":
        facts["config_sha256"] = file_sha256(config)
    if checkpoint.receipt is not None:
        facts["dequantised_from"] = checkpoint.receipt.dequantised_from
        facts["original"] = checkpoint.receipt.original
    facts["licence"] = checkpoint.licence()
    facts["weights_format"] = checkpoint.format
    return facts


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput(
            "this machine offers torch no CUDA device", where="targets", fix="set `device: cpu` or `auto`"
        )
    return torch.device(name)
