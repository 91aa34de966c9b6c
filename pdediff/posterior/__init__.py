"""Posterior samples: their container, file and metrics."""
