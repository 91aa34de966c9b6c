"""The report: one valid HTML file that needs nothing else and says what the numbers say."""

import base64
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from posteriors import posterior

from pdediff.posterior.metrics import metrics
from pdediff.posterior.result import Posterior
from pdediff.report.page import write_report
from pdediff.report.readings import readings
from pdediff.report.words import in_words, inline

VOID = {"meta", "img", "br", "hr", "link", "input"}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CASE: dict[str, Any] = {
    "pde": "darcy",
    "grid": {"shape": [12, 16], "domain": {"x": [0.0, 1200.0], "y": [0.0, 600.0], "unit": "m"}},
    "boundary": {
        "left": {"value": "12 + y/600"},
        "right": {"value": 8.0},
        "bottom": {"flux": 0.0},
        "top": {"flux": 0.1},
    },
    "source": {"value": 0.0, "wells": [{"x": 420.0, "y": 390.0, "rate": -180.0}]},
    "prior": {"law": "log-normal", "mean": 3.0, "variogram": {"kind": "matern", "range": 200.0}, "units": "m²/d"},
    "observations": {
        "truth": {"seed": 7, "refine": 2},
        "sensors": [{"field": "u", "count": 9, "placement": "uniform", "seed": 1, "name": "heads"}],
        "noise": {"sigma": 0.02, "seed": 2},
        "units": "m",
    },
    "physics": {"kind": "residual", "relative": 0.25},
    "guidance": {"method": "proximal", "accuracy": "normal"},
    "sampling": {"samples": 20, "seed": 3, "batch": 20},
    "compare": {"none": {"physics": "none"}, "a&b": {"prior": {"law": "log-normal", "mean": None}}},
}
MANIFEST = {"hash": "0123456789", "device": "cpu", "seconds": {"sampling": 12.5}, "versions": {"pdediff": "0.1.0"}}


class Page(HTMLParser):
    """A page's tags, checked to be balanced, and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += " ".join(data.split()) + " "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(folder: Path, posteriors: dict[str, Posterior], name: str = "aquifer", **changes: Any) -> tuple[Page, str]:
    """The report of posteriors, read back, and its source."""
    figure = folder / "fields.png"
    figure.write_bytes(PIXEL)
    summary = {"case": name, "variants": {key: metrics(value) for key, value in posteriors.items()}}
    manifests, figures = dict.fromkeys(posteriors, MANIFEST), {key: [figure] for key in posteriors}
    write_report(folder / "report.html", CASE | changes, posteriors, summary, manifests, figures)
    source = (folder / "report.html").read_text(encoding="utf-8")
    return Page(source), source


@pytest.mark.parametrize(
    "changes",
    [{}, {"two_phase": False}, {"known": False}, {"m": 0}, {"n": 1}, {"n": 1, "m": 0, "known": False}],
    ids=str,
)
def test_every_run_has_a_valid_page_that_needs_nothing_else(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Tags are balanced, pictures inside with alternative texts, no script, no link; one heading of the first level."""
    result, source = page(tmp_path, {"run": posterior(**changes)})
    assert len(result.all("h1")) == 1
    (image,) = result.all("img")
    assert image["alt"]
    assert base64.b64decode((image["src"] or "").removeprefix("data:image/png;base64,")) == PIXEL
    assert not result.all("script")
    assert not result.all("link")
    assert "http" not in source
    assert all(attributes.get("scope") for attributes in result.all("th"))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["fields.png", "report.html"]


def test_what_users_wrote_is_escaped(tmp_path: Path) -> None:
    """Names, units and expressions with < and & appear as they are, in text and in attributes, and make no tags."""
    result = posterior()
    result.units["u"] = "<script>"
    name = 'x < 1 & "y"'
    found, source = page(
        tmp_path, {name: result, "run": posterior()}, name=name, boundary={"left": {"value": "x<y & 1"}}
    )
    assert not found.all("script")
    assert name in found.text
    assert "u = x<y & 1 [m]" in found.text
    assert "<script>" not in source
    assert any((image["alt"] or "").startswith(name) for image in found.all("img"))


def test_a_run_says_what_was_asked_and_what_came_out(tmp_path: Path) -> None:
    """The case in words, a sentence with the number of the metrics, misfits of the first data, provenance, YAML."""
    run = posterior(m=30)
    found, _ = page(tmp_path, {"run": run})
    entry = metrics(run)
    for text in (
        "x from 0 to 1200 m, y from 0 to 600 m; 16 × 12 cells",
        "u satisfies the equation up to a stated error of the model, relative 0.25",
        f"90 % intervals hold the true u at {100 * entry['u']['coverage_90']:.1f} % of the cells",
        "The first 12 of 30",
        "0123456789",
        "kind: residual",
    ):
        assert text in found.text
    misfit = run.observations.standardised_misfit().mean(axis=0)[0]
    assert f"{misfit:+.2f}".replace("-", "\N{MINUS SIGN}") in found.text
    assert "Variants" not in found.text


