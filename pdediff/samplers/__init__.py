"""Samplers: from pure noise to x_0 along falling noise levels, for any denoiser, with data or without."""
