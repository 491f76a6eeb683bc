"""Raw files to rows: positions, formats, and the errors for broken files."""

import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editbench.datasets import load, load_texts
from editbench.datasets.files import read_rows, read_texts
from editbench.datasets.rows import Row, RowError
from editbench.records import RecordError

ROWS = [{"prompt": f"Ann {i} was born in", "target": "Rome"} for i in range(4)]


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def lines(rows, **options):
    return "".join(json.dumps(row, **options) + "\n" for row in rows)


# -- positions ---------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
raw_rows = st.lists(
    st.dictionaries(st.text(st.characters(codec="utf-8")).filter(lambda k: k not in ("id", "case_id")), values),
    min_size=1,
    max_size=5,
)
gaps = st.text("\n\r\t ", max_size=4)


def plain_unicode(value):
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") == json.dumps(
        value, ensure_ascii=False
    ).encode("utf-8", "surrogatepass")


@settings(max_examples=60, deadline=None)
@given(rows=raw_rows, indent=st.sampled_from([None, 0, 2]), ascii=st.booleans(), bom=st.booleans(), data=st.data())
def test_json_array_round_trips_with_the_line_of_each_record(tmp_path_factory, rows, indent, ascii, bom, data):
    ascii = ascii or not plain_unicode(rows)
    text, starts = "\ufeff[" if bom else "[", []
    for i, row in enumerate(rows):
        text += ("," if i else "") + data.draw(gaps)
        starts.append(text.count("\n") + 1)
        text += json.dumps(row, indent=indent, ensure_ascii=ascii) + data.draw(gaps)
    path = write(tmp_path_factory.mktemp("array"), "rows.data", text + "]\n")
    read = list(read_rows(path))
    assert [row.fields for row in read] == rows
    assert [row.where for row in read] == [f"{path}:{line}" for line in starts]
    assert [row.id for row in read] == [str(i) for i in range(len(rows))]


@settings(max_examples=60, deadline=None)
@given(rows=raw_rows, ascii=st.booleans(), data=st.data())
def test_json_lines_round_trip_with_the_line_of_each_record(tmp_path_factory, rows, ascii, data):
    ascii = ascii or not plain_unicode(rows)  # U+2028 and the like, unescaped, must not count as line ends
    text, starts = "", []
    for row in rows:
        text += data.draw(st.sampled_from(["", "\n", "\r\n", " \n"]))
        starts.append(text.count("\n") + 1)
        text += json.dumps(row, ensure_ascii=ascii) + "\n"
    path = write(tmp_path_factory.mktemp("lines"), "rows.data", text)
    read = list(read_rows(path))
    assert [row.fields for row in read] == rows
    assert [row.where for row in read] == [f"{path}:{line}" for line in starts]


def test_text_file_gives_a_text_a_line(tmp_path):
    path = write(tmp_path, "plain.txt", "one\r\n\n  \ntwo \u2028 still two\n")
    rows = list(read_texts(path))
    assert [row.fields["text"] for row in rows] == ["one", "two \u2028 still two"]
    assert [row.where for row in rows] == [f"{path}:1", f"{path}:4"]


def test_own_ids_are_read(tmp_path):
    rows = list(read_rows(write(tmp_path, "r.jsonl", lines([{"case_id": 7}, {"id": "x"}, {}, {"id": None}]))))
    assert [row.id for row in rows] == ["7", "x", "2", "3"]


