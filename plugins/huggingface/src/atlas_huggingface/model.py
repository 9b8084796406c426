"""The model: a module built from a checkpoint such that a Hessian of it means something.

Eager attention, since the fused kernels have no second derivative on the CPU; no cache; evaluation
mode; every weight from the file; no code from the checkpoint.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.errors import BadInput
from atlas_huggingface.checkpoint import Checkpoint
from atlas_huggingface.tasks import Task
from atlas_huggingface.transformers_border import load_transformers
from atlas_huggingface.weights import out_of_memory, read_weights, require_memory

if TYPE_CHECKING:
    import torch

__all__ = ["load_model", "outlined_model"]

ATTENTION = "eager"


def load_model(
    checkpoint: Checkpoint, task: Task, *, dtype: torch.dtype, device: torch.device
) -> tuple[torch.nn.Module, dict[str, str]]:
    """Return the module in evaluation mode on its device, and facts of it.

    Raises:
        BadInput: The files are damaged, do not fit the configuration, or do not fit into memory.
    """
    where = checkpoint.weights[0]
    load_transformers()
    with out_of_memory(where):
        if checkpoint.format == "gguf":
            model, report, facts = _from_gguf(where, task, dtype)
        else:
            model, report, facts = _from_weights(checkpoint, task, dtype)
        _refuse_gaps(report, where, task)
        model.config.use_cache = False
        model.eval()
        model.to(device)
    attention = model.config._attn_implementation
    if attention != ATTENTION:
        raise BadInput(
            f"the model takes {attention!r} attention, and only {ATTENTION!r} has second derivatives",
            where=str(where),
        )
    odd = {str(p.dtype) for p in model.parameters() if p.is_floating_point() and p.dtype != dtype}
    if odd:
        raise BadInput(f"some weights stay in {', '.join(sorted(odd))}, not {dtype}", where=str(where))
    facts |= {
        "architecture": type(model).__name__,
        "attention": attention,
        "parameters": str(sum(p.numel() for p in model.parameters())),
        "weights_unused": ", ".join(sorted(report["unexpected_keys"])) or "none",
    }
    return model, facts


def outlined_model(checkpoint: Checkpoint, task: Task, *, dtype: torch.dtype) -> torch.nn.Module | None:
    """Return the module on the meta device, built from its configuration alone; no weight file is opened.

    Returns:
        The module in evaluation mode, or None for a GGUF file, whose configuration lies with its weights.

    Raises:
        BadInput: The configuration cannot be used.
    """
    import torch

    if checkpoint.format == "gguf":
        return None
    load_transformers()
    config, architecture = _architecture(checkpoint, task)
    with torch.device("meta"), _building(checkpoint):
        model = architecture._from_config(config, dtype=dtype, attn_implementation=ATTENTION)
    model.config.use_cache = False
    outlined: torch.nn.Module = model.eval()
    return outlined


def _architecture(checkpoint: Checkpoint, task: Task) -> tuple[Any, Any]:
    """Return the configuration, and the class of transformers that it is built as."""
    transformers = load_transformers()
    mapping = getattr(importlib.import_module("transformers.models.auto.modeling_auto"), task.mapping)
    path = checkpoint.folder / "config.json"
    try:
        config = transformers.AutoConfig.from_pretrained(
            str(checkpoint.folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # validation of each architecture's own; all of them mean a wrong file
        raise BadInput(
            f"transformers cannot use the configuration: {_first_line(error)}",
            where=str(path),
            fix="Atlas runs no code from a checkpoint; the architecture must be one of transformers' own",
        ) from error
    if config.is_encoder_decoder or type(config) not in mapping:
        raise BadInput(
            f"{config.model_type!r} is no {task.noun}",
            where=str(path),
            fix="choose another model, or another `task` of the target",
        )
    return config, mapping[type(config)]


@contextmanager
def _building(checkpoint: Checkpoint) -> Iterator[None]:
    """Blame the configuration for a module that cannot be built."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise BadInput(
            f"transformers cannot build the model: {_first_line(error)}",
            where=str(checkpoint.folder / "config.json"),
        ) from error


def _from_weights(
    checkpoint: Checkpoint, task: Task, dtype: torch.dtype
) -> tuple[Any, Mapping[str, Any], dict[str, str]]:
    config, architecture = _architecture(checkpoint, task)
    weights, facts = read_weights(checkpoint, itemsize=dtype.itemsize)
    with _building(checkpoint):
        model, report = architecture.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=dtype,
            attn_implementation=ATTENTION,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that all of them are reported; none is accepted
        )
    return model, report, dict(facts)


def _from_gguf(path: Path, task: Task, dtype: torch.dtype) -> tuple[Any, Mapping[str, Any], dict[str, str]]:
    if task.name != "causal-lm":
        raise BadInput(
            f"a GGUF file holds a causal language model, no {task.noun}",
            where=str(path),
            fix="take the model's safetensors version",
        )
    transformers = load_transformers()
    try:
        numbers, quantisation = _survey(path)
        require_memory(numbers * dtype.itemsize, where=path)
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            str(path.parent),
            gguf_file=path.name,
            dtype=dtype,
            attn_implementation=ATTENTION,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # the reader raises ValueError, IndexError, KeyError, UnicodeDecodeError ...
        raise BadInput(
            f"the GGUF file cannot be read: {type(error).__name__}: {_first_line(error)}",
            where=str(path),
            fix="bring the file again, or take the model's safetensors version",
        ) from error
    return model, report, {"dequantised_from": f"GGUF {quantisation}", "stored_dtype": quantisation}


def _survey(path: Path) -> tuple[int, str]:
    """Return how many numbers a GGUF file holds, and its quantisation, `Q4_1`."""
    gguf = importlib.import_module("gguf")
    reader = gguf.GGUFReader(path)
    field = reader.get_field("general.file_type")
    if field is None:
        kinds = sorted({tensor.tensor_type.name for tensor in reader.tensors})
        name = "+".join(kinds)
    else:
        name = gguf.LlamaFileType(field.contents()).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    return sum(int(tensor.n_elements) for tensor in reader.tensors), name


def _refuse_gaps(report: Mapping[str, Any], where: Path, task: Task) -> None:
    """Refuse a model some of whose weights did not come from the file.

    transformers fills such weights with random numbers and goes on.
    """
    mismatched = [
        f"{name} is {tuple(stored)} in the file and {tuple(built)} by the configuration"
        for name, stored, built in sorted(report["mismatched_keys"])
    ]
    if mismatched:
        raise BadInput(
            f"{len(mismatched)} weights have another shape than the configuration says: "
            f"{'; '.join(mismatched[:3])}",
            where=str(where),
            fix="config.json and the weights must be of the same model",
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise BadInput(
            f"{len(missing)} weights are missing from the file: {', '.join(missing[:5])}"
            + (" ..." if len(missing) > 5 else ""),
            where=str(where),
            fix=f"bring all files of the model; without these weights it is no {task.noun}",
        )
    if report["error_msgs"]:
        raise BadInput(f"the weights do not load: {report['error_msgs'][0]}", where=str(where))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
