import base64
import json
from urllib.parse import quote

import pytest
from atlas_synthesis.secret import MARK, Secret

KEY = 'sk-a+b/c"d\\e0123456789'
SECRET = Secret("SOME_KEY", KEY)


@pytest.mark.parametrize(
    "spelling",
    [
        KEY,
        quote(KEY, safe=""),
        json.dumps(KEY)[1:-1],
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
    ],
    ids=["plain", "url", "json", "base64", "base64url"],
)
def test_every_spelling_of_the_key_is_removed_wherever_it_stands(spelling):
    assert SECRET.scrub(f"before {spelling} after").removesuffix(" after").rstrip("=") == f"before {MARK}"


def test_escapes_of_json_do_not_hide_the_key():
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY)

    clean = SECRET.scrub_bytes(f'{{"a": ["{escaped}"]}}'.encode())

    assert json.loads(clean) == {"a": [MARK]}


@pytest.mark.parametrize("data", [b'{"a":  "b\\u00e9"}', b"\xff\\u0041", b"plain"])
def test_bytes_without_the_key_come_back_as_they_are(data):
    assert SECRET.scrub_bytes(data) == data


def test_a_key_is_not_shown_by_its_own_description():
    assert KEY not in repr(SECRET)