# -- broken files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line", "parts"),
    [
        pytest.param("", 1, ["empty"], id="empty"),
        pytest.param(" \n\n", 1, ["empty"], id="blank"),
        pytest.param("[\n]", 1, ["empty list"], id="empty list"),
        pytest.param('{"v": 1,\n"data": []}', 2, ["the list 'data' is empty", "give a file"], id="empty under a key"),
        pytest.param('{"train": {"rows":\n[]}}', 2, ["the list 'rows' is empty"], id="empty under two keys"),
        pytest.param('\n"a string"', 2, ["JSON array or JSON Lines", "a string"], id="neither"),
        pytest.param("id,prompt\n1,x\n", 1, ["JSON array or JSON Lines", "id,prompt"], id="csv"),
        pytest.param('[{"a": 1}]\n]', 2, ["after the end of the list", "take it out"], id="tail"),
        pytest.param('[{"a": 1},\n{"a": 2}\n{"a": 3}]', 2, ["no ','", "2 whole records", "correct it"], id="no comma"),
        pytest.param(
            '[{"a": 1},\n{"a": oops},\n{"a": 3}]', 2, ["Expecting value", "1 whole", "broken"], id="bad value"
        ),
        pytest.param('[{"a": 1},\n{"a": 2},\n]', 3, ["Expecting value", "2 whole records"], id="last comma"),
        pytest.param(
            b'[\n{"a": "na\xefve"}]', 2, ["0xef", "UTF-8", "likely cp1252", "dataset.encoding=cp1252"], id="latin-1"
        ),
        pytest.param('[{"a": 1}]'.encode("utf-16"), 1, ["0xff", "UTF-8", "dataset.encoding=utf-16"], id="utf-16"),
        pytest.param("[" + "[" * 200_000, 1, ["nested too deeply"], id="too deep"),
    ],
)
def test_broken_file_names_file_line_and_remedy(tmp_path, content, line, parts):
    path = write(tmp_path, "rows.json", content)
    with pytest.raises(RecordError) as caught:
        list(read_rows(path))
    for part in [f"{path}:{line}:", *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize("cut", [1, 20, 45])
def test_cut_off_array_names_the_record_that_is_cut(tmp_path, cut):
    text = json.dumps(ROWS, indent=0)
    whole = json.dumps(ROWS[:3], indent=0)[:-1] + ","
    path = write(tmp_path, "rows.json", text[: len(whole) + cut])
    rows = read_rows(path)
    assert [next(rows).fields for _ in range(3)] == ROWS[:3]
    with pytest.raises(RecordError, match=r"cut off; get it again .*3 whole records") as caught:
        next(rows)
    assert f"{path}:14:" in str(caught.value)


def test_cut_off_array_raises_under_skip_too(tmp_path):
    path = write(tmp_path, "rows.json", json.dumps(ROWS)[:-9])
    with pytest.raises(RecordError, match="cut off"):
        load("custom", path, on_error="skip")
    assert len(load("custom", path, limit=2)) == 2  # what is not read is not missed


def test_bad_line_of_json_lines_can_be_skipped(tmp_path):
    path = write(tmp_path, "rows.jsonl", lines(ROWS[:2]) + '{"prompt": "x\n' + "[1]\n" + lines(ROWS[2:]))
    with pytest.raises(RecordError, match=r"rows\.jsonl:3: not a JSON record .*one whole record a line"):
        load("custom", path)
    loaded = load("custom", path, on_error="skip")
    assert [record.id for record in loaded.records] == ["0", "1", "4", "5"]
    assert [skip.where for skip in loaded.skipped] == [f"{path}:3", f"{path}:4"]
    assert "must be an object with fields, found a list" in loaded.skipped[1].reason


@pytest.mark.parametrize("value", [5, "x", None, [1], True])
def test_record_that_is_no_object(tmp_path, value):
    path = write(tmp_path, "rows.json", json.dumps([*ROWS, value], indent=0))
    with pytest.raises(RecordError, match=r":18: a record must be an object with fields, found "):
        load("custom", path)
    assert len(load("custom", path, on_error="skip")) == 4


def test_missing_file_suggests_its_neighbours(tmp_path):
    write(tmp_path, "counterfact.json", "[]")
    with pytest.raises(RecordError, match=r"did you mean counterfact\.json\?"):
        load("counterfact", tmp_path / "conterfact.json")
    with pytest.raises(RecordError, match="no such file .*correct the path"):
        load("counterfact", tmp_path / "xyz")
    with pytest.raises(RecordError, match="no such folder"):
        load("counterfact", tmp_path / "nowhere" / "counterfact.json")


# -- fields of a row ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "fields", "message"),
    [
        (lambda row: row.text("a"), {"b": 1, "c": 2}, "'a': is missing; the record has b, c"),
        (lambda row: row.text("a"), {"a": None}, "'a': has no value (null, NaN or an empty cell)"),
        (lambda row: row.text("a"), {"a": " \n"}, "'a': is empty"),
        (lambda row: row.text("a"), {"a": "x\ud800"}, "'a': holds half of a surrogate pair"),
        (lambda row: row.texts("a"), {"a": "x"}, "'a': must be a list, found text"),
        (lambda row: row.texts("a"), {"a": ["x", {}]}, "'a[1]': must be text, found an object"),
        (lambda row: row.child("a"), {"a": ["x"]}, "'a': must be an object with fields, found a list"),
        (lambda row: row.child("a").text("b"), {"a": {"b": True}}, "'a.b': must be text, found true or false"),
        (lambda row: row.children("a"), {"a": [{}, 1]}, "'a[1]': must be an object with fields, found a number"),
        (lambda row: row.right("a"), {"a": []}, "'a': is an empty list"),
        (lambda row: row.right("a"), {"a": [" "]}, "'a': is empty"),
        (lambda row: row.text("a"), {"a": float("inf")}, "'a': is an infinite number, which cannot be written out"),
        (lambda row: row.right("a"), {"a": ["x", -float("inf")]}, "'a[1]': is an infinite number"),
        (lambda row: row.children("a"), {"a": '[{"b": 1, "b": 2}]'}, "'a': has the key 'b' twice in"),
        (lambda row: row.children("a"), {"a": "[{'b': x}]"}, "'a': looks like objects and cannot be read as such"),
        (lambda row: row.several("a"), {"a": ["x", [{}]]}, "'a[1][0]': must be text, found an object"),
    ],
)
def test_field_errors_name_place_record_and_field(read, fields, message):
    with pytest.raises(RowError) as caught:
        read(Row("data.json:12", "r7", fields))
    assert str(caught.value).startswith("data.json:12: record 'r7', field ")
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [True, [], "  ", 1.5, float("inf")])
def test_id_of_a_wrong_type(tmp_path, value):
    path = write(tmp_path, "rows.jsonl", lines([{**ROWS[0], "id": value}]))
    with pytest.raises(RecordError, match=r"rows\.jsonl:1: record '0', field 'id': must be a whole number or text"):
        load("custom", path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("texts.json", '["One.", "Two."]'),
        ("texts.json", '[{"text": "One."}, "Two."]'),
        ("texts.jsonl", '"One."\n"Two."\n'),
        ("texts.jsonl", '{"text": "One."}\n{"text": "Two.", "more": 1}\n'),
        ("texts.txt", "One.\n\nTwo.\n"),
    ],
)
def test_texts_of_every_kind_of_file(tmp_path, name, content):
    assert load_texts(write(tmp_path, name, content)) == ["One.", "Two."]


