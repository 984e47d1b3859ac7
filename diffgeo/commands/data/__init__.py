"""The commands `diffgeo data ...`, and what they share: the set that a line names."""
