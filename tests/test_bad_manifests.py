"""Every mistake in a manifest is reported at its line and column, with what to write instead."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from attrs import evolve

from atlas.catalog import Card, Catalog, parse_card
from atlas.errors import BadInput
from atlas.manifest import resolve
from atlas.registry import Entry, Registry

CARD = b"""
api: 1
summary: A plugin for tests.
provides:
  instruments:
    spectrometer:
      summary: Measures a target.
      code: SPC
      phase: measure
      quantities: [lambda_max, trace]
      outputs: {spectrum: spectrum/1}
      needs: {target: true, stimulus: true, memory_gb: 8}
      params:
        type: object
        additionalProperties: false
        properties:
          top_k: {type: integer, minimum: 1, default: 5}
          tolerance: {type: number, exclusiveMinimum: 0, default: 0.001}
          engine: {enum: [lanczos, library], default: lanczos}
          keep: {type: boolean, default: true}
          label: {type: string, default: none}
          layers: {type: array, items: {type: string}, default: []}
          trace:
            default: {}
            anyOf:
              - {const: false}
              - type: object
                additionalProperties: false
                properties: {rel_se: {type: number, default: 0.05}}
          grid: {type: string, x-atlas-path: inside}
    reader:
      summary: Interprets raw output.
      phase: interpret
      params:
        type: object
        additionalProperties: false
        required: [adapter]
        properties: {adapter: {type: string, x-atlas-kind: synthesis_adapters}}
    counter: {summary: Counts., phase: measure}
    sequel: {summary: Goes on., phase: measure, needs: {steps: [counter]}}
  synthesis_adapters:
    by_hand: {summary: A person carries the package.}
    server: {summary: A server answers., needs: {network: true}}
  targets:
    hf:
      summary: A checkpoint.
      params:
        type: object
        additionalProperties: false
        oneOf: [{required: [path]}, {required: [id]}]
        properties:
          path: {type: string, x-atlas-path: anywhere}
          id: {type: string}
          revision: {type: string}
        dependentRequired: {id: [revision]}
  stimuli:
    claims:
      summary: Pairs of claims.
      attributes: {pair: which pair, tier: which tier}
      params:
        type: object
        additionalProperties: false
        properties: {path: {type: string, x-atlas-path: inside}, texts: {type: array, items: {type: string}}}
  governance:
    protocol:
      summary: A protocol.
      versions: ["1.0", "1.1"]
      params:
        type: object
        additionalProperties: false
        properties: {operator: {type: string}}
"""

BASE = """\
atlas: 1
name: study
lineage: SML
seed: 7
governance: none
targets:
  lm: {use: hf, path: ./model}
stimulus: {use: claims, where: {tier: [contested, foil]}, each: pair}
declare:
  - {id: h1, quantity: first.lambda_max, group: {tier: contested}, against: {tier: foil}, expect: less}
steps:
  - id: first
    use: spectrometer
    target: lm
    params: {top_k: 3}
  - id: last
    use: reader
    params: {adapter: by_hand}
    sees: [{from: first.raw}]
