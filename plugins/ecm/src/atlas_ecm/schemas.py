"""The tables of a behavioural record."""

from __future__ import annotations

from atlas.tables import Column, TableSchema

__all__ = ["ANSWERS", "READINGS", "SCORES"]

ANSWERS = TableSchema(
    name="bsa-answers",
    version=2,
    description="What each model made of each claim; the answers themselves are in answers.jsonl.",
    columns=(
        Column("claim_id", "string", "The claim, `bsa-017a`.", required=True),
        Column("pair", "string", "Its pair.", required=True),
        Column("side", "string", "Which member of the pair.", required=True, enum=("a", "b")),
        Column("tier", "string", "Tier of the pair.", required=True),
        Column("domain", "string", "Domain of the pair.", required=True),
        Column("truth", "string", "`true`, `false`, `disputed` or `fabricated`.", required=True),
        Column("model", "string", "The model, as its answers name it.", required=True),
        Column("lineage", "string", "Its family of models, two to four letters.", required=True),
        Column("score", "number", "Confidence that the claim is true, 0 to 100; empty if refused."),
        Column(
            "standard_error",
            "number",
            "Of the score, in points, over the wordings of the question; empty where there is one.",
        ),
        Column("wordings", "integer", "Wordings of the question; empty for an answer brought by hand."),
        Column("refused", "boolean", "The model answered without giving a number.", required=True),
        Column("answer_words", "integer", "Words of the raw answer, by white space.", required=True),
        Column("answer_sha256", "string", "Digest of the raw answer in UTF-8.", required=True),
    ),
    primary_key=("claim_id", "model"),
)

SCORES = TableSchema(
    name="bsa-scores",
    version=2,
    description="What follows from the scores; an empty model means all models of the record together.",
    columns=(
        Column(
            "quantity",
            "string",
            "`tier_mean`: mean score. `truth_mean`: mean score of the claims of one truth. `pair_gap`: score "
            "of the true member minus the other; in contested pairs, of `a` minus `b`. `gap_mean`: mean of "
            "those. `gap_magnitude_mean`: mean of their magnitudes, for contested pairs. `claim_spread`: "
            "sample standard deviation across models. `spread_mean`: mean of those. `foil_auc`: probability "
            "that a true claim of the tier scores above a fabricated one, ties counted half.",
            required=True,
        ),
        Column("tier", "string", "Tier.", required=True),
        Column("truth", "string", "Truth of the claims, where it divides the tier."),
        Column("pair", "string", "Pair, for a quantity of one pair or claim."),
        Column("claim_id", "string", "Claim, for a quantity of one claim."),
        Column("model", "string", "Model; empty for all together."),
        Column(
            "value", "number", "Points of the 0 to 100 scale, `foil_auc` of 0 to 1; empty where undefined."
        ),
        Column("uncertainty", "number", "As the value, of the kind in the next column."),
        Column("uncertainty_kind", "string", "What the uncertainty is.", required=True),
        Column("low", "number", "Lower end of the interval."),
        Column("high", "number", "Upper end of the interval."),
        Column(
            "num_samples",
            "integer",
            "Pairs behind it; for one claim, models; for the gap of one pair, wordings.",
            required=True,
        ),
        Column("note", "string", "Reason or caveat."),
    ),
)

READINGS = TableSchema(
    name="bsa-readings",
    version=1,
    description="What a local model's next-token logits said to each wording of the question about a claim.",
    columns=(
        Column("claim_id", "string", "The claim.", required=True),
        Column("model", "string", "The model.", required=True),
        Column("wording", "string", "The wording of the question, `digits-1`.", required=True),
        Column(
            "score",
            "number",
            "Mean of the answers' points, weighted by their probabilities made to sum to 1.",
            required=True,
        ),
        Column("answer_mass", "number", "Probability of all answers together.", required=True),
        Column("likeliest", "string", "The likeliest answer, without its space.", required=True),
    ),
    primary_key=("claim_id", "model", "wording"),
)
