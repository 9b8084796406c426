"""How likely a model is to go on with each of a few answers, read from its next-token logits.

The rule. Prompt and answer are encoded together, once for each answer, as the model's tokenizer does it. The
first token at which these encodings differ decides: the logits at the position before it, which all answers
share, give each answer's probability of being begun. All answers must differ there. Nothing is sampled,
and the model is run once for a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from atlas.contracts import OutputTarget, StimulusItem
from atlas.errors import InstrumentFailed

if TYPE_CHECKING:
    from atlas.contracts import Batch

__all__ = ["Question", "Reading", "read_answers_of"]


@frozen
class Question:
    """A prompt and the answers that may follow it, at least two, each as it is written after the prompt."""

    id: str
    prompt: str
    answers: tuple[str, ...]


@frozen
class Reading:
    """What a model makes of a question.

    Attributes:
        probabilities: Of each answer, in the question's order; they need not sum to 1.
    """

    probabilities: tuple[float, ...]

    @property
    def mass(self) -> float:
        """What all answers have together; the rest goes to tokens that begin none of them."""
        return sum(self.probabilities)

    def expect(self, points: Sequence[float]) -> float:
        """Return the mean of the answers' points, weighted by their probabilities made to sum to 1.

        Raises:
            InstrumentFailed: No answer has any probability.
        """
        if self.mass <= 0:
            raise InstrumentFailed(
                "the model gives none of the answers any probability",
                fix="choose another form of answers",
            )
        return sum(p * value for p, value in zip(self.probabilities, points, strict=True)) / self.mass


@frozen
class _Fork:
    """Where the encodings of a question's answers part.

    Attributes:
        question: Index of the question.
        length: Tokens of the encoding that is run.
        position: First position at which they differ.
        tokens: The token of each answer there.
    """

    question: int
    length: int
    position: int
    tokens: tuple[int, ...]


def read_answers_of(
    target: OutputTarget,
    questions: Sequence[Question],
    *,
    batch_size: int,
    report: Callable[[int], None] = lambda done: None,
) -> tuple[Reading, ...]:
    """Read every question's answers, in the questions' order.

    Args:
        target: A causal language model.
        questions: What to ask.
        batch_size: Prompts in one forward pass.
        report: Called with the number of questions that are read.

    Raises:
        BadInput: A prompt is longer than the model reads.
        InstrumentFailed: Two answers begin with the same token, or a logit is not finite.
    """
    forks = sorted(_forks(target, questions, batch_size), key=lambda fork: fork.length)
    readings: dict[int, Reading] = {}
    for start in range(0, len(forks), batch_size):
        part = forks[start : start + batch_size]
        items = [_item(questions[fork.question], 0) for fork in part]
        for batch in target.batches(items, batch_size=batch_size, max_tokens=None):
            found = _read(target, batch, part[len(readings) - start :])
            readings |= found
        report(len(readings))
    return tuple(readings[number] for number in range(len(questions)))


def _item(question: Question, answer: int) -> StimulusItem:
    return StimulusItem(question.id, question.prompt + question.answers[answer])


def _forks(target: OutputTarget, questions: Sequence[Question], batch_size: int) -> Iterator[_Fork]:
    items = [_item(q, n) for q in questions for n in range(len(q.answers))]
    rows = _rows(target.batches(items, batch_size=max(batch_size, 64), max_tokens=None))
    for number, question in enumerate(questions):
        encoded = [next(rows) for _ in question.answers]
        shortest = min(len(row) for row in encoded)
        position = next((p for p in range(shortest) if len({row[p] for row in encoded}) > 1), shortest)
        tokens = tuple(row[position] for row in encoded) if position < shortest else ()
        if position == 0 or len(set(tokens)) < len(encoded):
            listed = ", ".join(repr(answer) for answer in question.answers)
            raise InstrumentFailed(
                f"the tokenizer does not tell the answers {listed} apart by one token",
                where=question.id,
                fix="choose another form of answers",
            )
        yield _Fork(number, len(encoded[0]), position, tokens)


def _rows(batches: Sequence[Batch]) -> Iterator[list[int]]:
    for batch in batches:
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
        for row, kept in zip(ids.tolist(), mask.tolist(), strict=True):
            yield [token for token, keep in zip(row, kept, strict=True) if keep]


def _read(target: OutputTarget, batch: Batch, forks: Sequence[_Fork]) -> dict[int, Reading]:
    import torch

    rows = batch.inputs["input_ids"].shape[0]
    with torch.no_grad():
        logits = target.outputs(batch)
    result = {}
    for row, fork in zip(range(rows), forks, strict=False):
        # outputs[b, t] are the logits of the token at t + 1.
        chosen: Any = logits[row, fork.position - 1].double().log_softmax(dim=-1).exp()
        probabilities = tuple(float(chosen[token]) for token in fork.tokens)
        if not all(0 <= p <= 1 for p in probabilities):
            raise InstrumentFailed("the model's logits are not finite", where=f"question {fork.question + 1}")
        result[fork.question] = Reading(probabilities)
    return result
