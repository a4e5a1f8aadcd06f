"""The figures in README and docs are those of ``docs/results``."""

import pytest

from scripts.docs import figures, prose, results, tables


def test_tables_and_sentences_agree_with_the_results():
    assert figures.differing() == []


def test_every_table_stands_in_a_document():
    texts = "".join(path.read_text() for path in figures.documents())
    assert {name for name in tables.TABLES if f"<!-- figures: {name} -->" in texts} == set(tables.TABLES)


def test_a_changed_figure_is_noticed_and_written(monkeypatch):
    page = figures.ROOT / "docs" / "results.md"
    text = page.read_text()
    changed = [dict(row) for row in results.read("compare_fashion_mnist")]
    for row in changed:
        if row["name"] == "float_25_38_49":
            row["accuracy_float"] = 0.5
        if row["name"] == "ternary":
            row["model_bytes"] = 1234
    real = results.read
    monkeypatch.setattr(results, "read", lambda name: changed if name == "compare_fashion_mnist" else real(name))
    assert "| 1,234 |" in figures.with_tables(text)
    words = [line for line in figures.differing() if line.startswith("docs/results.md")]
    assert words == [
        "docs/results.md: tables differ",
        "docs/results.md: expected: trained from scratch for as long, reaches 50.00 % (seed 0;",
    ]


def test_a_row_that_is_missing_is_named():
    with pytest.raises(KeyError, match=r"compare_nmnist4\.json has no row with"):
        results.rows("compare_nmnist4", name="no such row")


def test_readme_and_every_page_of_results_quote_figures():
    assert {page for page, _ in prose.sentences()} == {
        "README.md",
        "docs/results.md",
        "docs/speed.md",
        "docs/trust.md",
    }
