"""What lies on disk and survives a kill. Empty, so that a command line starts without torch."""