def test_an_empty_text_of_a_file_is_an_error_and_of_a_table_none(tmp_path):
    with pytest.raises(RecordError, match="field 'text': is empty"):
        load_texts(write(tmp_path, "texts.json", '["One.", " "]'))
    pd.DataFrame({"text": ["", "One.", " \n", "Two."]}).to_parquet(tmp_path / "texts.parquet")
    assert load_texts(tmp_path / "texts.parquet") == ["One.", "Two."]


def test_a_text_alone_is_no_record(tmp_path):
    with pytest.raises(RowError, match="found '\"One"):
        list(read_rows(write(tmp_path, "rows.jsonl", '"One."\n')))
    (row,) = read_rows(write(tmp_path, "rows.json", '["One."]'))
    assert isinstance(row, RowError) and "must be an object" in str(row)


def test_records_of_a_parquet_file(tmp_path):
    pd.DataFrame(ROWS).to_parquet(tmp_path / "rows.parquet")
    rows = list(read_rows(tmp_path / "rows.parquet"))
    assert [dict(row.fields) for row in rows] == ROWS
    assert rows[1].where.endswith("rows.parquet:2")
    with pytest.raises(RecordError, match=r"rows.parque: no such file|did you mean rows.parquet"):
        list(read_rows(tmp_path / "row.parquet"))
    with pytest.raises(RecordError, match="cannot be read as Parquet"):
        list(read_rows(write(tmp_path, "bad.parquet", b"PAR1")))


