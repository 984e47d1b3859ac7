"""The commands `diffgeo theory ...`."""
