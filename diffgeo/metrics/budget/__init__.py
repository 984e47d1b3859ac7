"""The error budget of a run: where its distance from the law comes from.

Six clouds come from the same draws of noise (`clouds`): truth, fine, start, grid, net and run.
Their differences are

    truncation      = fine - truth
    initialization  = start - fine
    discretization  = grid - fine
    score           = net - fine
    total           = run - truth

so that each cause is switched on alone, with the run's ending on, and {fine, grid, net, run} are
the four combinations {exact, learned} x {fine, own grid}. Displacements u add over causes:
total u = sum of the causes' u_c + interaction, what is left. So do, exactly,

    part_c = <u_c, u>/|u|,     sum_c part_c + part_interaction = |u|,     <a,b> = mean_i a_i . b_i,

each cause's share of |u| (it is negative where a cause mends what others broke), beside the size
|u_c| that the cause has alone. Those sizes add up neither linearly (two causes may cancel) nor
squared (they may agree). What u is, the option `by` says:

    paths    between the points of the same noise: |u_c| >= W2, and much more where samples jump
             from one branch of the support to another
    w2       from a point of truth (fine) to the point of the other cloud that it is matched with;
             so |u_c| is W2 of the two clouds
    moments  of the means and deviations (m, s) along orthogonal axes: |u_c| is W2 if both clouds
             are Gaussian along them, and

    at_least = sqrt(sum_i (m_i - m'_i)^2 + (s_i - s'_i)^2) <= W2 <= |u_c| of w2 <= |u_c| of paths.

W2 is not additive; beside the parts of paths stand W2 of each cause alone, W2 of the run from the
law, and their interaction, the latter less the former. The clouds share their noise, so that an
absent cause measures 0 and not the distance of two samples of one law; but two matchings of nearly
equal clouds may differ, and the parts of w2 are noisier than those of paths. Where nothing is
random but the start, paths on a Gaussian are matched already and all three agree; a sampler with
noise moves its points beyond what the law needs, which matching n of them cannot undo: there, on a
Gaussian, it is moments. Normal and tangential: u_c split by the tangent space at the truth; a jump
to another branch is normal in paths, and no distance from the support.

Standard errors are those of the delete-one jackknife over groups of samples, matched all together.

    process   a run on its grid, and its exact counterpart
    clouds    the six clouds of a process
    sums      what a budget needs to know of them, one mean for each group of samples
    parts     the numbers of a budget from such sums, and their standard errors
    metric    the metric: its options, its grids, what it reports
    text      the tables that a reader is shown
"""

from diffgeo.metrics.budget.metric import Budget

__all__ = ["Budget"]
