"""Bytes that are no UTF-8: the likely encoding is named, and is read where the user names it."""

import json

import pandas as pd
import pytest

from editbench.datasets import load
from editbench.datasets.encodings import likely_encoding
from editbench.records import RecordError

TEXTS = [
    ("gbk", "中国的首都是"),
    ("gb18030", "中国的首都是上海㐂𠀀"),
    ("gb18030", "第0个国家的首都是㐂"),
    ("big5", "台灣的首都是台北"),
    ("shift_jis", "夏目漱石の本名は"),
    ("euc_jp", "日本の首都は東京です"),
    ("euc_kr", "프랑스의 수도는"),
    ("cp1251", "Родной язык Пушкина"),
    ("koi8_r", "Столица Франции"),
    ("cp1252", "Die Hauptstadt von Österreich"),
    ("cp1252", "“L’été” à São Paulo"),
    ("cp1253", "Αθήνα είναι η πρωτεύουσα"),
    ("cp1256", "عاصمة فرنسا"),
    ("utf-16", "Zürich"),
    ("utf-16-le", "Zürich"),
    ("utf-32", "Zürich"),
]


@pytest.mark.parametrize(("encoding", "text"), TEXTS)
def test_the_likely_encoding_is_named_and_then_read(tmp_path, encoding, text):
    file = tmp_path / "rows.json"
    row = {"prompt": text, "subject": text.split(" ")[0], "target": "x"}
    file.write_bytes(json.dumps([row], ensure_ascii=False).encode(encoding))
    with pytest.raises(RecordError, match=f"is not UTF-8 .*likely {encoding}: .*dataset.encoding={encoding}") as caught:
        load("custom", file)
    assert "iconv" not in str(caught.value)
    assert load("custom", file, encoding=encoding).records[0].request.prompt == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["Ann is in", "Столица Франции", "中国的首都是"])
@pytest.mark.parametrize("rows", ['[{{"prompt": "{}", "target": "x"}}]', "prompt,target\n{},x\n"])
def test_utf_16_without_a_mark_is_named_even_where_its_bytes_are_utf_8(tmp_path, encoding, text, rows):
    file = tmp_path / ("rows.csv" if rows.startswith("prompt") else "rows.json")
    file.write_bytes(rows.format(text).encode(encoding))
    with pytest.raises(RecordError, match=f"(NUL character is not text in|is not) UTF-8.*likely {encoding}: "):
        load("custom", file)
    assert load("custom", file, encoding=encoding).records[0].request.prompt == text


@pytest.mark.parametrize("text", ["Ann is in", "Zürich é", "中国的首都是"])
def test_a_nul_in_utf_8_is_named_with_its_line(tmp_path, text):
    (tmp_path / "rows.jsonl").write_text(f'{{"prompt": "{text}", "target": "x"}}\n' * 3 + "\0", encoding="utf-8")
    message = "rows.jsonl:4: a NUL character is not text in UTF-8; the rest of the file is UTF-8: correct this place"
    with pytest.raises(RecordError, match=message):
        load("custom", tmp_path / "rows.jsonl")


def test_utf_8_is_read_with_a_byte_order_mark_and_without(tmp_path):
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "rows.jsonl").write_text('{"prompt": "中国的首都是", "target": "上海"}\n', encoding=encoding)
        assert load("custom", tmp_path / "rows.jsonl").records[0].request.target == "上海"


def test_what_is_no_text_and_an_encoding_that_does_not_fit(tmp_path):
    file = tmp_path / "rows.json"
    file.write_bytes(b"PK\x03\x04\xff\xfe\xfd")
    with pytest.raises(RecordError, match="the file is an archive: unpack it first"):
        load("custom", file)
    file.write_bytes('[{"prompt": "中国", "target": "上海"}]'.encode("gbk"))
    with pytest.raises(RecordError, match="is not shift_jis .*likely gbk"):
        load("custom", file, encoding="shift_jis")
    file.write_bytes('[{"prompt": "中国", "target": "上海"}]'.encode() + b"\xff")
    with pytest.raises(RecordError, match="the rest of the file is UTF-8: correct this place"):
        load("custom", file)
    file.write_text('[{"prompt": "Zürich é", "target": "上海"}]', encoding="utf-8")
    with pytest.raises(RecordError, match="is not ascii .*it is UTF-8: leave dataset.encoding out"):
        load("custom", file, encoding="ascii")
    file.write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00")
    with pytest.raises(RecordError, match="the file is a pickle, which is never read"):
        load("custom", file)
    file.write_bytes(b"\x81\x04\x95\x10\x00\x00\x00\x00")  # its zeros are no UTF-16
    with pytest.raises(RecordError, match="it is no text in a known encoding"):
        load("custom", file)
    (tmp_path / "rows.xlsx").write_bytes(b"PK\x03\x04\xff\xfe\xfd")
    with pytest.raises(RecordError, match="is a spreadsheet: save it as CSV in UTF-8"):
        load("custom", tmp_path / "rows.xlsx")
    with pytest.raises(ValueError, match="encoding=klingon: Python knows no such encoding"):
        load("custom", file, encoding="klingon")
    assert likely_encoding(bytes(range(128, 256)) * 3) is None
    assert likely_encoding("plain".encode("utf-16-le")) == "utf-16-le"


def test_a_table_under_the_name_of_another_kind_is_called_what_it_is(tmp_path):
    pd.DataFrame({"prompt": ["中国"], "target": ["上海"]}).to_parquet(tmp_path / "rows.json")
    pd.DataFrame({"prompt": ["中国"]}).to_pickle(tmp_path / "rows.jsonl")
    for name, kind in (("rows.json", "a Parquet file: give it a name that"), ("rows.jsonl", "a pickle")):
        for encoding in (None, "latin-1"):
            with pytest.raises(RecordError, match=f"the file is {kind}") as caught:
                load("custom", tmp_path / name, encoding=encoding)
            assert "dataset.encoding" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "encoding", "warning"),
    [
        ("Orléans", "latin-1", "is valid UTF-8, and is read as latin-1; leave dataset.encoding out"),
        ("上海东京", "gbk", "is valid UTF-8, and is read as gbk; leave"),
        ("Orl\ufffdans", None, "rows.json:2: the character U+FFFD stands for one that"),
        ("Orléans", None, None),
        ("Orléans", "utf-8", None),
        ("Orleans", "latin-1", None),
    ],
)
def test_text_that_is_likely_wrong_is_read_with_a_warning(tmp_path, caplog, text, encoding, warning):
    (tmp_path / "rows.json").write_text(f'[{{"prompt": "x",\n"target": "{text}"}}]', encoding="utf-8")
    load("custom", tmp_path / "rows.json", encoding=encoding)
    assert len(caplog.messages) == (warning is not None)
    assert warning is None or warning in caplog.messages[0]


def test_another_encoding_gives_no_warning(tmp_path, caplog):
    (tmp_path / "rows.json").write_text('[{"prompt": "x", "target": "Orléans"}]', encoding="latin-1")
    load("custom", tmp_path / "rows.json", encoding="latin-1")
    assert not caplog.messages
