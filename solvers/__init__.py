"""Numerical PDE solvers and residuals (numpy, scipy, torch; nothing of diffusion)."""
