"""The geometry of sampling paths: maths that takes a `Trajectory` or a `Simulation`, never a
config."""