"""

CATALOG = Catalog(
    (
        parse_card(CARD, plugin="tests", module="tests_plugin", distribution="atlas-tests", version="1.2"),
        Card("broken", "broken.plugin", "atlas-broken", "0.1", fault="its package cannot be found"),
    )
)
ADMITTED = Entry("tests", "atlas-tests", ">=1,<2", CATALOG.cards[0].sha256, "operational", {})
REGISTRY = Registry(
    Path("registry.yaml"),
    {
        "tests": ADMITTED,
        "away": Entry(
            "away", "atlas-away", ">=1", "0" * 64, "operational", {"instruments": ("interferometer",)}
        ),
    },
)

GOVERNED = "governance: {use: protocol}"

# name, what of BASE is replaced, by what, where the mistake is reported, words of its remedy
BAD: list[tuple[str, str, str, str, str]] = [
    # The YAML itself
    ("not YAML", "{top_k: 3}", "{top_k: 3", "16:7", "missing quote, bracket or colon"),
    (
        "indented by a tab",
        "    use: spectrometer",
        "\tuse: spectrometer",
        "13:1",
        "with spaces, not with a tab",
    ),
    ("colon in a text", "name: study", "name: study: one", "2:12", "in quotes"),
    ("key twice", "seed: 7", "seed: 7\nname: again", "5:1", "stands here twice, first at"),
    ("alias", "lineage: SML", "lineage: *name", "3:10", "write the value out"),
    ("anchor", "name: study", "name: &name study", "2:7", "write each value out"),
    ("merge key", "seed: 7", "<<: {seed: 7}", "4:1", "write the keys out"),
    ("tag", "seed: 7", "seed: !!python/object:os.system 7", "4:7", "without a tag"),
    ("key that is a number", "{top_k: 3}", "{3: top_k}", "15:14", '"3": in quotes'),
    ("key that is a list", "{top_k: 3}", "{[a]: 3}", "15:14", "write `name: value`"),
    ("key that YAML reads as false", "{top_k: 3}", "{no: 3}", "15:14", '"no": in quotes'),
    ("hidden character in a key", "{top_k: 3}", '{"top\\u202e_k": 3}', "15:14", "remove it"),
    ("two documents", "atlas: 1", "---\natlas: 1\n---\natlas: 1", "3:1", "one manifest in a file"),
    ("deep nesting", "{top_k: 3}", "{top_k: " + "[" * 40 + "]" * 40 + "}", "15:49", "nest less"),
    ("bell character", "name: study", "name: stu\x07dy", "2:10", "remove it"),
    ("escaped NUL", "name: study", 'name: "stu\\0dy"', "2:7", "remove it"),
    ("right-to-left override", "name: study", 'name: "stu\u202edy"', "2:7", "remove it"),
    ("long name", "name: study", f"name: {'x' * 5000}", "2:7", "shorten it"),
    ("not a mapping", BASE, "- atlas: 1\n", "1:1", "begin with `atlas: 1`"),
    ("empty file", BASE, "", "1:1", "begin with `atlas: 1`"),
    # Scalars that YAML 1.1 misreads
    ("exponent without a dot", "{top_k: 3}", "{tolerance: 1e-3}", "15:25", "write 1.0e-3"),
    ("exponent without a sign", "{top_k: 3}", "{tolerance: 1.5e3}", "15:25", "write 1.5e+3"),
    ("number in quotes", "{top_k: 3}", '{tolerance: "0.5"}', "15:25", "write 0.5"),
    ("no for a text", "{top_k: 3}", "{label: no}", "15:21", 'write "no" in quotes'),
    ("lineage NO", "lineage: SML", "lineage: NO", "3:10", 'write "NO" in quotes'),
    ("sexagesimal", "{top_k: 3}", "{label: 12:30:45}", "15:21", 'write "12:30:45" in quotes'),
    ("octal", "seed: 7", "seed: 0777", "4:7", "write it in decimal"),
    ("not a number", "{top_k: 3}", "{tolerance: .nan}", "15:25", "write a finite number"),
    ("infinity", "{top_k: 3}", "{tolerance: -.inf}", "15:25", "write a finite number"),
    ("float overflow", "{top_k: 3}", "{tolerance: 1.0e+999}", "15:25", "write a smaller number"),
    ("huge integer", "seed: 7", f"seed: {'9' * 400}", "4:7", "write a smaller number"),
    (
        "version as a number",
        "governance: none",
        "governance: {use: protocol, version: 1.1}",
        "5:38",
        '"1.1" in',
    ),
    ("yes in quotes", "{top_k: 3}", '{keep: "yes"}', "15:20", "write true or false"),
    # Keys and types of the format
    ("unknown key", "seed: 7", "sead: 7", "4:1", "did you mean seed?"),
    (
        "unknown key of a step",
        "    target: lm",
        "    target: lm\n    treads: 2",
        "15:5",
        "did you mean threads?",
    ),
    ("format of the future", "atlas: 1", "atlas: 2", "1:8", "write 1"),
    ("no name", "name: study\n", "", "1:1", "add `name: contested-curvature`"),
    ("no steps", BASE[BASE.index("declare:") :], "steps: []\n", "9:8", "give at least 1"),
    ("name with a slash", "name: study", "name: ../study", "2:7", "letters, digits"),
    ("lineage in lower case", "lineage: SML", "lineage: smollm", "3:10", "2 to 4 capital letters"),
    ("negative seed", "seed: 7", "seed: -7", "4:7", "at least 0"),
    ("seed with a fraction", "seed: 7", "seed: 7.0", "4:7", "write 7"),
    ("empty value", "seed: 7", "seed:", "4:6", "expected a whole number"),
    ("threads as a word", "seed: 7", "threads: many", "4:10", "expected a whole number"),
    (
        "isolation that is none",
        "    target: lm",
        "    target: lm\n    isolation: none",
        "15:16",
        "did you mean inline?",
    ),
    ("no time at all", "    target: lm", "    target: lm\n    timeout_s: 0", "15:16", "more than 0"),
    ("params as a list", "{top_k: 3}", "[top_k]", "15:13", "expected a mapping"),
    ("sees as a text", "[{from: first.raw}]", "[first.raw]", "19:12", "write for example {from:"),
    ("governance by a bare name", "governance: none", "governance: protocol", "5:13", "{use: cisp"),
    ("where with a number", "[contested, foil]", "[contested, foil, 3]", "8:57", 'write "3" in quotes'),
    ("hypothesis without a side", ", expect: less", "", "10:5", "add `expect: greater`"),
    ("expectation unknown", "expect: less", "expect: lesser", "10:99", "did you mean less?"),
    ("alpha above a half", "expect: less", "expect: less, alpha: 0.9", "10:112", "at most 0.5"),
    # Names
    ("instrument misspelt", "use: spectrometer", "use: spectrometr", "13:10", "did you mean spectrometer?"),
    (
        "instrument not installed",
        "use: spectrometer",
        "use: interferometer",
        "13:10",
        "pip install atlas-away",
    ),
    ("target kind unknown", "use: hf", "use: hg", "7:13", "the only one is hf"),
    ("source unknown", "use: claims", "use: clams", "8:17", "did you mean claims?"),
    ("policy unknown", "governance: none", "governance: {use: protocl}", "5:19", "did you mean protocol?"),
    ("policy version", "governance: none", 'governance: {use: protocol, version: "1.2"}', "5:38", "1.1"),
    ("adapter unknown", "adapter: by_hand", "adapter: by_hnd", "18:23", "did you mean by_hand?"),
    ("target undefined", "    target: lm", "    target: lmm", "14:13", "did you mean lm?"),
    ("target missing", "    target: lm\n", "", "12:5", "add `target: ...`, one of: lm"),
    (
        "target not taken",
        "  - id: last",
        "  - {id: n, use: counter, target: lm}\n  - id: last",
        "16:27",
        "remove",
    ),
    ("step id twice", "id: last", "id: first", "16:9", "choose another"),
    ("step id reserved", "id: last", "id: read-1", "16:9", "write read-1-step"),
    ("step id with a dot", "id: last", "id: la.st", "16:9", "a lower-case letter"),
    # Parameters
    ("unknown parameter", "top_k: 3", "topk: 3", "15:14", "did you mean top_k?"),
    ("unknown key beside host keys", "each: pair", "each: pair, limt: 2", "8:71", "did you mean limit?"),
    ("parameter out of range", "top_k: 3", "top_k: 0", "15:21", "at least 1"),
    ("choice unknown", "top_k: 3", "engine: lancsoz", "15:22", "did you mean lanczos?"),
    ("mistake inside an alternative", "top_k: 3", "trace: {rel_se: 1e-2}", "15:30", "write 1.0e-2"),
    ("no alternative fits", "top_k: 3", "trace: 7", "15:21", "write one of: false, object"),
    ("parameter missing", "params: {adapter: by_hand}", "params: {}", "18:13", "add `adapter: ...`"),
    ("neither path nor id", ", path: ./model", "", "7:7", "add `path`"),
    ("both path and id", "path: ./model", "path: ./model, id: a/b, revision: c", "7:7", "only one of"),
    ("id without its revision", "path: ./model", "id: a/b", "7:17", "add `revision: ...`"),
    ("network not granted", "adapter: by_hand", "adapter: server", "16:5", "add `network: true`"),
    ("network not used", "    target: lm", "    target: lm\n    network: true", "15:5", "remove `network`"),
    ("stimulus needed", BASE[BASE.index("stimulus") : BASE.index("steps")], "", "10:10", "add `stimulus:"),
    # Paths
    ("no such model", "./model", "./modell", "7:23", "correct the path"),
    ("path that climbs", "use: claims,", "use: claims, path: ../claims.csv,", "8:31", "beside the manifest"),
    ("absolute path", "use: claims,", "use: claims, path: /etc/passwd,", "8:31", "relative path"),
    ("drive letter", "use: claims,", "use: claims, path: 'C:\\x.csv',", "8:31", "relative path"),
    ("symbolic link out", "use: claims,", "use: claims, path: link.csv,", "8:31", "put a copy there"),
    ("reserved file name", "use: claims,", "use: claims, path: nul.csv,", "8:31", "rename the file"),
    ("grid outside", "{top_k: 3}", "{grid: ../../grid}", "15:20", "beside the manifest"),
    # References
    ("step unseen", "first.raw", "frist.raw", "19:19", "did you mean first?"),
    ("table unknown", "first.raw", "first.spectra", "19:19", "did you mean first.spectrum"),
    ("own results", "first.raw", "last.raw", "19:19", "remove the reference"),
    ("answer of a measurement", "first.raw", "first.answer", "19:19", "first.raw"),
    ("Read in an ungoverned run", "first.raw", "read-1", "19:19", "name a policy"),
    ("seed bound to nothing", "seed: 7", "seed_policy: bound", "4:14", "seed_policy: declared"),
    (
        "later stage",
        "  - id: last",
        "  - {id: n, use: counter, sees: [{from: last.answer}]}\n  - id: last",
        "16:41",
        "remove",
    ),
    # Hypotheses
    ("quantity of no step", "first.lambda_max", "frist.lambda_max", "10:24", "did you mean first?"),
    ("quantity unknown", "first.lambda_max", "first.lamda_max", "10:24", "did you mean lambda_max?"),
    ("attribute unknown", "group: {tier: contested}", "group: {teir: contested}", "10:50", "mean tier?"),
    ("group left out", "[contested, foil]", "[foil]", "10:56", "compare one of"),
    ("same on both sides", "against: {tier: foil}", "against: {tier: contested}", "10:77", "other slices"),
    ("nothing divided", ", each: pair", "", "10:5", "add `each: ...`"),
    ("division unknown", "each: pair", "each: pear", "8:65", "did you mean pair?"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "project" / "model").mkdir(parents=True)
    (tmp_path / "secret.csv").write_text("x")
    (tmp_path / "project" / "link.csv").symlink_to(tmp_path / "secret.csv")
    return tmp_path / "project"


def complaints(path: Path) -> list[str]:
    with pytest.raises(BadInput) as caught:
        resolve(path, catalog=CATALOG, registry=REGISTRY)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("old", "new", "place", "remedy"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_a_mistake_is_reported_once_at_its_place_with_its_remedy(
    folder: Path, old: str, new: str, place: str, remedy: str
) -> None:
    assert BASE.count(old) == 1, "the row must change one place"
    path = folder / "manifest.yaml"
    path.write_bytes(BASE.replace(old, new).encode("utf-8"))
    before = sorted(folder.rglob("*"))
    started = time.perf_counter()

    lines = complaints(path)

    assert [line.removeprefix(f"{path}:").split(": ")[0] for line in lines] == [place]
    assert remedy in lines[0]
    assert sorted(folder.rglob("*")) == before
    assert time.perf_counter() - started < 1


def test_the_base_of_the_table_is_sound(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_text(BASE)

    resolved = resolve(path, catalog=CATALOG, registry=REGISTRY)

    assert resolved.data["steps"][0]["params"]["tolerance"] == 0.001


def test_all_mistakes_of_a_file_come_at_once_in_its_order(folder: Path) -> None:
    path = folder / "manifest.yaml"
    text = BASE.replace("seed: 7", "sead: 7").replace("top_k: 3", "top_k: 1e3").replace("first.raw", "x.raw")
    path.write_text(text.replace("use: hf", "use: hg"))

    places = [line.removeprefix(f"{path}:").split(": ")[0] for line in complaints(path)]

    assert places == ["4:1", "7:13", "15:21", "19:19"]


def test_bytes_that_are_not_utf8_are_refused_at_their_place(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_bytes(BASE.replace("study", "stüdy").encode("latin-1"))

    assert complaints(path) == [f"{path}:2:9: a byte is not UTF-8; save the file as UTF-8"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_are_refused(folder: Path, encoding: str) -> None:
    path = folder / "manifest.yaml"
    path.write_bytes(BASE.encode(encoding))

    assert "UTF-8" in complaints(path)[0]


def test_a_file_beyond_1_mib_is_refused(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_bytes(BASE.encode() + b"#" * (2 << 20))

    assert "larger than 1024 KiB; keep long texts in a file of their own" in complaints(path)[0]


def test_too_many_values_are_refused(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_text(BASE.replace("{top_k: 3}", f"{{layers: [{'a,' * 11_000}]}}"))

    assert "more than 10,000 values; keep long lists in a file of their own" in complaints(path)[0]


def test_a_missing_file_is_named(folder: Path) -> None:
    assert complaints(folder / "none.yaml")[0].startswith(
        f"{folder / 'none.yaml'}: the manifest cannot be read"
    )


def test_a_circle_of_references_is_spelt_out(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_text(
        BASE
        + "  - {id: a, use: counter, sees: [{from: b.raw}]}\n"
        + "  - {id: b, use: counter, sees: [{from: a.quantities}]}\n"
    )

    assert complaints(path) == [
        f"{path}:20:41: steps see each other in a circle: a -> b -> a; remove one reference",
        f"{path}:21:41: steps see each other in a circle: b -> a -> b; remove one reference",
    ]


@pytest.mark.parametrize(
    ("sees", "remedy"),
    [
        ("{from: first.raw}", "sees none; add `{from: a.raw}` under `sees`"),
        ("{from: a.quantities}", "sees none; add `{from: a.raw}` under `sees`"),
        ("{from: a.raw}, {from: b.raw}", "sees a and b; remove one reference under `sees`"),
    ],
)
def test_a_step_sees_one_step_of_what_its_instrument_goes_on_from(
    folder: Path, sees: str, remedy: str
) -> None:
    path = folder / "manifest.yaml"
    counters = "  - {id: a, use: counter}\n  - {id: b, use: counter}\n"
    path.write_text(BASE + counters + f"  - {{id: c, use: sequel, sees: [{sees}]}}\n")
    said = "'sequel' goes on from one step that uses `counter`, and `c`"
    assert complaints(path) == [f"{path}:22:5: {said} {remedy}"]

    path.write_text(BASE + counters + "  - {id: c, use: sequel, sees: [{from: a.raw}, {from: first.raw}]}\n")
    assert resolve(path, catalog=CATALOG, registry=REGISTRY)


@pytest.mark.parametrize(
    ("read", "remedy"),
    [("read-1", "see read-0"), ("read-2", "remove the reference"), ("read-7", "did you mean read-")],
)
def test_a_measurement_sees_no_later_read(folder: Path, read: str, remedy: str) -> None:
    path = folder / "manifest.yaml"
    path.write_text(BASE.replace("{top_k: 3}", f"{{top_k: 3}}\n    sees: [{{from: {read}}}]"))
    path.write_text(path.read_text().replace("governance: none", GOVERNED))
    assert [line.split(": ")[0] for line in complaints(path)] == [f"{path}:16:19"]
    assert remedy in complaints(path)[0]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({}, "it is not in registry.yaml"),
        ({"tests": evolve(ADMITTED, card="0" * 64)}, "its card changed since it was admitted"),
        ({"tests": evolve(ADMITTED, versions=">=2")}, "its version is 1.2; the registry admits >=2"),
        ({"tests": evolve(ADMITTED, status="deferred")}, "the registry lists it as deferred"),
    ],
)
def test_a_governed_run_refuses_what_is_not_admitted(
    folder: Path, entries: dict[str, Entry], reason: str
) -> None:
    path = folder / "manifest.yaml"
    path.write_text(BASE.replace("governance: none", GOVERNED))

    with pytest.raises(BadInput) as caught:
        resolve(path, catalog=CATALOG, registry=Registry(Path("registry.yaml"), entries))

    assert str(caught.value) == (
        f"{path}:5:19: 'protocol' is not admitted to governed runs: {reason} "
        "(plugin 'tests', atlas-tests 1.2); type: atlas registry add tests"
    )


def test_a_lone_surrogate_is_refused(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_text(BASE.replace("name: study", 'name: "stu\\ud800dy"'))

    assert complaints(path)[0].startswith(f"{path}:2:")


def test_a_broken_plugin_is_named_where_it_is_needed(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_text(BASE.replace("use: spectrometer", "use: telescope"))
    listed = Entry("broken", "atlas-broken", ">=0", "0" * 64, "operational", {"instruments": ("telescope",)})

    with pytest.raises(BadInput, match=r"its package cannot be found.*plugin 'broken', atlas-broken 0.1"):
        resolve(path, catalog=CATALOG, registry=Registry(None, {"broken": listed}))


def test_a_name_that_two_plugins_claim_names_both(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_text(BASE)
    twin = parse_card(CARD, plugin="twin", module="twin.plugin", distribution="atlas-twin", version="3")

    with pytest.raises(BadInput, match=r"'tests', atlas-tests 1.2 and plugin 'twin', atlas-twin 3"):
        resolve(path, catalog=Catalog((*CATALOG.cards, twin)), registry=REGISTRY)


def test_a_card_with_an_unsound_schema_is_blamed(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_text(BASE)
    card = CARD.replace(b"type: integer, minimum: 1", b"$ref: 'https://example.org/top_k.json'")
    cards = (parse_card(card, plugin="tests", module="t", distribution="atlas-tests", version="1.2"),)

    with pytest.raises(BadInput, match="15:13: the card's schema of 'spectrometer' cannot be used"):
        resolve(path, catalog=Catalog(cards), registry=REGISTRY)


def test_a_plugin_of_another_interface_version_is_named(folder: Path) -> None:
    path = folder / "manifest.yaml"
    path.write_text(BASE)
    old = CARD.replace(b"api: 1", b"api: 0")
    cards = (parse_card(old, plugin="tests", module="t", distribution="atlas-tests", version="1.2"),)

    with pytest.raises(BadInput, match="written for plugin interface 0; this host speaks 1"):
        resolve(path, catalog=Catalog(cards), registry=Registry(None))


def test_three_thousand_texts_are_checked_within_a_second(folder: Path) -> None:
    path = folder / "manifest.yaml"
    texts = ", ".join(f"text number {number}" for number in range(3000))
    path.write_text(BASE.replace("use: claims,", f"use: claims, texts: [{texts}],"))
    started = time.perf_counter()

    resolve(path, catalog=CATALOG, registry=REGISTRY)

    assert time.perf_counter() - started < 1
