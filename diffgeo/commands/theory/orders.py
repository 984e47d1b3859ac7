"""`diffgeo theory orders [NAME ...]`: the table of samplers, declared and measured orders: NAMEs,
or all of conf/sampler.

    flow    slope of log error against log steps, 64 to 640 steps, at the last positive level (sigma 20 to .02), from exact history: on a
            correlated Gaussian over a log and a Karras grid, and on the circle over a Karras grid
    law     the same of mean and variance, whichever falls more slowly, for samplers that draw noise: by exact moments of a Gaussian

Adaptive methods follow their tolerance and not the grid: for them the relative error of one
integration from 20 to .02, and all the evaluations that it costs a sample (mean of the problems).
"""

from __future__ import annotations

from functools import partial

from diffgeo.config.line import conf_dir
from diffgeo.core import Sampler
from diffgeo.errors import UsageError


def sampler(name: str, steps: int) -> Sampler:
    """The sampler of conf/sampler/NAME.yaml for a run of `steps` steps."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from diffgeo.run import build

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose(overrides=[f"+sampler={name}", f"sampler.steps={steps}"])
    options = OmegaConf.to_container(node.sampler, resolve=True)
    return build(
        OmegaConf.create({k: v for k, v in options.items() if k not in ("steps", "schedule")})
    )


def names() -> list[str]:
    return sorted(p.stem for p in (conf_dir() / "sampler").glob("*.yaml"))


def main(arguments: list[str]) -> None:
    if "-h" in arguments or "--help" in arguments:
        print(__doc__.strip())
        return
    unknown = set(arguments) - set(names())
    if unknown:
        raise UsageError(
            f"there is no sampler {', '.join(sorted(unknown))}; write names of "
            f"{', '.join(names())}, or none for all"
        )
    from diffgeo.commands.compare import markdown
    from diffgeo.theory.orders import FLOWS, measure

    columns = [*FLOWS, "law, log"]
    rows = []
    for name in arguments or names():
        found = measure(partial(sampler, name))
        shown = {c: f"{slope:.2f}" for c, slope in found.slopes.items()}
        if not shown:
            rtol = sampler(name, 1).rtol
            shown = {
                c: f"error {error:.0e} at rtol {rtol:.0e}" for c, error in found.errors.items()
            }
        spent = f"{found.nfe:.3g}" + ("" if found.slopes else " in all")
        rows.append([f"`{name}`", str(found.order), spent, *(shown.get(c, "") for c in columns)])
    print(markdown(["sampler", "declared", "evaluations a step", *columns], rows))
