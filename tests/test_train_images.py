"""Training on images: labels, precision, accumulation, memory formats, dropout, streams, and looks
that leave no trace."""

import math

import pytest
import torch
from simulations import draw
from torch import nn

from diffgeo.core import generator
from diffgeo.data.images import Images
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import memory
from diffgeo.parameterization import CEM, EDM
from diffgeo.sampler import Euler
from diffgeo.schedule import VE
from diffgeo.store.checkpoint import load_weights, save_tensors
from diffgeo.training import Trainer, Training
from diffgeo.training.loop import DATA, Flat
from diffgeo.training.weighting import Power

SCHEDULE = VE(sigma_min=0.1, sigma_max=10.0)


def images(channels=1, size=8, n=40, classes=4, **options):
    """n images of noise about the grey of their class: 30, 90, 150, 210."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    pixels = (
        torch.randint(0, 20, (n, channels, size, size), generator=g)
        + (30 + 60 * labels)[:, None, None, None]
    )
    return Images(pixels.to(torch.uint8), labels, classes=classes, **options)


class Small(nn.Module):
    """Two convolutions, the noise added between them; dropout on request."""

    def __init__(self, shape=(1, 8, 8), width=8, dropout=0.0):
        super().__init__()
        self.a = nn.Conv2d(shape[0], width, 3, padding=1)
        self.b = nn.Linear(1, width)
        self.c = nn.Conv2d(width, shape[0], 3, padding=1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x, noise):
        return self.c(
            self.drop(torch.nn.functional.silu(self.a(x) + self.b(noise[:, None])[..., None, None]))
        )


class Table(nn.Module):
    """F = a number for each class, and one for the null class: what a conditional network knows
    when it sees no image."""

    def __init__(self, classes=4):
        super().__init__()
        self.classes = classes
        self.table = nn.Embedding(classes + 1, 1)
        self.seen = []

    def forward(self, x, noise, label=None):
        self.seen.append(label)
        return self.table(torch.where(label < 0, self.classes, label))[..., None, None].expand(
            x.shape
        )


def training(net=None, data=None, seed=0, parameterization=None, **options):
    """`net` makes the network, under a seed of its own."""
    torch.manual_seed(seed)
    data = data or images()
    made = net() if net else Small(data.shape)
    return Training(
        Trainer(**{"steps": 10, "batch": 16, "lr": 1e-2, "log_every": 5} | options),
        Network(made, parameterization or EDM()),
        data,
        SCHEDULE,
        Power(2),
        seed,
    )


def finished(t):
    list(t.run())
    return t


def test_a_batch_of_images_is_a_chunk_and_points_are_drawn_by_the_hundred():
    assert training(data=images(3, 32), batch=128).batches.chunk == 1
    assert training(batch=128).batches.chunk == 131_072 // (128 * 64)
    from test_train import training as planar

    assert planar(batch=512).batches.chunk == 128


# labels


def test_labels_go_with_their_images_and_some_are_hidden():
    """The mean of x0 given its label is the class's grey; the share of hidden labels is
    `unlabelled`."""
    t = training(Table, steps=40, batch=256, unlabelled=0.25, parameterization=CEM())
    x, _, target, _, label = t.batches(0)
    grey = target.flatten(2).mean(2)  # CEM: F* is x0
    for k in range(4):
        assert float((grey[label == k] - (-1 + (30 + 60 * k + 9.5) / 127.5)).abs().max()) < 0.03
    hidden = float((label == -1).float().mean())
    assert abs(hidden - 0.25) < 4 * math.sqrt(0.25 * 0.75 / label.numel())
    assert set(label.unique().tolist()) == {-1, 0, 1, 2, 3}


def test_a_conditional_network_learns_the_class_means_and_the_null_class_the_mean_of_all():
    data = images()
    t = finished(
        training(
            Table,
            data,
            steps=400,
            batch=256,
            lr=0.05,
            parameterization=CEM(),
            ema=0.95,
            unlabelled=0.2,
        )
    )
    learned = t.weights()["net.table.weight"][:, 0]
    truth = torch.stack([data.dequantize(data.images[data.labels == k]).mean() for k in range(4)])
    torch.testing.assert_close(learned, torch.cat([truth, truth.mean()[None]]), atol=0.03, rtol=0)


def test_labels_change_neither_the_images_nor_the_noise():
    plain = training(data=images())
    told = training(Table, images())
    assert all(
        torch.equal(a, b) for a, b in zip(plain.batches(2)[:4], told.batches(2)[:4], strict=True)
    )


def test_classes_that_do_not_fit():
    with pytest.raises(UsageError, match="net.classes=4, but data= has 3 classes"):
        training(Table, images(classes=3))
    with pytest.raises(UsageError, match="trainer.pool=8 would mix the classes"):
        training(Table, pool=8)


# streams


@pytest.mark.parametrize("net", [Small, Table])
def test_streamed_batches_are_those_of_memory(net):
    held, streamed = (
        training(net, images(flip=True, hold=hold, workers=0)) for hold in ("memory", "stream")
    )
    assert not held.data.streams and streamed.data.streams
    for chunk in (3, 4, 5):  # a resumed run begins somewhere
        columns, again = (t.batches(chunk).columns() for t in (held, streamed))
        assert len(columns) == (4 if net is Small else 5)
        assert all(torch.equal(a, b) for a, b in zip(columns, again, strict=True))


# the arithmetic


def test_accumulation_gives_the_same_step():
    """A batch in 4 parts, in 3 unequal ones, and whole: the same weights to the rounding of float32
    sums, Adam's sign included."""
    whole, four, three = (finished(training(accumulate=k, clip=1.0)).flat.values for k in (1, 4, 3))
    torch.testing.assert_close(four, whole, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(three, whole, rtol=1e-4, atol=2e-5)


def test_channels_last_is_another_order_of_the_same_numbers():
    plain, last = (
        finished(training(lambda: Small((3, 8, 8), 16), images(3), channels_last=flag))
        for flag in (False, True)
    )
    weight = last.model.net.a.weight
    assert (
        weight.is_contiguous(memory_format=torch.channels_last)
        and weight.data_ptr() == last.flat.values.data_ptr()
    )
    assert weight.grad.stride() == weight.stride()
    for (name, a), b in zip(plain.weights().items(), last.weights().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5, msg=name)


def test_flat_channels_last_keeps_the_weights():
    net = Small((3, 8, 8))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    flat = Flat(net, channels_last=True)
    assert all(torch.equal(before[k], v) for k, v in flat.named(flat.values).items())
    assert torch.equal(flat.values[: 8 * 3 * 9], before["a.weight"].permute(0, 2, 3, 1).flatten())


def test_bfloat16_sees_the_weights_of_every_step():
    """Autocast keeps rounded weights while it lasts: a training that stayed inside it would ask the
    first weights for ever."""

    class Pixelwise(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x, noise):
            return self.conv(x)

    full, half = (
        finished(
            training(
                Pixelwise,
                images(),
                steps=150,
                batch=64,
                lr=0.03,
                precision=p,
                parameterization=CEM(),
                ema=0.9,
            )
        )
        for p in ("float32", "bf16")
    )
    torch.testing.assert_close(half.average, full.average, atol=0.01, rtol=0)
    assert half.flat.values.dtype == torch.float32


def test_unknown_precision():
    with pytest.raises(UsageError, match="trainer.precision=fp16 is unknown"):
        Trainer(precision="fp16")


@pytest.mark.slow
def test_a_compiled_network_takes_the_same_steps():
    plain, compiled = (finished(training(compile=flag, steps=4)) for flag in (False, True))
    torch.testing.assert_close(compiled.flat.values, plain.flat.values, rtol=1e-4, atol=1e-5)
    assert set(compiled.weights()) == set(plain.weights())


# going on, and looking on


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resumed_training_repeats_the_undisturbed_one_to_the_byte(dropout):
    build = lambda: training(
        lambda: Small(dropout=dropout), steps=9, log_every=1, channels_last=True
    )
    whole = finished(build())
    first = build()
    for progress in first.run():
        if progress.step == 4:
            break
    second = build()
    torch.manual_seed(12345)  # another process has another past
    second.restore({k: v.clone() for k, v in first.state().items()}, 4)
    finished(second)
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.state().values(), second.state().values(), strict=True)
    )


