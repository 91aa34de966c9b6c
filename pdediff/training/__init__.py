"""Training denoisers."""
