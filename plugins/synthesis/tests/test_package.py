import hashlib
import shutil
import subprocess

import pytest
from atlas_synthesis.package import digest_of, listing_of, token_estimate
from atlas_synthesis.roles import gather, package_of

from atlas.errors import BadInput
from atlas.quantities import Quantity, UncertaintyKind
from atlas.tables import QUANTITIES, to_csv

QUANTITY = Quantity("lambda_max", 3.5, 0.25, UncertaintyKind.RESIDUAL_BOUND, num_matvecs=40)
TABLE = to_csv(QUANTITIES, [QUANTITY.as_record()])
FILES = {
    "raw/curvature/quantities.csv": TABLE,
    "reads/read-1.md": b"The largest value surprised me.\r\n",
}


def assemble(files):
    return package_of("synthesis", files)


def laid_out(folder, files):
    result = {}
    for path, data in files.items():
        copy = folder / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
        result[path] = copy
    return result


def test_the_digest_is_the_sha256_of_the_listing():
    assert assemble(FILES).digest == hashlib.sha256(listing_of(FILES)).hexdigest()


def test_the_digest_depends_on_names_and_contents_and_not_on_their_order():
    backwards = dict(reversed(FILES.items()))
    renamed = {path.replace("curvature", "other"): data for path, data in FILES.items()}
    changed = {**FILES, "reads/read-1.md": b"The largest value surprised me."}

    assert digest_of(backwards) == digest_of(FILES)
    assert len({digest_of(FILES), digest_of(renamed), digest_of(changed)}) == 3


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs the system's sha256sum")
def test_a_stranger_checks_the_listing_with_sha256sum(tmp_path):
    laid_out(tmp_path, FILES)
    (tmp_path / "listing").write_bytes(listing_of(FILES))

    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", "listing"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout.count(": OK")) == (0, 2)


def test_the_upload_holds_tables_and_read_and_nothing_else():
    assert assemble(FILES).upload.decode() == (
        "## quantities.csv\n\n```csv\n"
        "quantity,slice,value,uncertainty,uncertainty_kind,unit,converged,num_matvecs\n"
        "lambda_max,all,3.5,0.25,residual_bound,1,true,40\n"
        "```\n\n"
        "## Read\n\nThe largest value surprised me.\n"
    )


def test_tables_of_the_same_name_are_told_apart_by_their_step():
    files = {"raw/one/quantities.csv": TABLE, "raw/two/quantities.csv": TABLE}

    text = assemble(files).upload.decode()

    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "## one/quantities.csv",
        "## two/quantities.csv",
    ]


def test_amendments_of_the_read_follow_it_in_their_order():
    extra = {f"reads/read-1.amendment-{n}.md": f"Addition {n}.".encode() for n in (10, 2)}

    text = assemble({**FILES, **extra}).upload.decode()

    assert text.index("surprised") < text.index("Addition 2.") < text.index("Addition 10.")


def test_a_table_cannot_close_its_own_block():
    files = {"raw/a/notes.csv": b"note\r\n```\r\n"}

    assert assemble(files).upload.decode().splitlines()[2] == "````csv"


def test_only_tables_and_read_1_are_taken_from_what_a_step_sees(tmp_path):
    beside = {"raw/curvature/facts.json": b"{}", "raw/curvature/quantities.schema.json": b"{}"}

    package, left = gather("synthesis", laid_out(tmp_path, {**FILES, **beside}))

    assert (set(package.files), left) == (set(FILES), tuple(sorted(beside)))


@pytest.mark.parametrize(
    "path",
    [
        "reads/read-0.md",
        "reads/read-2.md",
        "raw/analysis/answer.md",
        "answers/other.md",
        "stimulus/items.jsonl",
    ],
)
def test_no_other_read_and_no_other_answer_gets_into_a_package(tmp_path, path):
    with pytest.raises(BadInput, match="may not see"):
        gather("synthesis", laid_out(tmp_path, {**FILES, path: b"x"}))


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"reads/read-1.md": b"x"}, "no raw table"),
        ({"raw/a/t.csv": b"header,only\r\n"}, "no raw table"),
        ({"raw/a/t.csv": b"a\r\n\xff\r\n"}, "not UTF-8"),
        ({"raw/a/t.csv": b"a\r\n1\r\n", "reads/read-1.md": b"\0"}, "NUL"),
        ({"raw/a/t.csv": b'a\r\n"1\r\n'}, "not CSV"),
    ],
)
def test_a_package_without_a_readable_table_is_refused(files, fault):
    with pytest.raises(BadInput, match=fault):
        assemble(files)


def test_tokens_are_estimated_from_letters_digits_and_marks():
    # lambda _ max , 1 . 234 567 and "eigenval" + "ue"
    assert token_estimate("lambda_max,1.234567 eigenvalue") == 10


def test_the_upload_is_the_same_for_the_same_package():
    backwards = dict(reversed(FILES.items()))

    assert assemble(backwards).upload == assemble(FILES).upload
