from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from atlas.contracts import Fragment, StimulusItem
from atlas.errors import IntegrityBroken
from atlas.governance import Condition, TierReport, interpretation_closed
from atlas.quantities import Quantity
from atlas.record import RunView, open_record
from atlas.report.numbers import TIMES, format_interval, format_number, format_quantity
from atlas.report.page import build_report
from atlas.report.visible import visible
from atlas.run.journal import Journal
from atlas.run.store import Deposit

TIER = TierReport.of((Condition("Read #0 came first", False, "line 9 comes after line 11", "C"),))
PICTURE = Fragment("Spectrum", '<svg viewBox="0 0 9 9"><circle cx="4" cy="4" r="3"/></svg>')


def page(view: RunView, **changes: Any) -> str:
    arguments: dict[str, Any] = {"sections": {"curvature": [PICTURE]}, "tier": TIER} | changes
    return build_report(view, **arguments).decode("utf-8")


class Shape(HTMLParser):
    """What a browser would make of a page: its tags and attributes, without the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


# Numbers


@pytest.mark.parametrize(
    ("value", "uncertainty", "expected"),
    [
        (114.11713, 3.1e-4, "114.1171 ± 0.0003"),
        (41.52, 0.011, "41.520 ± 0.011"),
        (5210.4, 130.2, "5210 ± 130"),
        (0.0001, 3.2, "0 ± 3"),
        (-1e-9, 1e-3, "0.0000 ± 0.0010"),
        (9.996, 0.05, "10.00 ± 0.05"),
        (1.0, 0.0996, "1.00 ± 0.10"),
        (1.234e-7, 5.6e-9, f"(1.23 ± 0.06) {TIMES} 10^-7"),
        (123456.0, 9000.0, f"(1.23 ± 0.09) {TIMES} 10^5"),
        (2.5e8, 3e6, f"(2.50 ± 0.03) {TIMES} 10^8"),
        (114.1234567, 1e-9, f"114.1235 (± 1 {TIMES} 10^-9)"),
        (5e-324, 5e-324, f"(5 ± 5) {TIMES} 10^-324"),
    ],
)
def test_a_value_ends_where_its_uncertainty_does(value: float, uncertainty: float, expected: str) -> None:
    assert format_quantity(Quantity("x", value, uncertainty, "standard_error")) == expected


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (Quantity("n", 62.0, 0.0, "exact"), "62"),
        (Quantity("loss", 3.2071, 0.0, "exact"), "3.2071"),
        (Quantity("x", 3.20713, None, "uncertified"), "3.207 (no error stated)"),
        (Quantity("x", None, None, "undefined", note="why"), "undefined"),
        (Quantity("x", 12.3, 0.9, "interval_95", low=11.9, high=13.4), "12.3 (11.9 to 13.4)"),
        (Quantity("x", 12.3, 0.9, "interval_95", low=11.4, high=13.2), "12.3 ± 0.9"),
    ],
)
def test_each_kind_of_uncertainty_is_written_as_what_it_is(quantity: Quantity, expected: str) -> None:
    assert format_quantity(quantity) == expected


def test_a_number_alone_keeps_its_significant_digits() -> None:
    observed = [format_number(n) for n in (1234567.0, 99999.7, 1234.56, 0.0512345, 3.2e-8, 0.0, -0.0)]
    assert observed == [
        f"1.235 {TIMES} 10^6",
        "100000",
        "1235",
        "0.05123",
        f"3.200 {TIMES} 10^-8",
        "0",
        "0",
    ]


# Hostile text

HOSTILE = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//x.example/a.js></sCrIpT>",
    "<scr<script>ipt>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</textarea><img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "` onmouseover=`alert(1)",
    "x onmouseover=alert(1) y",
    '" autofocus onfocus=alert(1) x="',
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<math><mtext></mtext><mglyph><style><img src=x onerror=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)></object>",
    "<embed src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='java\tscript:alert(1)'>x</a>",
    "<a href=data:text/html,<script>alert(1)</script>>x</a>",
    "javascript:alert(1)",
    "<form action=javascript:alert(1)><button>x</button></form>",
    "<button formaction=javascript:alert(1)>x</button>",
    "<base href=//x.example/>",
    "<meta http-equiv=refresh content='0;url=//x.example'>",
    "<link rel=stylesheet href=//x.example/a.css>",
    "<style>@import '//x.example/a.css';</style>",
    "<div style='background:url(//x.example/a)'>x</div>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<input onfocus=alert(1) autofocus>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<!--><script>alert(1)</script-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "{{ 7 * 7 }}{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}",
    "{{ self.__init__.__globals__ }}",
    "${7*7}#{7*7}<%= 7*7 %>",
    "</main></body></html><script>alert(1)</script>",
    "\u202e>tpircs<\u2066\u200b\x07\x1b[31m",
    "\ud800 lone <b>surrogate</b>",
]


def written_with(word: str, folder: Path, run_writer: Any) -> str:
    """The page of a run in which every text that anyone could have written is `word`."""
    plain = word.encode("utf-8", "backslashreplace").decode()
    words = {"target.licence": word, word: word}
    data = run_writer.manifest()
    data |= {"name": plain, "targets": {"lm": {"use": plain, "path": plain}}}
    data["governance"]["operator"] = plain
    data["stimulus"] |= {"where": {"tier": plain}}
    data["steps"][0] |= {"params": {"a": plain, "b": [plain], plain: 1}, "target": plain}
    data["declare"] = [
        {
            "id": plain,
            "quantity": plain,
            "group": {plain: plain},
            "against": {},
            "expect": plain,
            "alpha": 0.05,
        },
        {"other": plain},
    ]
    with Journal.create(folder / "PYH-SML-20261122-001") as journal:
        run = run_writer(journal.root, journal, data)
        run.prepare(None, (StimulusItem(word, word, {"tier": word, "pair": word}),))
        run.gate("read-0", "measure", plain, title=word, author=word)
        note = plain.replace("\x07", "").replace("\x1b", "")
        quantity = Quantity(
            note, 1.0, 0.1, "standard_error", unit=note, slice=note, note=note, converged=False
        )
        run.curvature((quantity,), facts=words, check=(word, word))
        run.journal.append(
            "override-signed", {"gate": word, "author": word, "reason": word, "problems": [word]}
        )
        run.gate("read-1", "interpret", plain, title=word, author=word)
        text = plain.encode()
        digest = hashlib.sha256(text).hexdigest()
        run.store.seal_together(
            "amended",
            {"gate": "read-1", "author": word, "path": "reads/read-1.amendment-1.md", "sha256": digest},
            [Deposit("reads/read-1.amendment-1.md", text, "read")],
        )
        run.synthesis(plain)
        run.journal.append("gate-opened", {"gate": word, "stage": "close", "title": word})
        run.journal.append("gate-skipped", {"gate": word, "author": word, "reason": word})
        run.journal.append("step-started", {"step": "x", "attempt": 1, "seed": word, "inputs": {}})
        run.journal.append("step-failed", {"step": "x", "attempt": 1, "reason": word, "message": word})
        run.journal.append("cisp.note", {"what": word})
    condition = Condition(word, False, word, "C")
    return page(
        open_record(folder / "PYH-SML-20261122-001"),
        tier=TierReport.of((condition,)),
        criteria=(condition,),
        sections={"curvature": [Fragment(word, PICTURE.html)]},
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the waiting for the disk, which is not what these tests are about."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Shape:
    writer = request.getfixturevalue("run_writer")
    return Shape(written_with("harmless", tmp_path_factory.mktemp("harmless"), writer))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_text_in_every_field_adds_no_tag_and_no_attribute(
    word: str, harmless: Shape, run_writer: Any, tmp_path: Path
) -> None:
    shape = Shape(written_with(word, tmp_path, run_writer))
    assert shape.tags == harmless.tags
    assert [a[:2] for a in shape.attributes] == [a[:2] for a in harmless.attributes]
    assert [value for _, name, value in shape.attributes if name == "href"] == [
        value for _, name, value in harmless.attributes if name == "href"
    ]


@pytest.mark.usefixtures("quick")
def test_the_page_shows_the_word_in_every_field(harmless: Shape) -> None:
    # 50 fields: should one be lost from the page, the test above would no longer cover it.
    assert harmless.text.count("harmless") >= 50


@pytest.mark.usefixtures("quick")
def test_characters_that_hide_or_reorder_are_written_out(run_writer: Any, tmp_path: Path) -> None:
    html = written_with("\u202e\u2066\u200b\x1b\ud800x", tmp_path, run_writer)
    assert (
        "\u2039U+202E\u203a\u2039U+2066\u203a\u2039U+200B\u203a\u2039U+001B\u203a\u2039U+D800\u203ax" in html
    )
    assert not set(html) & set("\u202e\u2066\u200b\x1b\ud800")


def test_text_of_any_script_stays_as_it_is() -> None:
    words = ("na\u00efve", "\u0437\u0430\u043a\u043e\u043d", "\u6cd5\u5f8b", "\u0642\u0627\u0646\u0648\u0646")
    joined = ("\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f52c")
    text = "\n\t".join((*words, *joined))
    assert visible(text) == text


# The page


def test_the_page_asks_the_network_for_nothing_and_runs_no_script(governed: RunView) -> None:
    shape = Shape(page(governed))
    policy = next(
        value for tag, name, value in shape.attributes if tag == "meta" and value.startswith("default-src")
    )
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert {"script", "link", "iframe", "object", "img", "form"} & set(shape.tags) == set()
    leading = [v for _, name, v in shape.attributes if name in ("href", "src", "action", "srcset", "data")]
    assert all(value.startswith("#") for value in leading)
    assert "@import" not in page(governed) and "url(" not in page(governed)


def test_the_same_run_gives_the_same_bytes(governed: RunView, tmp_path: Path) -> None:
    moved = shutil.copytree(governed.root, tmp_path / "elsewhere" / governed.run_id)
    assert page(open_record(moved)) == page(governed)


def test_a_governed_run_is_told_from_question_to_provenance(governed: RunView) -> None:
    text = Shape(page(governed)).text
    parts = [
        "What was asked",
        "Curvature of a loss: eigenvalues, trace and density of its Hessian.",
        "These are the largest eigenvalues of the loss, each within its residual.",
        "Moderate drinking protects the heart.",
        "What was expected",
        "h1: curvature.lambda_max for tier contested is expected to be greater than for tier ground_truth",
        "I expect the contested pair to be sharper.",
        "What came out",
        "took 1 min 1 s",
        "the loss is 3.2071 nat",
        "114.1171 ± 0.0003",
        "lambda_min is below its residual",
        "What people made of it",
        "Sharper than I thought",
        "The two claims differ little.",
        "The model overlooks the trace.",
        "How far to trust it",
        "line 9 comes after line 11",
        "Where it comes from",
        str(governed.head),
        "atlas-pyhessian 0.1.0",
    ]
    missing, place = [], text.index("Where it comes from")  # the last of the links to the parts
    for part in parts:
        found = text.find(part, place)
        missing += [part] if found < 0 else []
        place = max(place, found)
    assert missing == []


def test_an_ungoverned_run_says_so_and_is_tier_c(
    write_plain_run: Callable[..., RunView], tmp_path: Path
) -> None:
    text = Shape(page(write_plain_run(tmp_path / "PYH-SML-20261122-001"))).text
    assert "This run was not governed." in text and "the run counts as Tier C" in text


def test_pictures_stay_closed_until_the_read_of_the_output(
    write_run: Callable[..., RunView], governed: RunView, tmp_path: Path
) -> None:
    measured = write_run(tmp_path / "m" / "PYH-SML-20261122-001", until="measured")
    assert (PICTURE.html in page(measured), PICTURE.html in page(governed)) == (False, True)
    assert "Pictures and verdicts are closed." in page(measured)
    assert "114.1171 ± 0.0003" in page(measured)


def test_interpretation_opens_with_the_answer_and_not_with_the_question(
    write_run: Callable[..., RunView], tmp_path: Path
) -> None:
    root = write_run(tmp_path / "m" / "PYH-SML-20261122-001", until="measured").root
    with Journal.open(root) as journal:
        journal.append("gate-opened", {"gate": "read-1", "stage": "interpret", "title": "Read #1"})
        asked = interpretation_closed(journal.view())
        journal.append("gate-skipped", {"gate": "read-1", "author": "A", "reason": "no time"})
        answered = interpretation_closed(journal.view())
    assert (asked, answered) == ("nobody has written down yet what they see in the numbers (Read #1)", None)


def test_a_run_that_has_measured_nothing_says_so(write_run: Callable[..., RunView], tmp_path: Path) -> None:
    text = Shape(page(write_run(tmp_path / "r" / "PYH-SML-20261122-001", until="read-0"))).text
    assert "Nothing has been measured yet." in text and "This run is not finished" in text


def test_a_changed_read_is_not_reported_as_if_it_were_sealed(governed: RunView) -> None:
    (governed.root / "reads/read-0.md").write_text("I always knew.")
    with pytest.raises(IntegrityBroken, match=r"reads/read-0\.md"):
        page(governed)


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium."""
    from playwright.sync_api import sync_playwright

    path = next(
        (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
    )
    if path is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@frozen
class Seen:
    """What a page did when it was opened.

    Attributes:
        title: Of the page, once it has loaded.
        requests: What it asked for, without itself and the pictures within it.
        said: Errors and messages of its console, its errors, and its dialogs.
        overflow: By how many pixels it is wider than the window.
    """

    title: str
    requests: list[str]
    said: list[str]
    overflow: int


def opened(browser: Any, html: str, folder: Path, *, width: int = 1200, scheme: str = "light") -> Seen:
    """Open a page, and its details, in a window of a width."""
    path = folder / "opened.html"
    path.write_text(html, encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    view, asked, said = context.new_page(), [], []
    view.on("request", lambda request: asked.append(request.url))
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    view.goto(path.as_uri(), wait_until="load")
    overflow = view.evaluate(
        "() => { document.querySelectorAll('details').forEach(d => d.open = true);"
        " return document.documentElement.scrollWidth - innerWidth }"
    )
    seen = Seen(
        view.title(), [u for u in asked if not u.startswith(("data:", path.as_uri()))], said, overflow
    )
    context.close()
    return seen


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_no_hostile_text_runs_or_asks_for_anything_in_a_browser(
    browser: Any, run_writer: Any, tmp_path: Path
) -> None:
    """With the page's own policy taken out, so that escaping alone is what stands between."""
    for number, word in enumerate(HOSTILE):
        folder = tmp_path / str(number)
        folder.mkdir()
        html = re.sub("<meta http-equiv=.*?>", "", written_with(word, folder, run_writer), count=1)
        seen = opened(browser, html, folder)
        assert (seen.requests, seen.said) == ([], []), word


@pytest.mark.slow
def test_a_browser_runs_no_script_even_of_a_plugin(governed: RunView, browser: Any, tmp_path: Path) -> None:
    hostile = Fragment(
        "Hostile",
        "<script>document.title = 'taken'</script><svg onload=\"document.title = 'taken'\"></svg>"
        "<img src='data:,' onerror=\"document.title = 'taken'\">",
    )
    seen = opened(browser, page(governed, sections={"curvature": [hostile]}), tmp_path)
    assert seen.title == "PYH-SML-20261122-001: contested-curvature"
    assert seen.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fits_every_width_and_asks_for_nothing(
    width: int, scheme: str, governed: RunView, browser: Any, tmp_path: Path
) -> None:
    seen = opened(browser, page(governed), tmp_path, width=width, scheme=scheme)
    assert (seen.overflow, seen.requests, seen.said) == (0, [], [])


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (Quantity("trace", 4828.4, 234.6, "standard_error", low=4311.97, high=5344.8), "95% 4312 to 5345"),
        (Quantity("kappa_eps", 501.0, 498.9, "residual_bound", low=2.1378, high=1000.0), "2.138 to 1000"),
        (Quantity("loss", 4.2, 0.0, "exact"), ""),
    ],
)
def test_an_interval_says_its_level(quantity: Quantity, expected: str) -> None:
    assert format_interval(quantity) == expected