# -- other ways to write records -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"data": ROWS}, id="under a key"),
        pytest.param({"version": 1, "edits": ROWS, "tags": ["x"]}, id="among other keys"),
        pytest.param({"my facts": ROWS}, id="under any key"),
        pytest.param({"my facts": ROWS, "about": {"by": "me"}}, id="under any key among others"),
        pytest.param({"train": {"data": ROWS}}, id="under two keys"),
        pytest.param({"version": 2, "data": {str(i): row for i, row in enumerate(ROWS)}}, id="by id under a key"),
        pytest.param({str(i): row for i, row in enumerate(ROWS)}, id="by id"),
        pytest.param({key: [row[key] for row in ROWS] for key in ROWS[0]}, id="columns"),
        pytest.param({key: {str(i): row[key] for i, row in enumerate(ROWS)} for key in ROWS[0]}, id="pandas"),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_one_object_that_holds_the_records(tmp_path, content, indent):
    path = write(tmp_path, "rows.json", json.dumps(content, indent=indent))
    records = load("custom", path).records
    assert [(r.request.prompt, r.request.target) for r in records] == [(r["prompt"], r["target"]) for r in ROWS]


def test_a_record_over_several_lines_is_one(tmp_path):
    row = {**ROWS[0], "locality": [{"prompt": "Bo was born in", "target": "Bonn"}]}
    (record,) = load("custom", write(tmp_path, "row.json", json.dumps(row, indent=2))).records
    assert record.request.prompt == ROWS[0]["prompt"] and len(record.probes) == 1


def test_several_lists_and_a_broken_object_say_so(tmp_path):
    with pytest.raises(RecordError, match="several lists, train, test; give one of them"):
        list(read_rows(write(tmp_path, "rows.json", json.dumps({"train": ROWS, "test": ROWS}))))
    with pytest.raises(RecordError, match=r"rows.json:4: .*cut off, or the JSON is broken"):
        list(read_rows(write(tmp_path, "rows.json", '{\n "data": [\n  {"prompt": "a",\n   "tar')))


PLAIN = '"prompt": "Ann is in", "target": "Oslo"'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "r.json",
            f'[{{{PLAIN}}},\n{{"id": 7, {PLAIN}, "target": "Rome"}}]',
            r":2: record '7', field 'target': stands twice",
        ),
        ("r.jsonl", f'{{{PLAIN}}}\n{{{PLAIN}, "prompt": "x"}}\n', ":2: record '1', field 'prompt': stands twice"),
        ("r.json", f'[{{{PLAIN}, "locality": [{{"prompt": "a", "prompt": "b"}}]}}]', ":1: record '0', field 'prompt'"),
        ("r.json", f'{{"data":\n[{{{PLAIN}, "target": "x"}}]}}', ":2: record '0', field 'target': stands twice"),
        ("r.json", f'{{"1": {{{PLAIN}}},\n"2": {{{PLAIN}, "target": "x"}}}}', ":2: record '2', field 'target'"),
        ("r.json", f'{{"1": {{{PLAIN}}},\n"1": {{{PLAIN}}}}}', ":2: the key '1' stands twice in the object"),
        ("r.json", f'{{{PLAIN},\n"target": "x"}}', ":2: the key 'target' stands twice in the object"),
        ("r.json", f'{{{PLAIN}, "locality": {{"prompt": "a", "prompt": "b"}}}}', ":1: record '0', field 'prompt'"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, name, content, message):
    with pytest.raises(RecordError, match=message):
        load("custom", write(tmp_path, name, content))


