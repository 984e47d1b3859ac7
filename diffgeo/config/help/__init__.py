"""What `--help` and `diffgeo help` say: read from the yaml of conf/ and from docstrings."""
