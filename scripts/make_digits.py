"""Make diffgeo/assets/digits.npz from scikit-learn's wheel.

    python scripts/make_digits.py scikit_learn-*.whl

The 1797 images of the "Optical Recognition of Handwritten Digits" test set (Alpaydin and Kaynak
1998): 8 x 8 counts of ink, 0..16, which become the bytes floor(255 v/16 + 1/2). Order and labels
are scikit-learn's. Get the wheel with `pip download scikit-learn --no-deps`.
"""

import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

MEMBER = "sklearn/datasets/data/digits.csv.gz"
TARGET = Path(__file__).resolve().parent.parent / "diffgeo" / "assets" / "digits.npz"


def main(wheel: str) -> None:
    packed = zipfile.ZipFile(wheel).read(MEMBER)
    table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), delimiter=",", dtype=int)
    counts = table[:, :64].reshape(-1, 8, 8)
    labels = table[:, 64]
    assert table.shape == (1797, 65)
    assert (counts.min(), counts.max()) == (0, 16)
    assert set(labels) == set(range(10))
    images = ((510 * counts + 16) // 32).astype(np.uint8)
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(TARGET, images=images, labels=labels.astype(np.uint8))
    print(f"{TARGET}: {len(table)} images, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