def test_dropout_differs_from_step_to_step():
    t = training(lambda: Small(dropout=0.5), steps=2, log_every=1)
    masks = []
    t.model.net.drop.register_forward_hook(lambda module, args, out: masks.append(out == 0))
    finished(t)
    assert not torch.equal(*masks) and 0.3 < float(masks[0].float().mean()) < 0.7


def test_a_look_at_the_average_leaves_no_trace():
    """Samples drawn on the way are those of the averaged weights in evaluation mode, and the
    training ends in the same bytes."""
    build = lambda: training(lambda: Small(dropout=0.3), steps=6, log_every=2, ema=0.8)
    undisturbed = finished(build())
    looked = build()
    for progress in looked.run():
        with looked.averaged() as model:
            assert not model.training and torch.equal(looked.flat.values, looked.average)
            seen = draw(Euler(), model, SCHEDULE.grid(4), (1, 8, 8), 3).samples
            again = draw(Euler(), model, SCHEDULE.grid(4), (1, 8, 8), 3).samples
            assert torch.equal(seen, again)
            assert progress.step < 2 or not torch.equal(looked.average, undisturbed.flat.values)
        assert looked.model.training
    assert all(
        torch.equal(a, b)
        for a, b in zip(undisturbed.state().values(), looked.state().values(), strict=True)
    )


# errors


def test_running_out_of_memory_says_what_to_write():
    with (
        pytest.raises(DiffgeoError, match="out of memory: write trainer.batch=64") as error,
        memory.advised("write trainer.batch=64"),
    ):
        torch.empty(1 << 50)
    assert "\n" not in str(error.value)
    with pytest.raises(DiffgeoError, match="out of memory"), memory.advised(""):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    # once, and precisely
    with (
        pytest.raises(DiffgeoError, match="memory: inner$"),
        memory.advised("outer"),
        memory.advised("inner"),
    ):
        raise MemoryError
    with pytest.raises(RuntimeError, match="shapes"), memory.advised(""):
        raise RuntimeError("shapes differ")


def test_weights_of_another_network_name_the_first_tensors_and_both_shapes(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, dict(Small((3, 8, 8), width=8).state_dict()) | {"extra": torch.zeros(())})
    with pytest.raises(DiffgeoError) as error:
        load_weights(path, Small((1, 8, 8), width=16))
    text = str(error.value)
    assert (
        "a.weight is (8, 3, 3, 3) in the file, (16, 1, 3, 3) in the network; a.bias is (8,) in the "
        "file, (16,) in the network" in text
    )
    assert "and 4 more" in text and "\n" not in text
    save_tensors(path, dict(Small().state_dict()) | {"extra": torch.zeros(())})
    with pytest.raises(
        DiffgeoError, match=r"extra is \(\) in the file, absent in the network; write"
    ):
        load_weights(path, Small())


def test_batches_are_the_law_s_own_draw():
    data = images(flip=True)
    t = training(data=data, parameterization=CEM())
    g = generator(0, DATA, 7)
    torch.testing.assert_close(t.batches(7)[2].flatten(0, 1), data.sample(t.batches.chunk * 16, g))
