"""A law, a sampler, a metric, a network and a figure for diffgeo: docs/extending.md is the tour."""
