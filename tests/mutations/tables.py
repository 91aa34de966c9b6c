"""Changes to a CSV: its header, its cells, its delimiters, its bytes, and files that are no CSV."""

import random
import re
from collections.abc import Iterator

CELLS = (
    *("", "nan", "-inf", "1e400", "0", "-1", "1e-320", "1e30", "1_0", "12,5", '"12,5"', "12.5 m", "abc", "٣", "0x10"),
    *("TRUE", "\x07", '"', '"a\nb"', "x" * 5000, "=1+1", "None", " 3 ", "u", "a", "p"),
)
FOREIGN = {
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 20,
    "zip": b"PK\x03\x04\x14\0\x06\0" + bytes(range(256)),
    "parquet": b"PAR1\x15\x04\x15\0" + b"abc" * 50 + b"PAR1",
    "zeros": bytes(4096),
    "YAML": b"pde: darcy\ngrid:\n  shape: [8, 8]\n",
    "JSON": b'{"x": [1, 2], "y": [1, 2]}\n',
    "HTML": b"<!DOCTYPE html>\n<html><body>404 not found</body></html>\n",
}


def table_mutations(table: str, rng: random.Random) -> Iterator[tuple[str, str | bytes]]:
    """(name, new content) of everything done to a CSV."""
    lines = table.splitlines()
    head = next(k for k, line in enumerate(lines) if not line.startswith("#"))
    columns = lines[head].split(",")

    def with_line(k: int, line: str) -> str:
        return "\n".join([*lines[:k], line, *lines[k + 1 :]]) + "\n"

    for j, column in enumerate(columns):
        for new in (column[:-1], column.upper(), column + " ", "", "time", "depth", rng.choice(columns), f'"{column}"'):
            yield f"column {column} -> {new!r}", with_line(head, ",".join([*columns[:j], new, *columns[j + 1 :]]))
        without = [",".join(cell for i, cell in enumerate(line.split(",")) if i != j) for line in lines[head:]]
        yield f"without column {column}", "\n".join([*lines[:head], *without]) + "\n"
        for new in CELLS:
            k = rng.randrange(head + 1, len(lines))
            cells = lines[k].split(",")
            yield f"{column} of line {k + 1} = {new[:20]!r}", with_line(k, ",".join([*cells[:j], new, *cells[j + 1 :]]))
    for name, delimiter in (("semicolons", ";"), ("tabs", "\t"), ("spaces", " "), ("bars", "|")):
        yield name, table.replace(",", delimiter)
    yield "decimal commas", re.sub(r"(\d)\.(\d)", r"\1,\2", table).replace(",u,", ";u;")
    k = rng.randrange(head + 1, len(lines))
    yield "a short row", with_line(k, "1,2,u")
    yield "a long row", with_line(k, lines[k] + ",1,2")
    yield "a trailing comma", with_line(k, lines[k] + ",")
    yield "the header again", with_line(k, lines[head])
    yield "a comment", with_line(k, "  # " + lines[k])
    yield "an open quote", with_line(k, '"' + lines[k])
    yield (
        "quoted",
        "\n".join(lines[:head] + [",".join(f'"{cell}"' for cell in line.split(",")) for line in lines[head:]]),
    )
    yield "header only", "\n".join(lines[: head + 1]) + "\n"
    yield "no header", "\n".join(lines[head + 1 :]) + "\n"
    yield "no newline at the end", table.rstrip("\n")
    yield "a row twice", table + lines[-1] + "\n"
    yield "a long line", with_line(k, lines[k] + "x" * 2_000_000)
    yield "empty", ""
    yield "comments only", "# a\n# b\n"
    yield from FOREIGN.items()
    yield "UTF-16", table.encode("utf-16")
    yield "byte-order mark", b"\xef\xbb\xbf" + table.encode()
    yield "CRLF", table.replace("\n", "\r\n")
    yield "CR", table.replace("\n", "\r")
    data = table.encode()
    for _ in range(10):
        cut, at, bit = rng.randrange(len(data)), rng.randrange(len(data)), rng.randrange(8)
        yield f"truncated after {cut} bytes", data[:cut]
        yield f"bit {bit} of byte {at} flipped", data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        yield f"NUL at byte {at}", data[:at] + b"\0" + data[at:]
