"""What the numbers of `metrics.json` say, in a sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pdediff.report.tables import QUANTITIES, with_error

WORDS = {
    ("a", "sample_error_rate"): (
        "Wrong cells, one sample",
        "In a single sample, {} of the cells are in the wrong phase.",
    ),
    ("a", "error_rate"): (
        "Wrong cells, best guess",
        "With the phase of the posterior mean in every cell, {} of the cells are wrong.",
    ),
    ("a", "sample_relative_l2"): (
        "Error of a, one sample",
        "A single sample of a is off by {} of the truth's size (relative L2 norm).",
    ),
    ("a", "relative_l2"): (
        "Error of a, posterior mean",
        "The posterior mean of a is off by {}; in this norm it beats single samples.",
    ),
    ("a", "crps"): (
        "CRPS of a",
        "Distance of the samples from the true a, spread included, in its standard deviations: {}; 0 is perfect.",
    ),
    ("a", "coverage_90"): (
        "90 % intervals of a",
        "90 % intervals hold the true a at {} of the cells; 90 % is honest, less is overconfident.",
    ),
    ("a", "brier"): (
        "Brier score of the phases",
        "Phase probabilities are off by {} in mean square; 0 is perfect, 0.25 is tossing a coin.",
    ),
    ("u", "sample_relative_l2"): (
        "Error of u, one sample",
        "A single sample of u is off by {} of the truth's size (relative L2 norm).",
    ),
    ("u", "relative_l2"): ("Error of u, posterior mean", "The posterior mean of u is off by {}."),
    ("u", "crps"): (
        "CRPS of u",
        "Distance of the samples from the true u, spread included, in its standard deviations: {}; 0 is perfect.",
    ),
    ("u", "coverage_90"): (
        "90 % intervals of u",
        "90 % intervals hold the true u at {} of the cells; 90 % is honest, less is overconfident.",
    ),
    ("observations", "chi2"): (
        "Misfit of the data, χ²",
        "Squared misfits of the data are {} times the noise variance; 1 is right, far above it they are not explained.",
    ),
    ("pde", "relative_residual"): (
        "Residual of the PDE",
        "No sample violates the equation by more than {} of its right-hand side.",
    ),
    ("cost", "seconds_per_sample"): ("Seconds a sample", "A sample took {} s."),
}
"""(title, sentence) of the numbers of `QUANTITIES` that the report shows, by section and key."""


UNEXPLAINED = 10.0  # chi² above which samples are no answer to the data


@dataclass(frozen=True)
class Reading:
    """One row of the report's table: title, sentence, and the number of every variant ("–" where there is none)."""

    title: str
    sentence: str
    cells: list[str]


def readings(summary: Mapping[str, Any]) -> list[Reading]:
    """Return the rows for the content of a `metrics.json` of a run, a comparison, or a comparison on many problems.

    The last has averages, which bring their standard errors. Numbers that no variant has make no row.
    """
    variants, averages = summary["variants"], summary.get("averages", {})
    rows = []
    for section, key, _, show in QUANTITIES:
        if (section, key) not in WORDS:
            continue
        title, sentence = WORDS[section, key]
        values = {name: entry[section][key] for name, entry in variants.items() if entry[section][key] is not None}
        if not values:
            continue
        texts = {}
        for name, value in values.items():
            error = averages.get(name, {}).get(section, {}).get(key, {}).get("standard_error")
            texts[name] = with_error(value, error, show)
        rows.append(Reading(title, sentence.format(_range(values, texts)), [texts.get(name, "–") for name in variants]))
    return rows


def _range(values: Mapping[str, float], texts: Mapping[str, str]) -> str:
    """Return the one number, or the smallest and the largest of several with their variants."""
    low, high = min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])
    if len(values) == 1 or texts[low] == texts[high]:
        return texts[low]
    return f"{texts[low]} ({low}) to {texts[high]} ({high})"


def cautions(summary: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each variant of a `metrics.json` whose samples do not explain the data."""
    sentences = []
    for name, entry in summary["variants"].items():
        chi2 = entry["observations"]["chi2"]
        if chi2 is not None and chi2 > UNEXPLAINED:
            who = "the samples do" if name == "run" else f"the samples of {name} do"
            sentences.append(
                f"{who} not explain the data (chi² {chi2:.3g}, where 1 is right): check the units of the boundary, the "
                "source, sigma and the prior"
            )
    return sentences
