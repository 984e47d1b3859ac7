"""`diffgeo sample`: draw samples from a run (run=FOLDER) or from an exact denoiser (model=exact)

    diffgeo sample model=exact data=circle sampler=heun sampler.steps=18    the exact denoiser
    diffgeo sample run=FOLDER sampler=ddpm n=50000                          a trained network
    diffgeo sample -m model=exact data=swissroll sampler=euler,unipc sampler.steps=5,10,20

Writes samples.npy and its metrics. A pretrained model is sampled as a run is. A killed run of
images goes on from the shards that it has written; under torchrun the processes share the samples.
"""

from __future__ import annotations

from dataclasses import replace

from diffgeo.config.build import assemble, device_of
from diffgeo.machine import distributed
from diffgeo.report.finish import ready, report
from diffgeo.run import Job, RunFolder, loaded, shared


def main(cfg, job: Job) -> None:
    """Draw cfg.n samples and measure them."""
    with distributed.joined(device_of(cfg.device), job.sweep) as world:
        job = replace(job, path=world.folder(job.path))
        experiment = assemble(cfg, shared if job.sweep else loaded)
        ready(experiment, cfg.n)
        folder = RunFolder.of("sample", cfg, job)
        if not world.once(folder.begin):
            report(experiment, folder, world=world)
