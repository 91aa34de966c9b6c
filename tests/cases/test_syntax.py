"""What is not YAML: the line to look at, and what to do there, in words that are not a parser's."""

import pytest

from pdediff.cases.reader import parse_yaml
from pdediff.solvers.errors import InputError


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [1, 2\n\n", 2, "the bracket opened here is never closed: no ']'"),
        ("a: 1\nb: {x: 1\n", 2, "the bracket opened here is never closed: no '}'"),
        ("a: [1, 2\nb: 3\n", 2, "expected ',' or ']', to go on with or to close the bracket of line 1"),
        ("a: {x: 1, y: [2}\n", 1, "expected ',' or ']', to go on with or to close the bracket of line 1"),
        ("a: 1\nb: 'text\nc: 1\n", 2, "the quote opened here is never closed"),
        ("a: 1\nb 2\nc: 3\n", 2, "no ':' after the key, or a quote or bracket that is not closed"),
        ("a:\n  b: 1\n c: 2\n", 3, "does not fit the section that begins on line 1: check the indentation"),
        ("a: 1\n  b: 2\n", 2, "a ':' that is not expected here: check the indentation and the line above"),
        ("a\nb: 2\n", 2, "a ':' that is not expected here: check the indentation and the line above"),
        ("a: - 1\n", 1, "a '-' that is not expected here: a list begins on the line below its key"),
        ("a:\n\tb: 1\n", 2, "a tab; indent with spaces"),
        ("a: [,]\n", 1, "expected a value, found ','"),
        ("a: [", 1, "the file ends where a value is expected"),
        ("a: @b\n", 1, "text may not begin with '@'; put it in quotes"),
        ('a: "\\q"\n', 1, "unknown '\\q' in double quotes; use single quotes"),
        ("a: & b\n", 1, "text that begins with '&' or '*' must be in quotes"),
        ("a: *b\n", 1, "alias '*b' has no anchor '&b' above it"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here; a file holds one"),
        ("# a\n- b\nc: 1\n", 3, "does not fit the section that begins on line 2"),
    ],
)
def test_sentence(text: str, line: int, message: str) -> None:
    """Where the trouble begins if it has a beginning, else where it shows."""
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "case.yaml")
    assert str(caught.value).startswith(f"case.yaml:{line}: not YAML: {message}")
    assert "while" not in str(caught.value)
