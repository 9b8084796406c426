from __future__ import annotations

import pytest
from atlas_huggingface.plugin import atlas_stimuli

from atlas.errors import BadInput


def read(folder, name, content, **params):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    return list(atlas_stimuli()["file"].items({"path": name, **params}, folder))


def texts(items):
    return [(item.id, item.text) for item in items]


def test_texts_of_a_manifest_are_numbered(tmp_path):
    items = atlas_stimuli()["text"].items({"texts": ["one", "two"]}, tmp_path)
    assert texts(items) == [("text-1", "one"), ("text-2", "two")]


def test_an_empty_text_is_refused_with_its_place(tmp_path):
    with pytest.raises(BadInput, match=r"stimulus\.texts\[1\]: text 2 is empty"):
        list(atlas_stimuli()["text"].items({"texts": ["one", " "]}, tmp_path))


def test_a_line_of_a_text_file_is_an_item_and_blank_lines_are_none(tmp_path):
    assert texts(read(tmp_path, "a.txt", "one\n\n two \nthree")) == [
        ("line-1", "one"),
        ("line-3", " two "),
        ("line-4", "three"),
    ]


def test_byte_order_mark_and_carriage_returns_are_no_text(tmp_path):
    assert texts(read(tmp_path, "a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n")) == [
        ("line-1", "one"),
        ("line-2", "two"),
    ]


def test_line_separators_of_unicode_divide_no_items(tmp_path):
    assert texts(read(tmp_path, "a.txt", "one\u2028more\x85end\n")) == [("line-1", "one\u2028more\x85end")]


def test_a_separator_divides_items_of_several_lines(tmp_path):
    items = read(tmp_path, "a.txt", "\none\n\nmore\n---\n---\ntwo\n", separator="---")
    assert texts(items) == [("line-2", "one\n\nmore"), ("line-7", "two")]


def test_fields_of_a_jsonl_file_become_attributes_and_id(tmp_path):
    (item,) = read(
        tmp_path, "a.jsonl", '{"id": 7, "text": "one", "tier": "foil", "n": 2, "ok": true, "no": null}\n'
    )
    assert (item.id, item.text, item.attributes) == ("7", "one", {"tier": "foil", "n": "2", "ok": "true"})


def test_columns_of_a_csv_file_become_attributes_and_id(tmp_path):
    items = read(tmp_path, "a.csv", 'id,claim,tier\nx,"one, and\nmore",foil\n\n,two,\n', text="claim")
    assert [(i.id, i.text, i.attributes["tier"]) for i in items] == [
        ("x", "one, and\nmore", "foil"),
        ("line-5", "two", ""),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_file_may_use_the_separators_of_spreadsheets(tmp_path, delimiter):
    content = f"text{delimiter}tier\none{delimiter}foil\n"
    (item,) = read(tmp_path, "a.csv", content)
    assert (item.text, item.attributes) == ("one", {"tier": "foil"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\nbad \xff\n", r"a\.txt:2:5: byte 0xff is not UTF-8"),
        ("a.txt", " \n\n", r"a\.txt: the file holds no items"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', r"a\.jsonl:2:\d+: the line is not JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: the line is not a JSON object"),
        ("a.jsonl", '{"txt": "a"}\n', r"a\.jsonl:1: the field 'text' is missing"),
        ("a.jsonl", '{"text": "a", "x": [1]}\n', r"a\.jsonl:1: the attribute 'x' is no plain value"),
        ("a.csv", "claim,tier\none,foil\n", r"a\.csv:1: there is no column 'text' in the header: claim,tier"),
        ("a.csv", "text,text\none,two\n", r"a\.csv:1: the column 'text' is there twice"),
        ("a.csv", "text,tier\none,foil\ntwo\n", r"a\.csv:3: the record has 1 cells and the header 2"),
        ("a.csv", 'text,tier\none,"foil\n', r"a\.csv:2: the record is not CSV"),
        ("a.csv", "", r"a\.csv: the file holds no items"),
        ("a.docx", "x", r"a\.docx: \.docx is not read as a stimulus"),
    ],
)
def test_what_cannot_be_used_is_refused_with_file_and_line(tmp_path, name, content, message):
    with pytest.raises(BadInput, match=message):
        read(tmp_path, name, content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"gone\.txt: the file cannot be read"):
        list(atlas_stimuli()["file"].items({"path": "gone.txt"}, tmp_path))


def test_items_are_read_as_they_are_asked_for(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\n\xff\n")
    assert next(iter(atlas_stimuli()["file"].items({"path": "a.txt"}, tmp_path))).text == "one"
