#!/usr/bin/env python
"""Train the classifier whose features `metrics.fid.features=lenet` uses, and write it to
diffgeo/assets/lenet.safetensors.

    python scripts/train_lenet.py --root FOLDER [--out FILE] [--epochs 6] [--seed 0] [--threads 1]

FOLDER holds mnist/{train,test}_{images,labels}.npy, as `diffgeo data prepare mnist
data.root=FOLDER` writes them. Same seed and threads on the same machine, same weights. Five CPU
minutes: 6 epochs of AdamW, one cycle, images shifted by up to 2 pixels. Ends with the test accuracy
of the file as written, in float16, and with status 1 when that is below 99 %.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffgeo.core import generator
from diffgeo.metrics import lenet
from diffgeo.store.files import atomic


def load(root: Path, split: str) -> tuple[Tensor, Tensor]:
    """The images [n,1,28,28] and the labels [n] of one half of MNIST."""
    folder = root / "mnist"
    images = np.load(folder / f"{split}_images.npy", allow_pickle=False)
    labels = np.load(folder / f"{split}_labels.npy", allow_pickle=False)
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels).long()


def shifted(images: Tensor, g: torch.Generator, most: int = 2) -> Tensor:
    """Each image of [B,1,28,28] moved by up to `most` pixels, zeros moving in."""
    padded = F.pad(images, (most,) * 4)
    top, left = torch.randint(0, 2 * most + 1, (2, len(images), 1), generator=g)
    image = torch.arange(len(images))[:, None, None]
    rows = (torch.arange(lenet.SIDE) + top)[:, :, None]
    columns = (torch.arange(lenet.SIDE) + left)[:, None, :]
    return padded[image, 0, rows, columns][:, None]


def train(images: Tensor, labels: Tensor, epochs: int, seed: int, batch: int = 128) -> lenet.LeNet:
    torch.manual_seed(seed)
    net = lenet.LeNet(normalized=True).to(memory_format=torch.channels_last)
    g = generator(seed, *b"lenet")
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 5e-3, total_steps=epochs * (len(images) // batch)
    )
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=g)
        whole = len(images) // batch * batch
        for pick in order[:whole].split(batch):
            answer = net(lenet.read(shifted(images[pick], g)))
            loss = F.cross_entropy(answer, labels[pick], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {float(loss.detach()):.4f}", flush=True)
    return net.folded()


@torch.inference_mode()
def accuracy(net, images: Tensor, labels: Tensor) -> float:
    answers = [net(lenet.read(part)).argmax(1) for part in images.split(1000)]
    return float((torch.cat(answers) == labels).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=lenet.WEIGHTS)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    from safetensors.torch import load_file, save_file

    images, labels = load(options.root, "train")
    net = train(images, labels, options.epochs, options.seed)
    halves = {name: value.detach().half().contiguous() for name, value in net.state_dict().items()}
    with atomic(options.out) as temporary:
        save_file(halves, temporary)
    written = {name: value.float() for name, value in load_file(options.out).items()}
    net.load_state_dict(written)
    images, labels = load(options.root, "test")
    reached = accuracy(net, images, labels)
    print(f"{options.out}: {options.out.stat().st_size} bytes, test accuracy {100 * reached:.2f} %")
    sys.exit(reached < 0.99)


if __name__ == "__main__":
    main()
