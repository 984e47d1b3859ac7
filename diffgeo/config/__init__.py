"""From words to objects. Empty, so that a command line starts without Hydra and torch."""
