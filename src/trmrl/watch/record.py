"""A session as a video: `.gif` by Pillow, `.mp4` by FFmpeg, drawn by software."""

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from trmrl.types import Task, TrmrlError
from trmrl.watch.drawing import drawing_of, picture
from trmrl.watch.session import Session

Picture = UInt8[np.ndarray, "height width 3"]
COLORS = 64  # of a GIF
HUNDREDTHS = 100  # a GIF counts time in hundredths of a second


def record(
    session: Session,
    path: str | Path,
    *,
    tasks: list[Task] | None = None,
    num_steps: int | None = None,
    size: tuple[int, int] = (480, 320),
) -> Path:
    """Write a video of a session's next steps, by default of one trial; returns its path.

    Hidden `tasks` follow each other in equal parts of the video, without a word to the agent; by
    default the session keeps its own. Raises `TrmrlError` on a path that is no `.gif` and no
    `.mp4` or cannot be written, on a size or number of steps that makes no video, and where FFmpeg
    is missing. A file that was there is replaced when the video is whole.
    """
    path = Path(path)
    writer = WRITERS.get(path.suffix)
    num_steps = session.spec.trial_length if num_steps is None else num_steps
    parts = tasks or [session.task]
    if writer is None:
        raise TrmrlError(f"{path}: expected a name in {' or '.join(WRITERS)}")
    if num_steps < len(parts):
        raise TrmrlError(f"a video of {num_steps} steps, expected {len(parts)} or more")
    if min(size) < 64 or max(size) > 2000 or any(side % 2 for side in size):
        raise TrmrlError(f"a video of {size[0]} by {size[1]}, expected even numbers, 64 to 2000")
    if not path.parent.is_dir():
        raise TrmrlError(f"cannot write {path}: there is no folder {path.parent}")
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        writer(partial, _pictures(session, parts, num_steps, size), drawing_of(session.envs).rate)
        os.replace(partial, path)
    except OSError as error:
        raise TrmrlError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _pictures(
    session: Session, tasks: list[Task], num_steps: int, size: tuple[int, int]
) -> Iterator[Picture]:
    drawing = drawing_of(session.envs)
    changes = {num_steps * part // len(tasks): task for part, task in enumerate(tasks)}
    for t in range(num_steps):
        if t in changes and t > 0:
            session.change_task(changes[t])
        elif t in changes:
            session.new_trial(changes[t])
        session.step()
        yield picture(session, drawing, size)


def write_gif(path: Path, pictures: Iterator[Picture], rate: float) -> None:
    """Write pictures as an animated GIF that begins anew at its end."""
    frames = [Image.fromarray(pixels) for pixels in pictures]
    palette = frames[len(frames) // 2].quantize(COLORS)
    plain = Image.Dither.NONE  # dithering would differ in every frame, and none would be small
    first, *rest = [frame.quantize(palette=palette, dither=plain) for frame in frames]
    hundredths = max(2, round(HUNDREDTHS / rate))
    first.save(path, save_all=True, append_images=rest, duration=10 * hundredths, loop=0)


def write_mp4(path: Path, pictures: Iterator[Picture], rate: float) -> None:
    """Write pictures as H.264; raises `TrmrlError` where FFmpeg is missing, or refuses."""
    program = _find_ffmpeg()
    first = next(pictures)
    height, width = first.shape[:2]
    raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {rate} -i -"
    made = "-an -c:v libx264 -pix_fmt yuv420p -crf 23 -movflags +faststart"
    process = subprocess.Popen(
        [program, "-y", "-loglevel", "error", *raw.split(), *made.split(), str(path)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # what it has to say is read below
        for pixels in itertools.chain([first], pictures):
            process.stdin.write(pixels.tobytes())
    _, complaint = process.communicate()
    if process.returncode:
        raise TrmrlError(f"cannot write {path}: FFmpeg: {complaint.decode(errors='replace')}")


def _find_ffmpeg() -> str:
    program = shutil.which("ffmpeg")
    if program:
        return program
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ModuleNotFoundError as error:
        raise TrmrlError(
            "a video in .mp4 needs FFmpeg: install it, or pip install 'trmrl[watch]', "
            "or record a .gif"
        ) from error
    return get_ffmpeg_exe()


WRITERS: dict[str, Callable[[Path, Iterator[Picture], float], None]] = {
    ".gif": write_gif,
    ".mp4": write_mp4,
}
