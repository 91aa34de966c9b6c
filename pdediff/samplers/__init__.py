"""Samplers of diffusion models."""
