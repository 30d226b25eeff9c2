"""A table in three notations."""

from trmrl.report.markup import Table

TABLE = Table(["run", "steps", "score"], [["a<b", 12_000, "-1.5 (-2.0 to 1.0)"], ["c", 7, ""]])


def test_markdown():
    assert TABLE.markdown().splitlines() == [
        "| run | steps | score |",
        "|---|---|---|",
        "| a<b | 12,000 | -1.5 (-2.0 to 1.0) |",
        "| c | 7 |  |",
    ]


def test_html_escapes_text_and_marks_numbers():
    text = TABLE.html()
    assert "<td>a&lt;b</td>" in text and "a<b" not in text
    assert '<td class="number">12,000</td><td class="number">-1.5 (-2.0 to 1.0)</td>' in text
    assert "<td></td>" in text


def test_csv_keeps_numbers_as_they_are():
    assert TABLE.csv().splitlines()[1:] == ["a<b,12000,-1.5 (-2.0 to 1.0)", "c,7,"]
