"""Templates of --format: what docker makes of them, where they are wrong, and that any text is a template or an error."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.cli.formats import listed, shown
from builder.cli.inspect import Inspected, inspected_object
from builder.errors import UsageError
from builder.gotemplate.evaluate import Template
from builder.gotemplate.values import Fields

# What `docker image inspect -f` (client 28.2, engine 20.10) showed of an image that pybuild handed to it; null for an error.
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "gotemplate" / "docker.json").read_text())
IMAGE = inspected_object(Inspected(GOLDEN["config"].encode(), tuple(GOLDEN["tags"]), (), 1982366))


@pytest.mark.parametrize(("source", "expected"), GOLDEN["cases"])
def test_as_docker(source: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="the template is wrong at "):
            Template(source).render(IMAGE)
    else:
        assert Template(source).render(IMAGE) == expected


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("{{.Id", "column 1: the action is not closed", "it ends with }}"),
        ("a {{.Idd}}", "column 5: there is no field '.Idd'", "did you mean 'Id'?"),
        ("{{.Os}}\n {{uper .Os}}", "line 2, column 4: there is no function 'uper'", "did you mean 'upper'?"),
        ("{{Id}}", "column 3: there is no function 'Id'", "a field has a dot: .Id"),
        ("{{if .Id}}", "column 6: 'if' has no end", "it ends with {{end}}"),
        ("x{{end}}", "column 2: unexpected '{{end}}'", "there is nothing that it ends"),
        ("{{.Id}}{{else}}", "column 8: unexpected '{{else}}'", "there is nothing that it ends"),
        ('{{"abc}}', "column 3: unexpected '\"'", "the text in quotes is not closed"),
        ("{{$x}}", "column 3: there is no variable '$x'", None),
        ('{{define "x"}}{{end}}', "column 1: 'define' is not known here", "it needs a template of Go's own"),
        ("{{template .}}", "column 1: 'template' is not known here", "it needs a template of Go's own"),
        ("{{call .Id}}", "column 1: 'call' is not known here", "it needs a template of Go's own"),
        ("{{len 3}}", "column 3: len of a number", None),
        ("{{index .RepoTags 5}}", "column 3: there is no element 5, but 2 in all", None),
        ('{{eq 1 "a"}}', "column 3: a number is compared with a text", None),
        ("{{upper}}", "column 3: upper does not take 0 values", None),
        ("{{.Config.Healthcheck.Test}}", "column 3: '.Test' is asked for of what is not there", None),
        ("{{break}}", "column 1: 'break' outside of a range", None),
        ("{{/* x }}", "column 3: the comment is not closed", None),
        ('{{printf "%99999999d" 1}}', "column 3: printf with a width that is too big", None),
        ("{{range .Id}}{{end}}", "column 9: a range over what is no list and no map", None),
        ("{{range 9999999}}{{end}}", "column 9: a range over a number that is too big", None),
        ("{{" + "(" * 1000 + "}}", "column 103: it is nested too deeply", None),
        ("{{if true}}" * 1000, "column 1112: it is nested too deeply", None),
    ],
)
def test_errors_say_where(source: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        Template(source).render(IMAGE)
    assert (caught.value.message, caught.value.hint) == (f"the template is wrong at {message}", hint)


PARTS = [
    *(
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        ".",
        "$",
        "$x",
        ":=",
        "=",
        "|",
        "(",
        ")",
        ",",
        "if",
        "else",
        "end",
        "range",
        "with",
        "break",
    ),
    *(
        "len",
        "index",
        "eq",
        "printf",
        "and",
        "json",
        "join",
        ".Id",
        ".RepoTags",
        ".Config",
        '"a"',
        "`b`",
        "'c'",
        "1",
        "-2.5",
        "nil",
    ),
    *(
        "true",
        "/*",
        "*/",
        "\n",
        "x",
        '"%s"',
        "slice",
        "continue",
        "define",
        "\\",
        '"',
        "{{end}}",
        "{{if .Id}}",
        "{{range .RepoTags}}",
    ),
]


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join) | st.text(string.printable, max_size=40))
def test_any_text_is_a_template_or_an_error_with_a_place(source: str) -> None:
    try:
        assert isinstance(Template(source).render(IMAGE), str)
    except UsageError as error:
        assert error.message.startswith("the template is wrong at ")


@given(st.text(max_size=60).filter(lambda text: "{{" not in text))
def test_what_is_no_action_stays(text: str) -> None:
    assert Template(text).render(IMAGE) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_is_what_it_was(value: object) -> None:
    assert json.loads(Template("{{json .X}}").render(Fields({"X": value}))) == value


HEADS = {"ID": "IMAGE ID", "Size": "SIZE", "Tag": "TAG"}
ROWS = [{"ID": "abc", "Size": "1.0 MB", "Tag": "v1"}, {"ID": "defghi", "Size": "2 B", "Tag": "<none>"}]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (None, "IMAGE ID   TAG\nabc        v1\ndefghi     <none>\n"),
        ("table", "IMAGE ID   TAG\nabc        v1\ndefghi     <none>\n"),
        (r"table {{.Tag}}\t{{.Size}}", "TAG      SIZE\nv1       1.0 MB\n<none>   2 B\n"),
        ("{{.ID}}", "abc\ndefghi\n"),
        (r"{{.ID}}\t{{.Tag}}\n", "abc\tv1\n\ndefghi\t<none>\n\n"),
        (r'{{printf "%s\t%s" .ID .Tag}}', "abc\tv1\ndefghi\t<none>\n"),
        ("json", '{"ID":"abc","Size":"1.0 MB","Tag":"v1"}\n{"ID":"defghi","Size":"2 B","Tag":"<none>"}\n'),
        ("{{json .}}", '{"ID":"abc","Size":"1.0 MB","Tag":"v1"}\n{"ID":"defghi","Size":"2 B","Tag":"<none>"}\n'),
    ],
)
def test_rows(form: str | None, expected: str) -> None:
    assert listed(ROWS, HEADS, ("ID", "Tag"), form) == expected
    assert listed([], HEADS, ("ID", "Tag"), form).count("\n") == ("table" in (form or "table"))


def test_objects() -> None:
    objects = [Fields({"A": 1, "B": ["é"]})]
    assert shown(objects, None) == '[\n    {\n        "A": 1,\n        "B": [\n            "é"\n        ]\n    }\n]\n'
    assert shown(objects, "json") == '[{"A":1,"B":["é"]}]\n'
    assert shown(objects * 2, "{{.A}}") == "1\n1\n"
