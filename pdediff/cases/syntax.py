"""What a YAML parser says, in words that a user can act on.

The parser names its own states ("while parsing a block mapping expected <block end>"). We say what is wrong with the
line, and where the section or bracket that it does not fit begins.
"""

import re

from ruamel.yaml.error import MarkedYAMLError

SENTENCES = (  # what the parser says; what we say; whether the line to blame is the one where the trouble begins
    (
        r"flow (?:mapping|sequence) expected ',' or '(.)', but got '<stream end>'",
        "the bracket opened here is never closed: no '{0}'",
        True,
    ),
    (
        r"flow (?:mapping|sequence) expected ',' or '(.)'",
        "expected ',' or '{0}', to go on with or to close the bracket of line {line}",
        False,
    ),
    (r"quoted scalar found unexpected end of stream", "the quote opened here is never closed", True),
    (
        r"simple key could not find expected ':'",
        "no ':' after the key, or a quote or bracket that is not closed",
        True,
    ),
    (
        r"block (?:mapping|collection|sequence) expected <block end>",
        "does not fit the section that begins on line {line}: check the indentation, quotes and brackets",
        False,
    ),
    (
        r"mapping values are not allowed here",
        "a ':' that is not expected here: check the indentation and the line above, or put text with ':' in quotes",
        False,
    ),
    (
        r"sequence entries are not allowed here",
        "a '-' that is not expected here: a list begins on the line below its key",
        False,
    ),
    (r"expected the node content, but found '<stream end>'", "the file ends where a value is expected", False),
    (r"expected the node content, but found '(.+)'", "expected a value, found '{0}'", False),
    (r"found character '\\t' that cannot start any token", "a tab; indent with spaces", False),
    (r"found character '(.)' that cannot start any token", "text may not begin with '{0}'; put it in quotes", False),
    (r"found unknown escape character '(.)'", "unknown '\\{0}' in double quotes; use single quotes", False),
    (r"scanning an (?:anchor|alias) expected", "text that begins with '&' or '*' must be in quotes", False),
    (r"expected '<document start>', but found", "text before the first 'key: value', or a wrong indentation", False),
    (r"expected a single document", "a second document begins here; a file holds one", False),
    (
        r"found undefined alias '?(.+?)'?$",
        "alias '*{0}' has no anchor '&{0}' above it; put text with '*' in quotes",
        False,
    ),
)


def explained(error: MarkedYAMLError) -> tuple[int, str]:
    """The line (from 1) and the sentence for a parser's error."""
    said = " ".join(f"{error.context or ''} {error.problem or ''}".split())
    here = error.problem_mark or error.context_mark
    begun = error.context_mark or here
    for pattern, sentence, at_beginning in SENTENCES:
        found = re.search(pattern, said)
        if found:
            line = _line(begun if at_beginning else here)
            return line, sentence.format(*found.groups(), line=_line(begun))
    return _line(here), said


def _line(mark: object) -> int:
    return int(getattr(mark, "line", 0)) + 1
