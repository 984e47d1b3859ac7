"""What the hardware asks for. Empty, so that `import diffgeo` stays without torch."""
