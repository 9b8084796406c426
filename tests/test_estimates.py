"""`atlas plan` asks instruments what a step will take, and stands whatever they answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atlas.testing import Atlas

CARD = """\
api: 1
summary: Foretells.
provides:
  instruments:
    oracle:
      summary: Foretells.
      code: ORC
      estimate: "atlas_oracle.foretelling:{name}"
      params: {{type: object, properties: {{draws: {{type: integer, default: 4}}}}}}
      needs: {{stimulus: true}}
"""
CODE = """\
def lines(prospect):
    keys = [part.key for part in prospect.slices]
    draws, tokens = prospect.params['draws'], prospect.max_tokens
    yield f"{draws} draws on {keys} of {tokens} tokens with {prospect.threads}"
    yield f"target {prospect.outline}"

def failing(prospect):
    raise RuntimeError("the stars\\nare hidden")
"""
MANIFEST = """\
atlas: 1
name: small
lineage: SML
seed: 3
governance: none
stimulus: {use: text, texts: [one, two], max_tokens: 8}
steps:
  - {id: first, use: oracle, params: {draws: 9}}
"""


@pytest.fixture
def atlas(tmp_path: Path) -> Atlas:
    return Atlas(tmp_path, {"PYTHONPATH": str(tmp_path / "site")})


def install(folder: Path, name: str) -> None:
    info = folder / "site" / "atlas_oracle-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: atlas-oracle\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[atlas.plugins]\noracle = atlas_oracle.plugin\n")
    package = folder / "site" / "atlas_oracle"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "atlas-plugin.yaml").write_text(CARD.format(name=name))
    (package / "foretelling.py").write_text(CODE)
    (folder / "m.yaml").write_text(MANIFEST)


def test_a_plan_shows_what_an_instrument_expects(atlas: Atlas, tmp_path: Path) -> None:
    install(tmp_path, "lines")

    outcome = atlas("plan", "m.yaml")

    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-3:] == [
        "first expects",
        "  9 draws on ['all'] of 8 tokens with 1",
        "  target None",
    ]


@pytest.mark.parametrize(
    ("name", "said"), [("failing", "RuntimeError: the stars are hidden"), ("absent", "AttributeError")]
)
def test_an_estimate_that_fails_is_said_and_breaks_no_plan(
    atlas: Atlas, tmp_path: Path, name: str, said: str
) -> None:
    install(tmp_path, name)

    outcome = atlas("plan", "m.yaml")

    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("step  first")
    assert f"no estimate: {said}" in outcome.out


def test_without_estimates_no_plugin_is_asked(atlas: Atlas, tmp_path: Path) -> None:
    install(tmp_path, "lines")
    (tmp_path / "site" / "atlas_oracle" / "foretelling.py").write_text("raise SystemExit('imported')\n")

    outcome = atlas("plan", "m.yaml", "--no-estimates")

    assert (outcome.code, len(outcome.out.splitlines())) == (0, 1), os.linesep.join(
        [outcome.out, outcome.err]
    )
