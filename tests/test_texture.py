"""Textures (asymptotic discrete spot noise): the law against dense matrices, its W2 to the printed
digit, samples in law, and the mistakes of their line.

The example of 8 x 8, u = (cos 2pi i/8, sin 2pi j/8 + .5 cos 2pi i/8, cos 2pi (i+j)/8), has the
eigenvalues 20 (2), 16 (4) and 0 (186).
"""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from diffgeo.analytic import given as posteriors
from diffgeo.analytic.spot_noise import SpotNoise, spot_of, whole
from diffgeo.core import Known, Manifold, Pictures, Run, generator
from diffgeo.data import Texture, texture
from diffgeo.data.moments import moments as gaussian_moments
from diffgeo.data.spot_noise import procedural
from diffgeo.errors import UsageError
from diffgeo.inverse.operators.matrices import Matrix
from diffgeo.metrics import TextureW2
from diffgeo.metrics.texture import moments
from diffgeo.sampler import ChartHeun, EulerMaruyama
from diffgeo.schedule import VP
from diffgeo.simulation import Simulation
from diffgeo.theory import spectrum as spectra
from diffgeo.theory.distances import w2
from diffgeo.theory.gaussian import SCHEMES, discrete, levels
from diffgeo.theory.process import process

f64 = torch.float64


def image() -> torch.Tensor:
    """The example, [3,8,8]."""
    i = torch.arange(8, dtype=f64)[:, None] * 2 * math.pi / 8
    j = i.mT
    nothing = torch.zeros(8, 8, dtype=f64)
    planes = (torch.cos(i) + nothing, torch.sin(j) + 0.5 * torch.cos(i), torch.cos(i + j))
    return torch.stack(planes)


