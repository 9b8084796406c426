"""The instrument `synthesis`: one package before one model, once."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone

from atlas.contracts import AwaitAnswer, StepContext, SynthesisAdapter
from atlas_synthesis.answer import read_answer
from atlas_synthesis.package import gather, listing_of, token_estimate, upload

__all__ = ["synthesis"]


def synthesis(context: StepContext) -> None:
    """Build the package, submit it through the adapter that the parameters name, and keep the answer.

    Facts: `protocol`, `adapter`, `package.digest`, `package.listing`, `package.left_out`, size, words and
    estimated tokens of the upload and of the answer, `answered_at`, and the adapter's own under `adapter.`.

    Raises:
        BadInput: The step sees what a synthesis may not, or the answer is none.
    """
    own = f"answers/{context.step}.md"
    package, left = gather({path: copy for path, copy in context.inputs.items() if path != own})
    uploaded = upload(package)
    name = context.params["adapter"]
    adapter: SynthesisAdapter = context.load("synthesis_adapters", name)
    context.progress("synthesis", tokens=float(token_estimate(uploaded.decode("utf-8"))))
    brought = context.inputs[own].read_bytes() if own in context.inputs else None
    outcome = adapter.submit(package, context.params["options"], brought)
    if isinstance(outcome, AwaitAnswer):
        context.await_human(outcome)
        return
    text = read_answer(outcome.text.encode("utf-8"), uploaded=uploaded)
    context.attach("answer.md", text.encode("utf-8"))
    context.attach("package.md", uploaded)
    facts = {
        "protocol": context.params["protocol"],
        "adapter": name,
        "package.digest": package.digest,
        "package.listing": listing_of(package.files).decode("utf-8"),
        "package.left_out": " ".join(left),
        "upload.sha256": hashlib.sha256(uploaded).hexdigest(),
        "answered_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **_sizes("upload", uploaded),
        **_sizes("answer", text.encode("utf-8")),
        **{f"adapter.{key}": value for key, value in outcome.facts.items()},
    }
    for key, value in facts.items():
        context.fact(key, value)


def _sizes(what: str, data: bytes) -> dict[str, str]:
    text = data.decode("utf-8")
    return {
        f"{what}.bytes": str(len(data)),
        f"{what}.words": str(len(text.split())),
        f"{what}.tokens_estimated": str(token_estimate(text)),
    }