def test_a_record_with_a_key_twice_can_be_skipped(tmp_path):
    file = write(tmp_path, "rows.json", f'[{{{PLAIN}, "target": "x"}}, {{{PLAIN}}}]')
    loaded = load("custom", file, on_error="skip")
    assert [record.id for record in loaded.records] == ["1"] and len(loaded.skipped) == 1


@pytest.mark.parametrize("between", ["", "\n", ",\n"])
def test_objects_over_several_lines_one_after_another(tmp_path, between):
    file = write(tmp_path, "rows.json", between.join(json.dumps(row, indent=1) for row in ROWS))
    with pytest.raises(RecordError, match=r":[45]: another value, .* put the records in a list, .*\(JSON Lines\)"):
        load("custom", file)


def test_spaces_before_quotes_in_a_table(tmp_path):
    file = write(tmp_path, "rows.csv", 'prompt, target, paraphrases\nAnn is in, "Oslo, N", "[""Ann, she is in""]"\n')
    (record,) = load("custom", file).records
    assert record.request.target == "Oslo, N" and record.probes[0].prompt == "Ann, she is in"


def test_a_table_with_the_index_of_pandas_says_so(tmp_path):
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv")
    with pytest.raises(RecordError, match=r"rows.csv:1: .*may be pandas' index: write with to_csv\(…, index=False\)"):
        load("custom", tmp_path / "rows.csv")


def test_a_table_in_csv(tmp_path):
    text = 'id,prompt,target,paraphrases,source\r\n7,"Ann, of\nRome, is in",Oslo,"[""Ann is in"", ""She is in""]",\r\n'
    first, second = load("custom", write(tmp_path, "rows.csv", text + "x,Bo is in,1962,,web\n")).records
    assert (first.id, first.request.prompt, second.request.target) == ("7", "Ann, of\nRome, is in", "1962")
    assert [probe.prompt for probe in first.probes] == ["Ann is in", "She is in"] and second.probes == ()
    (record,) = load("custom", write(tmp_path, "rows.tsv", "prompt\ttarget\nBo, is in\tBonn\n")).records
    assert record.request.prompt == "Bo, is in"
    (record,) = load("custom", write(tmp_path, "other.csv", "\ufeffprompt;target\nBo, is in;Bonn\n")).records
    assert (record.request.prompt, record.request.target) == ("Bo, is in", "Bonn")


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("""['France has', "Paris's \\n"]""", ["France has", "Paris's \n"]),
        ("['France has'\n 'It has']", ["France has", "It has"]),  # of NumPy
        ("['France has', 3, nan]", ["France has", "3"]),
        ("('France has', 'It has')", ["('France has', 'It has')"]),
        ("['France has'", ["['France has'"]),
        ("['France' + x]", ["['France' + x]"]),
        ("[[INST]] France has", ["[[INST]] France has"]),
    ],
)
def test_a_cell_with_a_list_in_pandas_spelling(tmp_path, cell, texts):
    quoted = cell.replace('"', '""')
    file = write(tmp_path, "rows.csv", f'prompt,target,paraphrases\nAnn is in,Oslo,"{quoted}"\n')
    (record,) = load("custom", file).records
    assert [probe.prompt for probe in record.probes] == texts


QUESTIONS = [
    '[{"prompt": "Bo is in", "target": ["Bonn", "Bonna"]}, {"prompt": "Cy is in"}]',
    "[{'prompt': 'Bo is in', 'target': ['Bonn', 'Bonna']}, {'prompt': 'Cy is in', 'target': nan}]",
    "[{'prompt': 'Bo is in', 'target': ('Bonn', \"Bonna\")}\n {'prompt': 'Cy is in', 'target': None}]",  # of NumPy
]


