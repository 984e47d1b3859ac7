"""diffgeo."""
