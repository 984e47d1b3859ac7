"""The commands `diffgeo data ...`."""
