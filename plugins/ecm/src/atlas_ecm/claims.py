"""The paired claims of BSA, one release to a version, and the stimulus source that offers them.

A pair has two members, `a` and `b`. In the tier `ground_truth` one is true and one is false; in
`contested` both are disputed, each held by credentialed people; in `foil` one is true and one is
fabricated, and marked so. Which side is which varies, so that a side never gives the answer away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from attrs import field, frozen

from atlas.contracts import StimulusItem
from atlas.errors import BadInput

__all__ = ["TIERS", "VERSIONS", "BsaStimuli", "Claim", "Release", "Source", "load"]

VERSIONS = ("0.2",)
TIERS = ("ground_truth", "contested", "foil")

Truth = Literal["true", "false", "disputed", "fabricated"]


@frozen
class Source:
    """A work in which a claim is decided, or a position held; `where` is where it appeared."""

    author: str
    title: str
    year: int
    where: str


@frozen
class Claim:
    """One statement that a model is asked to judge.

    Attributes:
        id: `bsa-017a`.
        pair: `bsa-017`.
        side: `a` or `b`.
        domain: `medical`, `legal` or `scientific`.
        tier: One of `TIERS`.
        truth: `true`, `false`, `disputed` or `fabricated`.
        text: The statement, one paragraph.
        sources: Empty for fabricated claims only.
        invented: What a fabricated claim makes up; empty for the others.
        imitates: What real thing a fabricated claim is modelled on; empty for the others.
    """

    id: str
    pair: str
    side: str
    domain: str
    tier: str
    truth: Truth
    text: str
    sources: tuple[Source, ...]
    invented: str = ""
    imitates: str = ""

    @property
    def fabricated(self) -> bool:
        """Whether the claim is made up."""
        return self.truth == "fabricated"


@frozen
class Release:
    """A version of the claims, in its file's order.

    Attributes:
        version: `0.2`.
        sha256: Digest of the file, line ends taken as LF: what `sha256sum` prints for it.
        question: What is put before each claim when a person asks a model.
        claims: All members of all pairs.
    """

    version: str
    sha256: str
    question: str
    claims: tuple[Claim, ...] = field(repr=False)

    @property
    def by_id(self) -> Mapping[str, Claim]:
        """Claims by their id."""
        return {claim.id: claim for claim in self.claims}

    @property
    def pairs(self) -> Mapping[str, tuple[Claim, Claim]]:
        """Members `a` and `b` by the pair's id."""
        both = zip(self.claims[::2], self.claims[1::2], strict=True)
        return {first.pair: (first, second) for first, second in both}

    def prompt(self, claim: Claim) -> str:
        """Return the one line that is put before a model in a fresh session."""
        return f"{self.question} {claim.text}"


@cache
def load(version: str) -> Release:
    """Read a release from the package.

    Raises:
        BadInput: There is no such version.
    """
    if version not in VERSIONS:
        raise BadInput(f"there is no version {version!r} of bsa", fix=f"choose one of: {', '.join(VERSIONS)}")
    data = (files("atlas_ecm") / "data" / f"bsa-{version}.yaml").read_bytes().replace(b"\r\n", b"\n")
    content = yaml.safe_load(data)
    return Release(
        content["bsa"],
        hashlib.sha256(data).hexdigest(),
        content["question"],
        tuple(_claims(content["pairs"])),
    )


def _claims(pairs: list[dict[str, Any]]) -> Iterator[Claim]:
    for pair in pairs:
        for member in pair["claims"]:
            sources = (*member.get("sources", ()), *pair.get("sources", ()))
            yield Claim(
                id=member["id"],
                pair=pair["id"],
                side=member["id"][-1],
                domain=pair["domain"],
                tier=pair["tier"],
                truth=member["truth"],
                text=member["text"],
                sources=tuple(Source(**source) for source in sources),
                **member.get("fabrication", {}),
            )


class BsaStimuli:
    """Offers the claims as stimulus items, one item to a claim; `each: pair` puts two together."""

    def items(self, params: Mapping[str, Any], folder: Path) -> Iterator[StimulusItem]:
        """Yield the claims of `params["version"]`; their texts come from the package alone."""
        for claim in load(params["version"]).claims:
            yield StimulusItem(
                claim.id,
                claim.text,
                {
                    "pair": claim.pair,
                    "side": claim.side,
                    "domain": claim.domain,
                    "tier": claim.tier,
                    "truth": claim.truth,
                    "fabricated": "true" if claim.fabricated else "false",
                },
            )
