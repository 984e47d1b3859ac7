"""Moving pictures: frames of bytes [H,W,3] into a GIF, which needs nothing, or an MP4.

    write("particles.gif", frames)     the suffix says which

An MP4 is made by the ffmpeg that comes with imageio-ffmpeg, pip install 'diffgeo[video]'. The last
frame stands for HOLD seconds. Same frames, same bytes: neither file says when it was made.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np

from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.store.drawing import check_film
from diffgeo.store.files import write_bytes

RATE = 20  # frames a second; a GIF counts in hundredths of a second
HOLD = 2.0  # seconds of the last frame
COLOURS = 128  # of a GIF
NEARLY_WHITE = 248
# libx264 at a quality that shows no blocks; nothing of the machine or of the day in the file
ENCODE = "-an -c:v libx264 -preset medium -crf 18 -pix_fmt yuv420p -threads 1".split()
ENCODE += "-fflags +bitexact -flags:v +bitexact -map_metadata -1 -movflags +faststart".split()


def write(path, frames: Iterable[np.ndarray]) -> None:
    """Write frames, bytes [H,W,3] of equal size, to a path that ends in .gif or .mp4, whole or not
    at all. Raises UsageError on another ending or no frame, DiffgeoError where ffmpeg fails."""
    shown = list(frames)
    if not shown:
        raise UsageError(f"{path}: a film needs one frame at least")
    kind = Path(path).suffix
    if kind == ".gif":
        write_bytes(path, gif(shown))
    elif kind == ".mp4":
        check_film("mp4")
        write_bytes(path, mp4(shown))
    else:
        raise UsageError(f"{path}: a film ends in .gif or .mp4")


def gif(frames: list[np.ndarray]) -> bytes:
    """A GIF that goes on for ever, in one palette of all frames."""
    from PIL import Image

    sampled = [frames[0], frames[len(frames) // 3], frames[2 * len(frames) // 3], frames[-1]]
    common = Image.fromarray(np.concatenate(sampled)).quantize(COLOURS, Image.Quantize.MEDIANCUT)
    colours = np.array(common.getpalette()).reshape(-1, 3)
    colours[colours.min(1) >= NEARLY_WHITE] = 255  # the palette has means of the white page
    common.putpalette(colours.ravel().tolist())
    plain = Image.Dither.NONE
    pages = [Image.fromarray(frame).quantize(palette=common, dither=plain) for frame in frames]
    times = [1000 // RATE] * len(pages)
    times[-1] = int(1000 * HOLD)
    page = BytesIO()
    first, *others = pages
    first.save(page, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    return page.getvalue()


def mp4(frames: list[np.ndarray]) -> bytes:
    """An MP4 of H.264, whose sides are made even."""
    import imageio_ffmpeg

    high, wide = (side - side % 2 for side in frames[0].shape[:2])
    held = frames + [frames[-1]] * int(RATE * HOLD)
    given = b"".join(np.ascontiguousarray(frame[:high, :wide]).tobytes() for frame in held)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "film.mp4"
        raw = f"-f rawvideo -pix_fmt rgb24 -s {wide}x{high} -r {RATE} -i -".split()
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *raw, *ENCODE, str(made)]
        done = subprocess.run(command, input=given, capture_output=True)
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip().splitlines()
            raise DiffgeoError(f"ffmpeg could not make an mp4: {(told or ['no reason told'])[-1]}")
        return made.read_bytes()
