"""What a checkpoint is asked to do: the head that it needs, its loss terms, and the target made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from atlas.contracts import LossTerm
from atlas.errors import BadInput
from atlas.objective import Objective
from atlas_huggingface.label import LABEL
from atlas_huggingface.masked_token import MASKED_TOKEN
from atlas_huggingface.next_token import NEXT_TOKEN

if TYPE_CHECKING:
    import torch

    from atlas.contracts import OutputTarget

__all__ = ["NO_TERMS", "TASKS", "Task", "behaviour", "make_target"]


@frozen
class Task:
    """A task.

    Attributes:
        name: As the manifest writes it.
        noun: What a model is that can do it.
        mapping: Name of transformers' mapping from configurations to such models.
        terms: Loss terms that read its outputs.
    """

    name: str
    noun: str
    mapping: str
    terms: tuple[LossTerm, ...]


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("causal-lm", "causal language model", "MODEL_FOR_CAUSAL_LM_MAPPING", (NEXT_TOKEN,)),
        Task("masked-lm", "masked language model", "MODEL_FOR_MASKED_LM_MAPPING", (MASKED_TOKEN,)),
        Task(
            "sequence-classification",
            "sequence classifier",
            "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
            (LABEL,),
        ),
    )
}


NO_TERMS: Mapping[str, LossTerm] = {}
"""No terms but the task's own."""


def behaviour(task: Task, module: torch.nn.Module, *, where: str) -> dict[str, str]:
    """Return facts of a module's arithmetic.

    Raises:
        BadInput: It is no causal language model, although its architecture goes under that name.
    """
    if task.name == "causal-lm":
        from atlas_huggingface.causal_lm import require_causality

        return require_causality(module, where=where)
    from atlas_huggingface.casts import narrower_inside

    return {"narrower_inside": narrower_inside(module)}


def make_target(
    task: Task,
    params: Mapping[str, Any],
    module: torch.nn.Module,
    tokenizer: Any,
    facts: Mapping[str, str],
    loss_terms: Mapping[str, LossTerm] = NO_TERMS,
) -> OutputTarget:
    """Return the target of a task.

    Args:
        task: The task.
        params: The target's parameters: `loss`, and the task's own.
        module: The model.
        tokenizer: Its tokenizer.
        facts: What the record must hold; the loss, and what the task knows, are added.
        loss_terms: Terms that `loss` may name besides the task's own.

    Raises:
        BadInput: The model, the tokenizer or the parameters do not fit the task.
    """
    objective = _objective(task, params.get("loss", {}), loss_terms)
    loss = " + ".join(f"{weight:g} {name}" for name, weight in objective.active.items())
    stated = {**facts, "task": task.name, "loss": loss}
    if task.name == "causal-lm":
        from atlas_huggingface.causal_lm import CausalLM

        return CausalLM(module, tokenizer, objective, stated)
    if task.name == "masked-lm":
        from atlas_huggingface.masked_lm import MaskedLM, Masking

        masking = Masking(params.get("mask_rate", 0.15), params.get("mask_seed", 0))
        return MaskedLM(module, tokenizer, masking, objective, stated)
    from atlas_huggingface.classifier import Classifier

    if not params.get("label"):
        raise BadInput(
            "a sequence classifier needs labels, and the target names none",
            where="targets",
            fix="set `label` to the stimulus attribute that holds each item's label",
        )
    return Classifier(module, tokenizer, params["label"], objective, stated)


def _objective(task: Task, weights: Mapping[str, float], others: Mapping[str, LossTerm]) -> Objective:
    known = {**others, **{term.name: term for term in task.terms}}
    named = [known[name] for name in weights if name in known]
    for term in named:
        if term.slot != task.name:
            raise BadInput(
                f"the loss term {term.name!r} reads {term.slot!r}, and the target's task is {task.name!r}",
                where=f"loss.{term.name}",
                fix=f"choose a term of slot {task.name!r}",
            )
    return Objective(named or task.terms, weights)
