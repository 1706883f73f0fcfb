"""Which layer stands for which: the table has all of both, each once, in their order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.verify.alignment import LayerLine, align, plain_line

layers = st.lists(
    st.builds(LayerLine, st.sampled_from("abcdef"), st.sampled_from(["", "RUN x", "RUN y", "COPY z"])), max_size=8
)


@given(layers, layers)
def test_all_layers_are_there_in_order(a: list[LayerLine], b: list[LayerLine]) -> None:
    pairs = align(a, b)
    assert [pair.a for pair in pairs if pair.a is not None] == list(range(len(a)))
    assert [pair.b for pair in pairs if pair.b is not None] == list(range(len(b)))
    for pair in pairs:
        assert bool(pair.by) == (pair.a is not None and pair.b is not None)
        if pair.a is not None and pair.b is not None:
            assert (pair.by == "diff-id") == (a[pair.a].diff_id == b[pair.b].diff_id) or pair.by != "diff-id"
            assert pair.by != "history" or plain_line(a[pair.a].line) == plain_line(b[pair.b].line) != ""


@given(layers)
def test_an_image_is_like_itself(a: list[LayerLine]) -> None:
    assert [(pair.a, pair.b, pair.by) for pair in align(a, a)] == [(n, n, "diff-id") for n in range(len(a))]


def test_a_layer_between_is_seen() -> None:
    a = [LayerLine("1", "FROM x"), LayerLine("2", "RUN a"), LayerLine("3", "RUN b")]
    b = [LayerLine("1", "FROM x"), LayerLine("9", "RUN new"), LayerLine("8", "RUN a"), LayerLine("3", "RUN b")]
    assert [tuple(pair)[:3] for pair in align(a, b)] == [
        (0, 0, "diff-id"),
        (None, 1, ""),
        (1, 2, "history"),
        (2, 3, "diff-id"),
    ]


def test_a_step_that_was_changed_stands_for_what_it_was() -> None:
    a = [LayerLine("1", "FROM x"), LayerLine("2", "RUN a"), LayerLine("3", "RUN b")]
    b = [LayerLine("1", "FROM x"), LayerLine("8", "RUN a2"), LayerLine("3", "RUN b")]
    assert [tuple(pair)[:3] for pair in align(a, b)] == [(0, 0, "diff-id"), (1, 1, "place"), (2, 2, "diff-id")]


def test_builders_write_one_line_in_many_ways() -> None:
    lines = ["RUN make", "RUN /bin/sh -c make # buildkit", "/bin/sh -c make", "RUN  make"]
    assert {plain_line(line) for line in lines} == {"RUN make"}
    assert plain_line("/bin/sh -c #(nop) COPY file:abc in / ") == "COPY file:abc in /"
    assert plain_line("COPY . / # buildkit") == "COPY . /"