@pytest.mark.parametrize("cell", QUESTIONS)
@pytest.mark.parametrize("kind", ["csv", "parquet", "json", "dictionary"])
def test_a_cell_with_a_list_of_objects_in_every_format(tmp_path, cell, kind):
    row = {"prompt": "Ann is in", "target": '["Oslo", "Kristiania"]', "locality": cell, "paraphrases": "['She is in']"}
    table = pd.DataFrame([row])
    if kind == "csv":
        table.to_csv(tmp_path / "rows.csv", index=False)
    elif kind == "parquet":
        table.to_parquet(tmp_path / "rows.parquet")
    elif kind == "json":
        write(tmp_path, "rows.json", json.dumps([row]))
    (record,) = load("custom", [row] if kind == "dictionary" else tmp_path / f"rows.{kind}").records
    assert (record.request.target, record.also) == ("Oslo", ("Kristiania",))
    asked = [(probe.kind, probe.prompt, probe.target, probe.also) for probe in record.probes[1:]]
    assert record.probes[0].prompt == "She is in"
    assert asked == [("locality", "Bo is in", "Bonn", ("Bonna",)), ("locality", "Cy is in", None, ())]


def test_a_text_that_only_looks_like_a_list_or_an_object_stays_a_text():
    row = {"prompt": '["a", "b"] is', "target": '{"a": 1}', "subject": '["a", "b"]', "paraphrases": "[x] is"}
    (record,) = load("custom", [row]).records
    assert (record.request.subject, record.request.target) == ('["a", "b"]', '{"a": 1}')
    assert record.probes[0].prompt == "[x] is"


def test_what_nothing_reads_inside_a_cell_is_named():
    row = {"prompt": "Ann is in", "target": "Oslo", "locality": "[{'prompt': 'Bo is in', 'targte': 'Bonn'}]"}
    assert list(load("custom", [row]).ignored) == ["locality.targte"]


def test_a_dot_reaches_into_an_object_in_a_cell(tmp_path):
    file = write(tmp_path, "rows.csv", "prompt,answer\nAnn is in,\"{'new': 'Oslo'}\"\n")
    (record,) = load("custom", file, fields={"target": "answer.new"}).records
    assert record.request.target == "Oslo"


def test_ids_that_a_table_turned_into_floats_are_whole_numbers(tmp_path):
    pd.DataFrame({**pd.DataFrame(ROWS[:2]), "id": [7, None]}).to_parquet(tmp_path / "rows.parquet")
    rows = [{**ROWS[0], "id": 7.0}, {**ROWS[1], "id": float("nan")}]
    for source in (tmp_path / "rows.parquet", write(tmp_path, "rows.json", json.dumps(rows)), rows):
        assert [record.id for record in load("custom", source)] == ["7", "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt target\na b\n", "rows.csv:1: the first line must name the columns"),
        ("prompt,prompt\na,b\n", "rows.csv:1: the first line must name the columns"),
        ("prompt,target\na,b,c\n", "rows.csv:2: 3 cells for 2 columns; put cells with a ',' in quotes"),
        ("prompt,target\n\n\na,b,c\n", "rows.csv:4: 3 cells for 2 columns"),
        ('prompt,target\n"a\nb",c\n\na,b,c\n', "rows.csv:5: 3 cells for 2 columns"),
        ('prompt,target\na,"b\n', "rows.csv:2: not a table .*correct it here"),
    ],
)
def test_a_table_that_is_broken(tmp_path, text, message):
    with pytest.raises(RecordError, match=message):
        load("custom", write(tmp_path, "rows.csv", text))


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("https://huggingface.co/datasets/zjunlp/KnowEdit", "hub:zjunlp/KnowEdit"),
        ("https://example.org/rows.json", "a web address is not read: download the file"),
        ("zjunlp/KnowEdit", "if it is a data set of the hub, it is read by hub:zjunlp/KnowEdit"),
    ],
)
def test_hub_ids_and_addresses_are_known_for_what_they_are(path, hint):
    with pytest.raises(RecordError, match=hint):
        load("custom", path)
