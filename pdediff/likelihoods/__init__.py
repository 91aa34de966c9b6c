"""Likelihoods: observation operators, noise models, physics."""
