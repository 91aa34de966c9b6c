"""Runs, comparisons and studies."""
