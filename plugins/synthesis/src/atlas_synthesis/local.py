"""The adapter `local`: a model of this machine, opened from a Hugging Face folder or a GGUF file.

The step's process is new, opens the model, answers once and ends. The model receives the package's message
and, where it has a chat template, the marks of one user turn. A template that would add words of its own,
such as a system prompt, is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from atlas.contracts import Answer, Interaction, Package
from atlas.errors import BadInput
from atlas_synthesis.extras import library

__all__ = ["Local", "framed"]

_ROLES = {"user", "assistant", "system", "model", "human", "INST"}
_WEIGHTS = (".safetensors", ".gguf")


@frozen
class Framed:
    """The message as the model receives it.

    Attributes:
        text: The message within the marks of its template.
        frame: The marks alone.
    """

    text: str
    frame: str


class Local:
    """Opens a model, gives it the package once, and returns what it generates."""

    def submit(self, package: Package, params: Mapping[str, Any], interaction: Interaction) -> Answer:
        """Return the generated text; greedy at temperature 0, else drawn with the seed.

        Raises:
            BadInput: A library or the weights are missing, the template adds words, or the package is
                longer than the model's context.
        """
        torch, transformers = library("torch", "local"), library("transformers", "local")
        path = Path(params["path"])
        weights = _weights(path)
        tokenizer, model = _open(torch, transformers, path, params["dtype"])
        message = framed(tokenizer, package.upload.decode("utf-8"))
        added = getattr(tokenizer, "chat_template", None) is None
        ids = tokenizer(message.text, add_special_tokens=added, return_tensors="pt").input_ids
        limit = getattr(model.config, "max_position_embeddings", None)
        if limit is not None and ids.shape[1] >= limit:
            raise BadInput(
                f"the package has {ids.shape[1]} tokens, and the model takes {limit} with its answer",
                fix="let the step see fewer tables, or choose a model with a longer context",
            )
        new = params["max_tokens"] if limit is None else min(params["max_tokens"], limit - ids.shape[1])
        interaction.note("one upload", f"package {package.digest[:12]}, {ids.shape[1]} tokens to {path.name}")
        settings = _settings(transformers, model, params, new)
        torch.manual_seed(params["seed"])  # this process answers once and ends
        with torch.inference_mode():
            output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        made = output[0, ids.shape[1] :].tolist()
        interaction.begun(f"{len(made)} tokens")
        text = tokenizer.decode(made, skip_special_tokens=True)
        facts = {
            "client": f"transformers {transformers.__version__}, torch {torch.__version__}",
            "model": path.name,
            **{f"sha256:{file.name}": _sha256(file) for file in weights},
            "dtype": params["dtype"],
            "frame": message.frame,
            "asked.temperature": str(params["temperature"]),
            "asked.seed": str(params["seed"]),
            "asked.max_tokens": str(new),
            "tokens_in": str(ids.shape[1]),
            "tokens_out": str(len(made)),
            "stopped_by": "length" if len(made) >= new else "end",
        }
        tokens = {"tokens_in": ids[0].tolist(), "tokens_out": made, "text": text}
        files = {
            "request.txt": message.text.encode("utf-8"),
            "response.json": json.dumps(tokens, ensure_ascii=False).encode("utf-8"),
        }
        return Answer(text, facts, files)


def framed(tokenizer: Any, text: str) -> Framed:
    """Return a message in the marks of one user turn, without a word that is not its own.

    The marks are those that a target of the huggingface plugin puts around a prompt.

    Raises:
        BadInput: The template has no place for the message, or adds words even after an empty system turn.
    """
    library("atlas_huggingface", "local")
    from atlas_huggingface.generation import framed as marks_of

    try:
        before, after = marks_of(tokenizer)
    except BadInput as error:
        raise BadInput(
            "the chat template of the model changes the message", fix="choose another model"
        ) from error
    added = _words(tokenizer, f"{before} {after}")
    if added:
        raise BadInput(
            f"the chat template of the model adds words of its own: {added[:200]!r}",
            fix="choose a model whose template adds none: a package is all that a model may receive",
        )
    message = text.strip() if before or after else text
    return Framed(f"{before}{message}{after}", f"{before}{after}")


def _words(tokenizer: Any, frame: str) -> str:
    """Return the words of a frame that are no marks."""
    marks = {*tokenizer.all_special_tokens, *map(str, getattr(tokenizer, "added_tokens_encoder", ()))}
    for mark in sorted(marks, key=len, reverse=True):
        frame = frame.replace(mark, " ")
    return " ".join(word for word in re.findall(r"\w+", frame) if word not in _ROLES)


def _open(torch: Any, transformers: Any, path: Path, dtype: str) -> tuple[Any, Any]:
    folder, extra = (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})
    common = {"local_files_only": True, "trust_remote_code": False, **extra}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **common)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, **common
        )
    except (OSError, ValueError, ImportError) as error:
        raise BadInput(f"the model cannot be opened: {error}", where=str(path)) from error
    return tokenizer, model.eval()


def _settings(transformers: Any, model: Any, params: Mapping[str, Any], new: int) -> Any:
    """Return how to generate: nothing of what the model's own folder suggests but its last token."""
    last = model.generation_config.eos_token_id
    pad = model.generation_config.pad_token_id
    first = last[0] if isinstance(last, list) else last
    drawn = {"do_sample": True, "temperature": float(params["temperature"]), "top_k": 0, "top_p": 1.0}
    return transformers.GenerationConfig(
        max_new_tokens=new,
        eos_token_id=last,
        pad_token_id=first if pad is None else pad,
        **(drawn if params["temperature"] > 0 else {"do_sample": False}),
    )


def _weights(path: Path) -> list[Path]:
    found = [path] if path.is_file() else sorted(path.iterdir())
    weights = [file for file in found if file.suffix in _WEIGHTS]
    if not weights:
        raise BadInput(
            "there are no weights in safetensors or GGUF",
            where=str(path),
            fix="name a folder or a .gguf file",
        )
    return weights


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
