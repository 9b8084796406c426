"""The instrument `synthesis`: one package before one model, once, in one role of the chain."""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, timezone
from pathlib import Path

from attrs import frozen

from atlas.contracts import AwaitAnswer, StepContext, SynthesisAdapter
from atlas.errors import InstrumentFailed
from atlas_synthesis.answer import read_answer
from atlas_synthesis.package import listing_of, token_estimate
from atlas_synthesis.roles import gather

__all__ = ["BEGUN", "synthesis"]

BEGUN = "output-begun"
"""File of `keep` that says that a model's output to this package has begun."""


@frozen
class Meeting:
    """Implements `atlas.contracts.Interaction` for one attempt at one step."""

    context: StepContext
    brought: bytes | None

    def note(self, name: str, detail: str) -> None:
        """Journal at once what happens."""
        self.context.check(name, True, detail)

    def begun(self, detail: str) -> None:
        """Journal that output has begun, and keep it from being asked for twice."""
        marker = self.context.keep / BEGUN
        with marker.open("w", encoding="utf-8") as file:
            file.write(f"{datetime.now(timezone.utc).isoformat(timespec='seconds')}, {detail}")
            file.flush()
            os.fsync(file.fileno())
        self.context.check("output begun", True, detail)


def synthesis(context: StepContext) -> None:
    """Build the role's package, submit it through the adapter that the parameters name, and keep the answer.

    Facts: `protocol`, `role`, `adapter`, `package.digest`, `package.listing`, `package.left_out`, size,
    words and estimated tokens of upload and answer, `answered_at`, and the adapter's own under `adapter.`.

    Raises:
        BadInput: The step sees what its role may not, or the answer is none.
        InstrumentFailed: A model has begun to answer this package before, in an attempt that failed.
    """
    own = f"answers/{context.step}.md"
    seen: dict[str, Path] = {path: copy for path, copy in context.inputs.items() if path != own}
    role = context.params["role"]
    package, left = gather(role, seen)
    _refuse_second_upload(context)
    name = context.params["adapter"]
    adapter: SynthesisAdapter = context.load("synthesis_adapters", name)
    context.progress(role, tokens=float(token_estimate(package.upload.decode("utf-8"))))
    brought = context.inputs[own].read_bytes() if own in context.inputs else None
    outcome = adapter.submit(package, context.params["options"], Meeting(context, brought))
    if isinstance(outcome, AwaitAnswer):
        context.await_human(outcome)
        return
    text = read_answer(outcome.text.encode("utf-8"), uploaded=package.upload)
    context.attach("answer.md", text.encode("utf-8"))
    context.attach("package.md", package.upload)
    for file, data in outcome.files.items():
        context.attach(file, data)
    facts = {
        "protocol": context.params["protocol"],
        "role": role,
        "adapter": name,
        "package.digest": package.digest,
        "package.listing": listing_of(package.files).decode("utf-8"),
        "package.left_out": " ".join(left),
        "upload.sha256": hashlib.sha256(package.upload).hexdigest(),
        "answered_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **_sizes("upload", package.upload),
        **_sizes("answer", text.encode("utf-8")),
        **{f"adapter.{key}": value for key, value in outcome.facts.items()},
    }
    for key, value in facts.items():
        context.fact(key, value)


def _refuse_second_upload(context: StepContext) -> None:
    marker = context.keep / BEGUN
    if marker.is_file():
        raise InstrumentFailed(
            f"a model began to answer this package already ({marker.read_text(encoding='utf-8')}), and that "
            "answer was lost or is none",
            fix='atlas skip RUN STEP --reason "...": one upload, one answer',
        )


def _sizes(what: str, data: bytes) -> dict[str, str]:
    text = data.decode("utf-8")
    return {
        f"{what}.bytes": str(len(data)),
        f"{what}.words": str(len(text.split())),
        f"{what}.tokens_estimated": str(token_estimate(text)),
    }
