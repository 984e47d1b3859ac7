"""`python -m diffgeo` is `diffgeo`."""

from diffgeo.cli import main

main()
