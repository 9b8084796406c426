"""The tables of the instrument `ecm`; stance and resolution code are a person's and stay blank."""

from __future__ import annotations

from atlas.tables import Column, TableSchema

__all__ = ["FILES", "HELD", "SESSIONS"]

SESSIONS = TableSchema(
    name="ecm-sessions",
    version=3,
    description="One row per session: its size, its padding, its distance from the model's home.",
    columns=(
        Column("session", "string", "The session, `chats/a.txt` or as its file names it.", required=True),
        Column("model", "string", "The model that answered.", required=True),
        Column("item", "string", "The stimulus item that was put, where the file names it."),
        Column("file", "string", "The file it stands in, below the folder of sessions.", required=True),
        Column("line", "integer", "The line where it begins.", required=True),
        Column("home", "boolean", "The session is one of the model's baseline.", required=True),
        Column("tokens_in", "integer", "Tokens of everything put before the model.", required=True),
        Column("tokens_out", "integer", "Tokens of everything it answered.", required=True),
        Column("words_in", "integer", "Words of everything put before it, by white space.", required=True),
        Column("words_out", "integer", "Words of everything it answered, by white space.", required=True),
        Column("token_ratio", "number", "R: `tokens_out` divided by `tokens_in`."),
        Column("preamble_words", "integer", "P: words of `preamble`, by white space."),
        Column("preamble", "string", "The beginning of the first answer that the rule takes for padding."),
        Column("preamble_parts", "string", "What each clause of it is by the rule, in order."),
        Column("economy", "string", "Side of the declared boundary of R.", enum=("Surgical", "Verbose")),
        Column("home_shift", "number", "log2 of R over the model's home R; empty without a home."),
        Column(
            "economy_migration",
            "string",
            "Whether R lies outside the range of the baseline, and on which side; empty within it.",
            enum=("none", "Surgical", "Verbose"),
        ),
        Column(
            "missing",
            "string",
            "What the session lacks; it then has no R, and P only where there is an answer.",
            enum=("question", "answer", "question and answer"),
        ),
        Column(
            "left_out", "integer", "Parts of the session that are not text, such as images.", required=True
        ),
        Column(
            "stance",
            "string",
            "Epistemic stance, by the Technician.",
            enum=("Compliant", "Combative"),
            judgement=True,
        ),
        Column(
            "resolution_code",
            "string",
            "How the tension was resolved, by the Technician.",
            enum=("FLAT", "HOLD", "LOCK", "REJT"),
            judgement=True,
        ),
    ),
    primary_key=("session",),
)

FILES = TableSchema(
    name="ecm-files",
    version=1,
    description="Every file of the folder of sessions, with the bytes in it that are not text.",
    columns=(
        Column("file", "string", "Path below the folder.", required=True),
        Column(
            "status",
            "string",
            "`read`; `not text`: it holds NUL bytes; `not read`: its name's end is none that is read.",
            required=True,
            enum=("read", "not text", "not read"),
        ),
        Column("sessions", "integer", "Sessions read from it.", required=True),
        Column("bytes", "integer", "Its size.", required=True),
        Column("sha256", "string", "Digest of its bytes.", required=True),
        Column("not_text_bytes", "integer", "Bytes in it that are no UTF-8; all of a file not read as text."),
        Column("not_text_runs", "integer", "Unbroken runs of such bytes."),
        Column("not_text_sha256", "string", "Digest of those bytes, one after another."),
        Column("not_text_line", "integer", "Line of the first of them."),
    ),
    primary_key=("file",),
)

HELD = TableSchema(
    name="ecm-held",
    version=1,
    description="One row per session held with a local model: how it went; its texts are in held.jsonl.",
    columns=(
        Column("session", "string", "The session.", required=True),
        Column("item", "string", "The stimulus item that was put.", required=True),
        Column("seed", "string", "Seed of its draws; empty where the likeliest token was taken."),
        Column("ended", "boolean", "The model ended by itself, and was not cut.", required=True),
        Column("tokens", "integer", "Tokens that it wrote, the end token among them.", required=True),
        Column("prompt_sha256", "string", "Digest of the prompt, in UTF-8.", required=True),
        Column("output_sha256", "string", "Digest of the answer, in UTF-8.", required=True),
    ),
    primary_key=("session",),
)
