"""Exact denoisers: pure functions of (x, sigma) and the parameters of a law, in float64.

Each one returns E[x0 | x0 + sigma z = x] with an error far below sigma. `exact` wraps one as a
`core.Denoiser`.
"""
