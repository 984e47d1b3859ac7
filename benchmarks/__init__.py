"""Speed against plain baselines: `python -m benchmarks [startup] [training] [sweep] [sampling]
[exact]` (none: all; about three minutes).

Peers are optional; their rows say "not installed" without them. To have them all, in the
environment of diffgeo:

    pip install -c constraints.txt smalldiffusion diffusers k-diffusion
"""
