"""pdediff: PDE inverse problems with diffusion models."""

__version__ = "0.1.0"
