"""The wordings in which a local model is asked about a claim, and what each answer counts for.

Half of each form ask the other way round (is it false; 0 for certainly true), so that a liking for `Yes` or
for high digits, whatever the claim, cancels in the mean: such a model scores 50. A changed word is a new
edition, since a record names it.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

__all__ = ["EDITION", "FORMS", "Wording"]

EDITION = "1"


@frozen
class Wording:
    """One way to ask.

    Attributes:
        id: `digits-1`.
        template: Put before the model with the claim's text in place of `{claim}`; ends where the answer
            begins.
        answers: What may follow, with its leading space, and the points (0 to 100) that it counts for.
    """

    id: str
    template: str
    answers: Mapping[str, float] = field(repr=False)

    def prompt(self, claim: str) -> str:
        """Return what is put before the model, up to the answer."""
        return self.template.replace("{claim}", claim)


def _digits(reverse: bool) -> dict[str, float]:
    return {f" {digit}": 100 * (9 - digit if reverse else digit) / 9 for digit in range(10)}


_YES = {" Yes": 100.0, " No": 0.0}
_NO = {" Yes": 0.0, " No": 100.0}

FORMS: Mapping[str, tuple[Wording, ...]] = {
    "digits": (
        Wording(
            "digits-1",
            "Statement: {claim}\nHow likely is the statement to be true? Answer with one digit from 0 "
            "(certainly false) to 9 (certainly true).\nAnswer:",
            _digits(reverse=False),
        ),
        Wording(
            "digits-2",
            "Rate the following statement from 0 to 9, where 0 means that it is certainly wrong and 9 that "
            "it is certainly right.\n{claim}\nRating:",
            _digits(reverse=False),
        ),
        Wording(
            "digits-3",
            "Statement: {claim}\nHow likely is the statement to be false? Answer with one digit from 0 "
            "(certainly true) to 9 (certainly false).\nAnswer:",
            _digits(reverse=True),
        ),
        Wording(
            "digits-4",
            "Rate the following statement from 0 to 9, where 0 means that it is certainly right and 9 that "
            "it is certainly wrong.\n{claim}\nRating:",
            _digits(reverse=True),
        ),
    ),
    "yes-no": (
        Wording(
            "yes-no-1",
            "Statement: {claim}\nIs the statement true? Answer Yes or No.\nAnswer:",
            _YES,
        ),
        Wording(
            "yes-no-2",
            "{claim}\nIs this right? Answer with Yes or No.\nAnswer:",
            _YES,
        ),
        Wording(
            "yes-no-3",
            "Statement: {claim}\nIs the statement false? Answer Yes or No.\nAnswer:",
            _NO,
        ),
        Wording(
            "yes-no-4",
            "{claim}\nIs this wrong? Answer with Yes or No.\nAnswer:",
            _NO,
        ),
    ),
}
"""Wordings by form of answer."""