def random_image(height: int, width: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(channels, height, width, generator=generator(1), dtype=f64)


def dense(law: Texture) -> torch.Tensor:
    """C [d,d], a column of white noise at a time: no Fourier transform of ours."""
    u = law.noise.spot
    channels, height, width = u.shape
    columns = []
    for i in range(height):
        for j in range(width):
            columns.append(torch.roll(u, (i, j), (1, 2)).flatten())
    factor = torch.stack(columns, 1)
    return factor @ factor.mT


# the law


@pytest.mark.parametrize("height, width", [(4, 6), (5, 4), (5, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_law_against_dense_matrices(height, width, channels):
    law = Texture(random_image(height, width, channels))
    c = dense(law)
    d = len(c)
    torch.testing.assert_close(law.covariance, c, rtol=0, atol=1e-14)
    values, counts = law.spectrum
    every = torch.repeat_interleave(values, counts.long()).sort().values
    torch.testing.assert_close(every, torch.linalg.eigvalsh(c), rtol=0, atol=1e-13)
    assert law.dim == int((values > 0).sum()) == int(torch.linalg.matrix_rank(c))
    assert law.std == pytest.approx(math.sqrt(float(c.trace()) / d), rel=1e-12)

    sigma = torch.tensor([0.05, 0.4, 3.0], dtype=f64)
    x = torch.randn(3, *law.shape, generator=generator(2), dtype=f64)
    v = torch.randn(3, *law.shape, generator=generator(3), dtype=f64)
    denoise = law.denoiser()
    mean = law.mean.flatten()
    for k, s in enumerate(sigma):
        total = c + s**2 * torch.eye(d, dtype=f64)
        gain = torch.linalg.solve(total, c)
        expected = mean + gain @ (x[k].flatten() - mean)
        torch.testing.assert_close(denoise(x, sigma)[k].flatten(), expected, rtol=0, atol=1e-12)
        product = s**2 * gain @ v[k].flatten()
        found = denoise.covariance_product(x, sigma, v)[k].flatten()
        torch.testing.assert_close(found, product, rtol=0, atol=1e-12)
        assert float(denoise.trace(x, sigma)[k]) == pytest.approx(float(gain.trace()), rel=1e-11)
        normal = torch.distributions.MultivariateNormal(mean, total)
        log_density = float(normal.log_prob(x[k].flatten()))
        assert float(denoise.log_density(x, sigma)[k]) == pytest.approx(log_density, rel=1e-10)
    # the flow down to the data, as square roots of matrices make it
    flowed = law.noise.flow(x, sigma, torch.zeros(3, dtype=f64))
    values, basis = torch.linalg.eigh(c)
    for k, s in enumerate(sigma):
        root = (basis * (values.clamp(min=0) / (values + s**2)).sqrt()) @ basis.mT
        expected = mean + root @ (x[k].flatten() - mean)
        # an eigenvalue of 1e-17 where 0 is meant has a root of 3e-9
        torch.testing.assert_close(flowed[k].flatten(), expected, rtol=0, atol=1e-6)


def test_samples_support_and_pictures():
    """Covariance of 40 000 samples within 5 standard errors of every entry; on the support; bytes
    as a viewer rounds them; and what the protocols say."""
    law = Texture(image(), low=-2.0, high=2.0)
    assert isinstance(law, Known) and isinstance(law, Manifold) and isinstance(law, Pictures)
    assert law.dim == 6
    n = 40_000
    x = law.sample(n, generator(4)).flatten(1)
    c = law.covariance
    found = x.mT @ x / n
    spread = ((c.diagonal()[:, None] * c.diagonal() + c**2) / n).sqrt()
    assert ((found - c).abs() <= 5 * spread + 1e-12).all()
    far = torch.randn(5, *law.shape, generator=generator(5), dtype=f64)
    p = law.project(far)
    torch.testing.assert_close(law.project(p), p)
    basis = law.tangent(p)
    assert basis.shape == (5, 192, 6)
    flat = (far - law.mean).flatten(1)
    expected = law.mean.flatten() + (basis[0] @ (basis[0].mT @ flat.mT)).mT
    torch.testing.assert_close(p.flatten(1), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(law.distance(far), (far - p).flatten(1).norm(dim=1))
    shades = torch.tensor([-3.0, -2.0, 0.0, 1.0, 2.0]).view(-1, 1, 1, 1)
    assert law.quantize(shades).flatten().tolist() == [0, 0, 128, 191, 255]
    other = Texture(2 * image(), low=-2.0, high=2.0)
    again = Texture(image(), low=-2.0, high=2.0)
    assert law.key == again.key != other.key


def test_a_texture_is_stationary():
    """Its covariance is the same wherever the torus is turned to: D of a turned x is D turned."""
    law = Texture(random_image(6, 5))
    x = torch.randn(2, *law.shape, generator=generator(6), dtype=f64)
    turned = torch.roll(x, (2, 3), (2, 3))
    denoise = law.denoiser()
    expected = torch.roll(denoise(x, 0.3), (2, 3), (2, 3))
    torch.testing.assert_close(denoise(turned, 0.3), expected, rtol=0, atol=1e-14)


def test_the_gaussian_of_a_texture_is_the_texture():
    """model=gaussian, which decomposes C, gives the denoiser that two Fourier transforms give."""
    law = Texture(random_image(4, 4))
    found = gaussian_moments(law)
    assert "own covariance" in found.about
    from diffgeo.data.reference import gaussian

    x = torch.randn(3, *law.shape, generator=generator(7), dtype=f64)
    torch.testing.assert_close(gaussian(law)(x, 0.2), law.denoiser()(x, 0.2), rtol=0, atol=1e-12)


# W2


@pytest.mark.parametrize(
    "points, expected, empirical",
    [(50, (1.820820, 0.575680), None), (1000, (0.191464, 0.138848), (0.204587, 0.156450))],
)
def test_the_example_to_the_printed_digit(points, expected, empirical):
    law = Texture(image())
    spectrum, about = spectra.of_law(law)
    assert spectrum.values.tolist() == pytest.approx([20, 16, 0], abs=1e-12)
    assert spectrum.counts.tolist() == [2, 4, 186] and "3 x 8 x 8" in about
    chart = process([0.05, 10.0], 1.0)
    samplers = {name: SCHEMES[name](chart) for name in ("EM", "Heun")}
    laws = discrete(spectrum, chart, samplers, levels(chart, points, 1e-3), ("N_0",))
    for number, name in enumerate(("EM", "Heun")):
        found = laws[name, "N_0"]
        distance = w2(found, found._replace(variance=spectrum.values), spectrum.counts)
        assert distance == pytest.approx(expected[number], abs=5e-7)
        if empirical is not None:
            bias = float((spectrum.counts * (found.variance * spectrum.values).sqrt()).sum())
            assert math.sqrt(distance**2 + bias / 20_000) == pytest.approx(
                empirical[number], abs=5e-7
            )
            zeros = math.sqrt(186 * float(found.variance[-1]))
            assert zeros == pytest.approx((0.191394, 0.138784)[number], abs=5e-7)


def test_the_bias_of_the_empirical_distance():
    """E W2emp^2 = W2^2 + sum sqrt(v lambda)/2n to its standard error, over 1 600 clouds of 25 draws
    with other variances than the law's; sum v/2n, written before, is refuted by the same draws; the
    standard error that is told is the spread over the clouds."""
    law = Texture(random_image(4, 4))
    values = law.noise.values.flatten()
    factor = 1 + 0.8 * torch.rand(16, generator=generator(8), dtype=f64).view(4, 4)
    n, clouds = 25, 1600
    # a filter that is even in frequency keeps textures real
    even = (factor + torch.roll(factor.flip(0, 1), (1, 1), (0, 1))) / 2
    other = SpotNoise(torch.zeros(3, 1, 1, dtype=f64), filtered(law.noise.spot, even))
    v = other.values.flatten()
    exact = float((v.sqrt() - values.sqrt()).square().sum())
    found = []
    told = []
    g = generator(9)
    metric = TextureW2()
    for _ in range(clouds):
        white = torch.randn(n, 4, 4, generator=g, dtype=f64)
        own = metric(Run(other.made_of(white) + law.mean), law)
        found.append(own["texture/w2"] ** 2)
        told.append(own["texture/w2_se"] * 2 * own["texture/w2"])
    found = torch.tensor(found, dtype=f64)
    error = float(found.std()) / math.sqrt(clouds)
    right = exact + float((v * values).sqrt().sum()) / (2 * n)
    wrong = exact + float(v.sum()) / (2 * n)
    assert abs(float(found.mean()) - right) < 3 * error
    assert abs(float(found.mean()) - wrong) > 4 * error
    assert float(np.mean(told)) == pytest.approx(float(found.std()), rel=0.15)


def filtered(spot: torch.Tensor, even: torch.Tensor) -> torch.Tensor:
    """A spot whose transform is multiplied by a real even function of frequency."""
    return torch.fft.ifft2(torch.fft.fft2(spot) * even.sqrt()).real


def test_the_parts_of_the_distance_against_dense_moments():
    """Along and across, from the empirical covariance in the eigenvectors of the dense C."""
    law = Texture(image())
    x = law.sample(30, generator(10)) + 0.1 * torch.randn(
        30, 3, 8, 8, generator=generator(11), dtype=f64
    )
    axes = law.noise.axes()
    z = (x - law.mean).flatten(1)
    along = (z @ axes.mT).square().mean(0)
    found = moments(x, law)
    torch.testing.assert_close(found.along, along, rtol=0, atol=1e-12)
    across = float(z.square().sum(1).mean() - along.sum())
    assert found.across == pytest.approx(across, rel=1e-9)
    values = TextureW2()(Run(x), law)
    own = (along.sqrt() - law.noise.values.flatten().sqrt()).square().sum()
    assert values["texture/w2"] == pytest.approx(math.sqrt(float(own) + across), rel=1e-9)
    floor = math.sqrt(104 / 60)
    assert values["texture/w2_floor"] == pytest.approx(floor, rel=1e-12)


@pytest.mark.parametrize("name", ["EM", "Heun"])
def test_samples_have_the_law_that_the_theory_says(name):
    """EM and Heun at 50 points by the command's own simulation, 1 000 samples: W2 of the cloud
    is that of the closed form, its bias taken off, within three standard errors."""
    law = Texture(image())
    chart = VP(t_min=1e-3, to_zero=False)
    sampler = {"EM": EulerMaruyama, "Heun": ChartHeun}[name](chart=chart)
    sigmas = chart.grid(49)
    simulation = Simulation(sampler, law.denoiser(), sigmas, law.shape, seed=3)
    drawn = simulation.draw(range(1000), 1000).samples
    scale = float(chart.scale(sigmas[-1:]))  # the deck's samples are of x_t at eps
    values = TextureW2()(Run(scale * (drawn - law.mean) + law.mean), law)
    expected = {"EM": 1.820820, "Heun": 0.575680}[name]
    assert abs(values["texture/w2_unbiased"] - expected) < 3 * values["texture/w2_se"]
    assert values["texture/w2_se"] < 0.05


@pytest.mark.slow
def test_a_trained_network_pays_for_its_score(inside, tmp_path):
    """A U-Net of the example, two minutes: its samples are near the law (W2 below a third of that
    of the mean alone, sqrt(104)) and off its support; those of the exact score, from the same
    noise, are nearer, on it, and within the noise floor."""
    np.save(tmp_path / "u.npy", image().numpy())
    line = "train data=texture image=u.npy net=unet_8 model=edm trainer.steps=600 trainer.batch=64 "
    line += "trainer.lr=4e-3 trainer.warmup=50 trainer.rate.end=0.0 trainer.ema=0.99 n=200 "
    done = inside(*line.split(), "figures=false", "hydra.run.dir=net")
    assert done.returncode == 0, done.stderr
    line = "sample model=exact data=texture image=u.npy n=200 figures=false hydra.run.dir=exact"
    assert inside(*line.split()).returncode == 0
    learned, exact = (
        json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("net", "exact")
    )
    assert exact["texture/w2_across"] < 1e-6
    assert learned["texture/w2_across"] > 0.05
    assert exact["texture/w2"] < learned["texture/w2"] < 0.3 * math.sqrt(104)
    floor = exact["texture/w2_floor"] + 5 * exact["texture/w2_floor_sd"]
    assert exact["texture/w2"] < floor


# given a measurement


def test_the_posterior_of_a_texture_against_dense_matrices():
    law = Texture(random_image(4, 4))
    a = torch.randn(7, 48, generator=generator(12), dtype=f64)
    operator = Matrix(a, law.shape)
    s = 0.3
    truth = law.sample(1, generator(13))
    y = operator(truth)[0] + s * torch.randn(7, generator=generator(14), dtype=f64)
    c = dense(law)
    inside = a @ c @ a.mT + s**2 * torch.eye(7, dtype=f64)
    gain = torch.linalg.solve(inside, a @ c).mT
    mean = law.mean.flatten() + gain @ (y - a @ law.mean.flatten())
    covariance = c - gain @ a @ c
    found = law.given(operator, y, s)
    torch.testing.assert_close(found.mean.flatten(), mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.covariance, covariance, rtol=0, atol=1e-10)
    normal = torch.distributions.MultivariateNormal(a @ law.mean.flatten(), inside)
    assert found.log_evidence == pytest.approx(float(normal.log_prob(y)), rel=1e-9)
    x = torch.randn(2, *law.shape, generator=generator(15), dtype=f64)
    total = covariance + 0.25 * torch.eye(48, dtype=f64)
    solved = torch.linalg.solve(total, (x.flatten(1) - mean).mT).mT
    expected = (mean + solved @ covariance).view_as(x)
    torch.testing.assert_close(found.denoiser()(x, 0.5), expected, rtol=0, atol=1e-10)
    rows = law.given_rows(operator, torch.stack([y, y]), s)
    torch.testing.assert_close(rows(x, 0.5), expected, rtol=0, atol=1e-10)
    draws = found.sample(20_000, generator(16)).flatten(1)
    error = (covariance.diagonal() / len(draws)).sqrt()
    assert ((draws.mean(0) - mean).abs() <= 5 * error + 1e-12).all()
    assert isinstance(found, Pictures) and found.key != law.key
    assert posteriors.matrix(operator).shape == (7, 48)


# files and mistakes


def test_pictures_and_numbers_are_read_as_they_are(tmp_path):
    """Bytes become low + (high - low) b/255; a .npy file is taken as it is; a crop is the centred
    square; the picture of the package is the same everywhere."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "u.png")
    law = texture(str(tmp_path / "u.png"), low=0.0, high=1.0)
    u = torch.from_numpy(pixels).permute(2, 0, 1).double() / 255
    mean, spot = spot_of(u)
    torch.testing.assert_close(law.noise.spot, spot, rtol=0, atol=1e-15)
    torch.testing.assert_close(law.mean, mean.expand(3, 6, 8), rtol=0, atol=1e-15)
    assert texture(str(tmp_path / "u.png"), crop=4).shape == (3, 4, 4)
    np.save(tmp_path / "u.npy", image().numpy())
    torch.testing.assert_close(texture(str(tmp_path / "u.npy")).noise.spot, image() / 8)
    grey = Image.fromarray(pixels[..., 0])
    grey.save(tmp_path / "grey.png")
    assert texture(str(tmp_path / "grey.png")).shape == (1, 6, 8)
    assert procedural(8).flatten()[:6].tolist() == [136, 55, 106, 235, 193, 188]
    assert texture(size=16).shape == (3, 16, 16)


def test_an_even_function_of_frequency_is_made_whole():
    for width in (4, 5):
        power = torch.fft.fft2(random_image(3, width, 1)[0]).abs()
        torch.testing.assert_close(whole(power[:, : width // 2 + 1], width), power)


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"image": "u.txt"}, "write a picture"),
        ({"image": "flat.npy"}, "has one colour"),
        ({"image": "nan.npy"}, "not finite"),
        ({"image": "cube.npy"}, "has shape"),
        ({"image": "good.npy", "size": 4}, "data.size=4 resizes a picture"),
        ({"image": "good.npy", "crop": 99}, "write a smaller square"),
        ({"size": 1}, "data.size=1"),
        ({"crop": 4}, "data.crop= is of a picture"),
        ({"low": 1.0, "high": 0.0}, "values of black and white"),
    ],
)
def test_bad_textures_are_refused(tmp_path, monkeypatch, options, complaint):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "flat.npy", np.full((4, 4), 0.3))
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    np.save(tmp_path / "cube.npy", np.zeros((5, 4, 4)))
    np.save(tmp_path / "good.npy", image().numpy())
    (tmp_path / "u.txt").write_text("no picture")
    with pytest.raises(UsageError, match=complaint):
        texture(**options)


def test_a_bad_texture_is_one_line_and_leaves_no_folder(inside, tmp_path):
    line = "sample model=exact data=texture image=nowhere.png hydra.run.dir=run"
    done = inside(*line.split())
    assert done.returncode == 2 and "there is no such file" in done.line
    assert not (tmp_path / "run").exists()


def test_a_large_texture_has_no_matrix():
    law = texture(size=64)
    for asked in (lambda: law.covariance, lambda: law.tangent(law.mean[None])):
        with pytest.raises(UsageError, match="data.size=32"):
            asked()


def test_the_commands_on_a_texture(inside, tmp_path):
    """Samples as numbers, their picture, W2; the closed form of the same image by image=FILE."""
    np.save(tmp_path / "u.npy", image().numpy())
    line = "model=exact data=texture image=u.npy n=64 sampler.steps=6 hydra.run.dir=run"
    done = inside("sample", *line.split())
    assert done.returncode == 0, done.stderr
    samples = np.load(tmp_path / "run" / "samples.npy")
    assert samples.shape == (64, 3, 8, 8) and samples.dtype == np.float64
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())
    own = TextureW2()(Run(torch.from_numpy(samples)), Texture(image()))
    assert values["texture/w2"] == pytest.approx(own["texture/w2"], rel=1e-12)
    assert (tmp_path / "run" / "figures" / "samples.png").exists()

    line = "data=texture image=u.npy schemes=[EM,Heun] grid_points=50 eps=1e-3 start=N_0"
    done = inside("theory", "gaussian", *line.split(), "figures=false", "hydra.run.dir=table")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "table" / "metrics.json").read_text())
    cell = "w2/{}@eps=0.001,points=50,start=N_0"
    assert values[cell.format("EM")] == pytest.approx(1.820820, abs=5e-7)
    assert values[cell.format("Heun")] == pytest.approx(0.575680, abs=5e-7)
    provenance = json.loads((tmp_path / "table" / "provenance.json").read_text())
    assert set(provenance["inputs"]) == {"data.image"}
