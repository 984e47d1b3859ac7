"""One module a command: `main(cfg)` under Hydra, or `main(arguments)` for the plain ones."""
