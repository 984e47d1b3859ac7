"""Write the picture that stands for data.image=null, of any side, as a PNG.

    python scripts/make_texture.py texture.png 256
    diffgeo sample model=exact data=texture image=texture.png

It is made of waves that fit the torus (`diffgeo.data.spot_noise.procedural`); nothing is drawn.
"""

import sys
from pathlib import Path

from PIL import Image

from diffgeo.data.spot_noise import procedural


def main(file: str, side: str = "32") -> None:
    pixels = procedural(int(side)).permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(file)
    print(f"{Path(file)}: {pixels.shape[0]} x {pixels.shape[1]}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
