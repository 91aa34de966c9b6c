"""Conditioning a denoiser on a likelihood."""
