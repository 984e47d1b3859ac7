"""Inverse problems: y = A(x0) + sigma_n n with a diffusion prior, the exact posterior beside it."""