def test_a_comparison_has_a_column_a_variant(tmp_path: Path) -> None:
    """What each variant changes, its numbers side by side, a sentence with the range; figures under their names."""
    found, _ = page(tmp_path, {"none": posterior(), "a&b": posterior(n=5)})
    assert "none physics none" in found.text
    assert "a&b prior (law log-normal, mean removed)" in found.text
    assert "2 variants compared on the same 9 measurements" in found.text
    assert "misfit / σ, a&b" in found.text
    assert [image["alt"].split(":")[0] for image in found.all("img") if image["alt"]] == ["none", "a&b"]


def test_problems_and_failures(tmp_path: Path) -> None:
    """On many problems: means ± standard errors, the paired differences, what failed and why; no posteriors."""
    mean = {"u": {"relative_l2": {"mean": -0.02, "standard_error": 0.005, "count": 3}}}
    average = {"u": {"relative_l2": {"mean": 0.1, "standard_error": 0.01, "count": 3}}}
    entry = metrics(posterior(known=False)) | {"u": {**metrics(posterior())["u"], "relative_l2": 0.1}}
    summary = {
        "case": "aquifer",
        "problems": [1, 2, 3],
        "variants": {"one": entry, "two": entry},
        "averages": {"one": average, "two": average},
        "differences": [{"from": "one", "of": "two", "mean": mean}],
        "failed": {"problem-2/two": "CG did not converge"},
    }
    write_report(tmp_path / "report.html", CASE, {}, summary, {}, {})
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "2 variants compared on 3 problems" in text
    assert "10.0 ± 1.0 %" in text
    assert "\N{MINUS SIGN}2.00 ± 0.50 %*" in text
    assert "problem-2/two has no samples: CG did not converge" in text


def test_readings_name_the_extremes_and_leave_out_what_is_not_known() -> None:
    """One number stands alone, of several the smallest and the largest are named; nulls make no row, or a dash."""
    known, unknown = metrics(posterior()), metrics(posterior(known=False))
    rows = {row.title: row for row in readings({"variants": {"run": unknown}})}
    assert list(rows) == ["Misfit of the data, χ²", "Residual of the PDE"]
    better = {**known, "u": {**known["u"], "relative_l2": 0.01}}
    worse = {**known, "u": {**known["u"], "relative_l2": 0.05}}
    rows = {row.title: row for row in readings({"variants": {"none": worse, "some": better, "blind": unknown}})}
    row = rows["Error of u, posterior mean"]
    assert row.cells == ["5.00 %", "1.00 %", "–"]
    assert "1.00 % (some) to 5.00 % (none)" in row.sentence


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("boundary", {"left": {"value": 0.0}, "right": {"value": 0.0}}, "u = 0 m on all sides"),
        ("boundary", CASE["boundary"], "left: u = 12 + y/600 [m]; right: u = 8 m; bottom: no flow; top: inflow = 0.1"),
        ("boundary", {"left": {"value": [1.0, 2.0]}}, "u = given face by face on all sides"),
        ("source", {"value": 1.0, "wells": []}, "f = 1"),
        ("source", CASE["source"], "well at (420, 390) with rate -180"),
        ("source", {"value": 0.0, "wells": CASE["source"]["wells"] * 7}, "7 wells"),
        ("prior", {"name": "two-phase-64", "units": ""}, "the trained network two-phase-64"),
        ("prior", {"weights": {"name": "mine.safetensors", "sha256": "0"}}, "the trained network mine.safetensors"),
        (
            "prior",
            {"a": {"law": "log-normal", "mean": 1}, "u": {"law": "gaussian", "mean": "x"}},
            "log-normal a, mean 1; gaussian u, mean x",
        ),
        ("prior", CASE["prior"], "log-normal a, mean 3, variogram (kind matern, range 200)"),
        ("observations", {"file": {"name": "h.csv", "sha256": "0"}, "units": "m"}, "measurements from h.csv"),
        ("physics", "solver", "u solves the equation exactly, in every sample"),
        ("physics", "surrogate", "surrogate"),
        ("guidance", {"method": "dps", "zeta": 1.0}, "dps, zeta 1"),
    ],
)
def test_cases_in_words(key: str, value: Any, words: str) -> None:
    """Every part of a resolved case has its words; a name that has none stands for itself."""
    titles = {"boundary": "Boundary", "source": "Source", "prior": "Prior", "observations": "Data"}
    titles |= {"physics": "Physics", "guidance": "Method"}
    assert dict(in_words(CASE | {key: value}))[titles[key]] == words


def test_plain_data_on_one_line() -> None:
    """Numbers in their shortest form, sections in brackets, a removed key said so."""
    assert inline({"a": 1.0, "b": {"c": [1, 2.5]}, "d": None}) == "a 1, b (c [1, 2.5]), d removed"
