"""Shipped priors: weights, cards and the recipes that made them."""
