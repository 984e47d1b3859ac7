"""One module a command, of two words in the folder of the first.

Each has `main(cfg)` under Hydra, or `main(arguments)` for the plain ones.
"""
