"""``Layout``: where the picture and the 3D panel lie in the overlay, by its style and shape."""

from __future__ import annotations

from dataclasses import dataclass

from app.options import Options

PANEL_ASPECT = 0.75
MIN_PANEL_WIDTH = 240
LEAST_SHARE = 0.45  # of the picture's side along which they lie side by side, where a shape is asked for


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Layout:
    """The parts of one picture of the overlay.

    Attributes:
        height: Of the whole in pixels, even.
        width: Of the whole in pixels, even.
        picture: Where the video is, in its own size; None if it is not shown.
        panel: Where the 3D panel is; None if it is not shown.
    """

    height: int
    width: int
    picture: Box | None
    panel: Box | None


def layout_of(width: int, height: int, options: Options) -> Layout:
    """Return the layout for a video of this size.

    In a shape of 16:9 the panel is right of the picture, in 9:16 below it; what remains is a dark margin.
    """
    style, shape = options.overlay_style, options.overlay_shape
    if style == "3d":
        return _panel_alone(width, height, shape)
    if style == "picture":
        extra = (0, 0)
    elif shape == "9:16":
        extra = (0, max(round(LEAST_SHARE * height), round(width * 16 / 9) - height))
    elif shape == "16:9":
        extra = (max(round(LEAST_SHARE * width), round(height * 16 / 9) - width), 0)
    else:
        tall = _even(height)
        panel = max(MIN_PANEL_WIDTH, round(min(PANEL_ASPECT * tall, 1.25 * width)))  # no giant beside a narrow picture
        extra = (panel, 0)
    return _around(width, height, extra, shape)


def _around(width: int, height: int, extra: tuple[int, int], shape: str) -> Layout:
    """Return the layout with so many pixels for the panel at the right of the picture, or below it."""
    full_width, full_height = _grown(width + extra[0], height + extra[1], shape)
    if extra[0]:
        picture = Box(0, (full_height - height) // 2, width, height)
        return Layout(full_height, full_width, picture, Box(width, 0, full_width - width, full_height))
    if extra[1]:
        picture = Box((full_width - width) // 2, 0, width, height)
        return Layout(full_height, full_width, picture, Box(0, height, full_width, full_height - height))
    picture = Box((full_width - width) // 2, (full_height - height) // 2, width, height)
    return Layout(full_height, full_width, picture, None)


def _panel_alone(width: int, height: int, shape: str) -> Layout:
    short = max(MIN_PANEL_WIDTH, min(width, height))
    sizes = {"16:9": (round(short * 16 / 9), short), "9:16": (short, round(short * 16 / 9))}
    width, height = (_even(side) for side in sizes.get(shape, (max(width, short), max(height, short))))
    return Layout(height, width, None, Box(0, 0, width, height))


def _grown(width: int, height: int, shape: str) -> tuple[int, int]:
    """Return the smallest even size of a shape that holds so much."""
    if shape != "clip":
        across, down = (int(side) for side in shape.split(":"))
        width, height = max(width, round(height * across / down)), max(height, round(width * down / across))
    return _even(width), _even(height)


def _even(side: int) -> int:
    return side + side % 2
