"""Denoisers E[x_0 | x_t]: closed form and networks."""
