"""From a filled workbook to sealed answers: which gates it answers, in what order, and what is missing."""

from __future__ import annotations

import tempfile
from pathlib import Path

from attrs import frozen

from atlas.contracts import Workspace
from atlas.errors import BadInput
from atlas.governance import Gate, stage_reached
from atlas.judgements import seal_judgements
from atlas_cisp.gates import GATES, ITEMS, SANITISATION
from atlas_cisp.workbook.codes import given_codes
from atlas_cisp.workbook.layout import OPERATOR, PREDICTION
from atlas_cisp.workbook.read import Filled, number

__all__ = ["Outcome", "answer_of", "seal_answers", "seal_codes"]


@frozen
class Outcome:
    """What an import did.

    Attributes:
        sealed: Gates whose answers were sealed now.
        missing: What keeps the gate whose turn it is open; empty if no gate is left for a workbook now.
        early: Gates that are filled in although the run has not come to them.
    """

    sealed: tuple[str, ...]
    missing: tuple[str, ...]
    early: tuple[str, ...]


def answer_of(gate: Gate, filled: Filled) -> tuple[str, tuple[str, ...]]:
    """Return a gate's answer as a text, and what it still lacks.

    Raises:
        BadInput: The predicted number is none.
    """
    if gate.id == SANITISATION:
        open_items = [item for item in ITEMS if not filled.ticked.get(f"san_item_{item[1:]}", False)]
        text = "".join(f"- [{' ' if i in open_items else 'x'}] {i}. {words}\n" for i, words in ITEMS.items())
        return f"# {gate.title}\n\n{text}", tuple(
            f"{gate.title}: line {item} is not ticked" for item in open_items
        )
    text = filled.texts.get(gate.id.replace("-", "_"), "")
    if not text:
        return "", (f"{gate.title}: your text",)
    predicted = filled.texts.get(PREDICTION, "") if gate.id == "read-0" else ""
    if predicted:
        text += f"\n\nPredicted number: {predicted} (read as {number(predicted, f'field {PREDICTION}')!r})"
    return text + "\n", ()


def seal_answers(
    workspace: Workspace, run: str, filled: Filled, *, author: str | None, override: str | None
) -> Outcome:
    """Answer, in their order, the gates whose turn it is and that the workbook answers completely.

    Args:
        workspace: Holds the run.
        run: Id or path.
        filled: What was read back.
        author: Who signs; the workbook's operator if None.
        override: A signed reason to pass problems that may be overridden.

    Raises:
        BadInput: The policy refuses a text. What was sealed before it stays sealed.
    """
    signer = _signer(filled, author)
    sealed: list[str] = []
    for gate in GATES:
        view = workspace.view(run)
        state = view.gates.get(gate.id)
        if state is not None and state.passed:
            continue
        text, missing = answer_of(gate, filled)
        waiting = view.waiting_for
        turn = gate.stage == stage_reached(view.stages_done) and (waiting is None or waiting.id == gate.id)
        if not turn:
            return Outcome(tuple(sealed), (), _filled_after(gate, filled))
        if missing:
            return Outcome(tuple(sealed), missing, ())
        with tempfile.TemporaryDirectory() as folder:
            evidence = Path(folder) / f"{view.run_id}.xlsx"
            evidence.write_bytes(filled.content)
            workspace.answer(
                run, gate.id, text, author=signer, via="workbook", evidence=evidence, override=override
            )
        sealed.append(gate.id)
    return Outcome(tuple(sealed), (), ())


def _signer(filled: Filled, author: str | None) -> str:
    signer = (author or filled.texts.get(OPERATOR, "")).strip()
    if not signer:
        raise BadInput(
            "the workbook names no operator", where="sheet 'Run Metadata'", fix='or add --by "Your Name"'
        )
    return signer


def seal_codes(
    workspace: Workspace, run: str, filled: Filled, *, coder: str | None, amend: bool
) -> tuple[str, ...]:
    """Seal the codes that a person gave in the workbook, the workbook beside them; return the files' paths.

    Args:
        workspace: Holds the run.
        run: Id or path.
        filled: What was read back.
        coder: Who gave them; the workbook's operator if None.
        amend: Accept another code than this coder gave before; both stay.

    Raises:
        BadInput: A code is none, or differs from an earlier one and `amend` is not given.
    """
    sealed = []
    for table, given in given_codes(workspace.view(run), filled.texts):
        path = seal_judgements(
            workspace, run, table, _signer(filled, coder), given, via="workbook", amend=amend
        )
        if path is not None:
            workspace.attach(run, f"evidence/{Path(path).stem}.xlsx", filled.content, role="evidence")
            sealed.append(path)
    return tuple(sealed)


def _filled_after(gate: Gate, filled: Filled) -> tuple[str, ...]:
    later = GATES[GATES.index(gate) :]
    return tuple(g.id for g in later if g.id != SANITISATION and filled.texts.get(g.id.replace("-", "_")))
