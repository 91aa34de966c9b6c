"""Random fields, coefficients and data."""
