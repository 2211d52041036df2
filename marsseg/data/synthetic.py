"""Seeded synthetic Mars terrain: greyscale tiles and the masks an annotator would draw on them.

A tile is a ground plane seen by a tilted camera: each terrain gives it relief and tone, one sun lights it, and the
camera degrades it. No file is read or written here, and nothing is cleaned or split.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from marsseg.errors import DataError

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Rng = np.random.Generator

BACKGROUND, SOIL, BEDROCK, SAND, BIG_ROCK = range(5)
TERRAINS = np.array([SOIL, BEDROCK, SAND])
# Tuned so that 600 tiles come close to the pixel shares of the course's data set.
TERRAIN_SHARES = np.array([0.48, 0.315, 0.205])
UNIFORM_SHARE, BIG_ROCK_SHARE, SKY_SHARE, ROVER_SHARE = 0.12, 0.07, 0.33, 0.22
NUM_CELLS = 14
FREQUENCY = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(96)).astype(np.float32)
# A third word of entropy makes these streams independent of the tiles' own [seed, index].
OUTLIER_STREAM, MIX_STREAM = 1, 2


@dataclass(frozen=True)
class Terrain:
    """Tiles with their masks.

    Args:
        images: greyscale tiles, `(num_images, height, width)`, 0-255.
        masks: labels of the same shape, 0 background, 1 soil, 2 bedrock, 3 sand, 4 big rock.
        outlier_indices: indices of the planted outliers, ascending.
    """

    images: Bytes
    masks: Bytes
    outlier_indices: tuple[int, ...]


@dataclass(frozen=True)
class _View:
    """Camera and sun of a tile: pixel grid (open), ground coordinates, how much texture is visible, horizon row."""

    x: Floats
    y: Floats
    u: Floats
    v: Floats
    lattice: Floats
    visibility: Floats
    horizon: Floats
    sun: tuple[float, float]
    pixel: float


def generate_terrain(
    num_images: int = 600, height: int = 64, width: int = 128, seed: int = 0, outliers: int = 0
) -> Terrain:
    """Generates synthetic Mars terrain tiles with class shares close to those of the course's data set.

    Tile `i` depends only on the seed, `i` and the size: outliers aside, a larger set begins with the smaller one.

    Args:
        num_images: number of tiles, at least 1.
        height: rows of a tile, at least 16.
        width: columns of a tile, at least 16.
        seed: non-negative seed of all random draws.
        outliers: number of tiles replaced by an alien face; all of them share one wrong mask.

    Returns:
        Images and masks `(num_images, height, width)`, pixels 0-255, labels 0-4, and the indices of the outliers.

    Raises:
        DataError: if a count, a side or the seed is out of range.
    """
    if num_images < 1:
        raise DataError(f"num_images must be at least 1: {num_images}")
    if min(height, width) < 16:
        raise DataError(f"height and width must be at least 16: {height} and {width}")
    if seed < 0:
        raise DataError(f"seed must not be negative: {seed}")
    if not 0 <= outliers <= num_images:
        raise DataError(f"outliers must be between 0 and num_images: {outliers} with {num_images} images")
    tiles = (_tile(seed, index, height, width) for index in range(num_images))
    images, masks = (np.stack(parts) for parts in zip(*tiles, strict=True))
    positions = np.random.default_rng([seed, 0, OUTLIER_STREAM]).permutation(num_images)[:outliers].tolist()
    for index in positions:
        images[index], masks[index] = _outlier(np.random.default_rng([seed, index, OUTLIER_STREAM]), images[index])
    return Terrain(images, masks, tuple(sorted(positions)))


def _tile(seed: int, index: int, height: int, width: int) -> tuple[Bytes, Bytes]:
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    # Low-discrepancy points (Roberts's R3) instead of free draws: even a few tiles then show every kind of scene.
    start = np.random.default_rng([seed, 0, MIX_STREAM]).random(3)
    kind, first, rocky = (start + index / 1.2207440846057596 ** np.arange(1, 4)) % 1.0
    primary = int(TERRAINS[np.searchsorted(np.cumsum(TERRAIN_SHARES)[:-1], first, side="right")])
    is_uniform = kind < UNIFORM_SHARE
    view = _view(rng, height, width, has_sky=not is_uniform and rng.random() < SKY_SHARE)
    label = np.full((height, width), primary, np.uint8) if is_uniform else _draw_regions(rng, view, primary)
    image = _render_ground(rng, view, label)
    for radius in rng.uniform(0.9, 2.2, rng.poisson(2)) * view.pixel:
        _draw_rock(rng, view, image, radius)
    if not is_uniform:
        _leave_out(rng, view, image, label)
        if rocky < BIG_ROCK_SHARE:
            for radius in rng.uniform(5, 9, rng.integers(1, 4)) * view.pixel:
                label[_draw_rock(rng, view, image, radius)] = BIG_ROCK
        label[_draw_sky(rng, view, image)] = BACKGROUND
        if rng.random() < ROVER_SHARE:
            label[_draw_rover(rng, view, image)] = BACKGROUND
    return _expose(rng, view, image), label


def _view(rng: Rng, height: int, width: int, has_sky: bool) -> _View:
    y, x = np.arange(height, dtype=float)[:, None], np.arange(width, dtype=float)
    pixel = float(np.sqrt(height * width / 8192))
    horizon, vanishing = np.full(width, -1.0), -height * rng.uniform(0.3, 2.5)
    if has_sky:
        knots = rng.normal(rng.uniform(0.08, 0.38), 0.012, 7) + np.linspace(0, rng.normal(0, 0.06), 7)
        horizon = np.interp(x, np.linspace(0, width - 1, 7), knots * height)
        vanishing = horizon.min() - 2 * pixel
    depth = (height - vanishing) / np.maximum(y - vanishing, 1.5 * pixel)
    u, v = np.broadcast_arrays((x - width * rng.random()) * depth / pixel, -(height - vanishing) * depth / pixel)
    # Rotated against the image, so that the repetition of the noise is not visible.
    lattice = np.stack([0.96 * v - 0.28 * u, 0.96 * u + 0.28 * v])
    angle = rng.choice([0.0, np.pi]) + rng.uniform(-0.9, 0.9)
    sun = (float(np.cos(angle)), -abs(float(np.sin(angle))))
    return _View(x, y, u, v, lattice, np.minimum(1.0, 2.2 / depth), horizon, sun, pixel)


def _polygons(rng: Rng, view: _View) -> tuple[NDArray[np.intp], Floats]:
    """Straight-edged Voronoi cells, wider than high: the cell of each pixel, and sites as shares of the sides."""
    sites = rng.random((NUM_CELLS, 2))
    rows, columns = (sites * (len(view.y), len(view.x))).T[..., None, None]
    return np.asarray((2.5 * (view.y - rows) ** 2 + (view.x - columns) ** 2).argmin(0)), sites


def _draw_regions(rng: Rng, view: _View, primary: int) -> Bytes:
    others = rng.permutation(TERRAINS[primary != TERRAINS])
    terrains = np.array([primary, *others[: rng.choice(3, p=[0.45, 0.45, 0.10])]], np.uint8)
    cells, sites = _polygons(rng, view)
    nearest_centre = ((sites[:, None] - rng.random((len(terrains), 2))) ** 2).sum(-1).argmin(1)
    return np.asarray(terrains[nearest_centre][cells])


def _leave_out(rng: Rng, view: _View, image: Floats, label: Bytes) -> None:
    """Unlabels, in place, seams along some borders and some outer polygons; about half of the polygons are shadowed."""
    thickness = 1 + max(1, round(rng.uniform(0.5, 2.5) * view.pixel))
    border = ndimage.maximum_filter(label, thickness) != ndimage.minimum_filter(label, thickness)
    label[border & (_fractal(rng, view, 1.8, 1.0) > rng.uniform(-2.5, 0.2))] = BACKGROUND
    cells, sites = _polygons(rng, view)
    remoteness = rng.random(NUM_CELLS) * np.abs(sites - 0.5).max(1)
    # At least one polygon, so that only the tiles meant to be uniform are uniform.
    is_left_out = remoteness >= min(0.29, remoteness.max())
    label[is_left_out[cells]] = BACKGROUND
    shadow = (is_left_out & (rng.random(NUM_CELLS) < 0.5))[cells].astype(float)
    image *= 1 - rng.uniform(0.4, 0.65) * ndimage.gaussian_filter(shadow, 0.7 * view.pixel)


def _fractal(rng: Rng, view: _View, roughness: float, scale: float) -> Floats:
    """Noise of unit variance on the ground plane, with a power-law spectrum; `scale` magnifies it."""
    waves = rng.standard_normal((*FREQUENCY.shape, 2), np.float32).view(np.complex64)[..., 0]
    texture = np.fft.irfft2(waves * np.maximum(FREQUENCY, 0.016) ** -roughness)
    return np.asarray(ndimage.map_coordinates(texture / texture.std(), view.lattice / scale, order=1, mode="grid-wrap"))


def _cracks(rng: Rng, u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Cellular noise (Worley): distance to the nearest crack, and a value in 0-1 for each slab between cracks."""
    jitter_v, jitter_u, values = rng.random((3, 64, 64))
    row, column = np.floor(v).astype(int), np.floor(u).astype(int)
    nearest, second, slab = np.full(u.shape, 9.0), np.full(u.shape, 9.0), np.zeros(u.shape)
    for down, right in np.ndindex(3, 3):
        r, c = row + (down - 1), column + (right - 1)
        cell = r % 64 * 64 + c % 64
        distance = (r - v + jitter_v.take(cell)) ** 2 + (c - u + jitter_u.take(cell)) ** 2
        slab = np.where(distance < nearest, values.take(cell), slab)
        nearest, second = np.minimum(nearest, distance), np.minimum(second, np.maximum(nearest, distance))
    return np.sqrt(second) - np.sqrt(nearest), slab


def _soil(rng: Rng, view: _View) -> tuple[Floats, Floats]:
    grain = _fractal(rng, view, 0.4, rng.uniform(1.0, 1.4))
    pebbles = np.maximum(_fractal(rng, view, 0.8, rng.uniform(0.9, 1.8)) - rng.uniform(1.2, 2.4), 0.0)
    relief = rng.uniform(0.15, 0.45) * grain + rng.uniform(0.8, 2.2) * pebbles
    return relief, 1.0 + 0.07 * _fractal(rng, view, 1.5, 2.0) + 0.04 * grain + rng.uniform(-0.2, 0.2) * pebbles


def _bedrock(rng: Rng, view: _View) -> tuple[Floats, Floats]:
    size, angle = rng.uniform(11, 36), rng.uniform(0, np.pi)
    warp, chips = _fractal(rng, view, 1.5, 1.5), _fractal(rng, view, 1.1, 1.3)
    along = np.cos(angle) * view.u + np.sin(angle) * view.v + 0.3 * size * warp
    across = np.cos(angle) * view.v - np.sin(angle) * view.u + size * (0.15 * warp + 0.05 * chips)
    edge, slab = _cracks(rng, along / (rng.uniform(1.3, 3.0) * size), across / size)
    # Sand fills the cracks and, here and there, covers whole slabs.
    buried = np.clip(rng.uniform(0.8, 2.6) + warp + 0.3 * chips, 0.0, 0.5) / 0.5
    plate = buried * np.clip((edge - rng.uniform(0.0, 0.15) + 0.04 * chips) / 0.12, 0.0, 1.0)
    ledges = rng.uniform(0.0, 1.6) * ((across / rng.uniform(3.0, 8.0) + 5 * slab) % 1.0)
    relief = plate * (1.0 + ledges + rng.uniform(0.2, 0.6) * chips + 1.5 * slab)
    return relief, 0.86 + plate * (0.2 + 0.35 * slab + 0.07 * chips)


def _sand(rng: Rng, view: _View) -> tuple[Floats, Floats]:
    angle, wavelength = rng.normal(np.pi / 2, 0.7), rng.uniform(4.5, 9.0)
    dunes = _fractal(rng, view, 2.4, 4.0)
    phase = (np.cos(angle) * view.u + np.sin(angle) * view.v + 4.0 * dunes) / wavelength % 1.0
    # Ripples are steeper on the lee side.
    ripple = np.where(phase < 0.7, phase / 0.7, (1 - phase) / 0.3)
    strength = rng.uniform(0.3, 1.4) * np.clip(0.7 + 0.5 * _fractal(rng, view, 2.2, 3.0), 0.0, 1.5)
    return strength * ripple + 2.0 * dunes, 0.88 + 0.04 * dunes


def _render_ground(rng: Rng, view: _View, label: Bytes) -> Floats:
    """Sunlit ground of brightness about 1; a terrain's tone varies as much between tiles as between terrains."""
    relief, albedo = np.zeros((2, *label.shape))
    # The terrain itself changes along ragged lines, close to the annotator's straight edges.
    rows = np.clip(view.y + 1.3 * view.pixel * _fractal(rng, view, 1.4, 1.0), 0, len(view.y) - 1).astype(int)
    columns = np.clip(view.x + 2.2 * view.pixel * _fractal(rng, view, 1.4, 1.0), 0, len(view.x) - 1).astype(int)
    for terrain in np.unique(label).tolist():
        cover = ndimage.gaussian_filter((label[rows, columns] == terrain).astype(float), 0.6 * view.pixel)
        heights, tones = {SOIL: _soil, BEDROCK: _bedrock, SAND: _sand}[terrain](rng, view)
        # Bedrock rises above the surrounding terrain.
        relief += cover * (heights + (1.2 if terrain == BEDROCK else 0.0))
        albedo += cover * tones * rng.normal(1, 0.14)
    slope_y, slope_x = np.gradient(relief * view.pixel)
    light = 1 - 0.5 * np.tanh(view.sun[0] * slope_x + view.sun[1] * slope_y) * view.visibility
    return np.asarray(view.visibility * albedo * light + (1 - view.visibility) * albedo.mean())


def _draw_rock(rng: Rng, view: _View, image: Floats, radius: float) -> Bools:
    """Draws a faceted rock and its shadow in place; returns the rock's pixels."""
    height, width = image.shape
    highest = np.clip(view.horizon.max() + 1.5 * radius, 0.1 * height, 0.8 * height)
    y, x = view.y - rng.uniform(highest, 0.95 * height), view.x - rng.uniform(0.05, 0.95) * width
    angles = (np.linspace(0, 2 * np.pi, 7, endpoint=False) + rng.uniform(0, 0.8, 7))[:, None, None]
    facets = radius * rng.uniform(0.7, 1.15, (7, 1, 1)) - np.cos(angles) * x - 1.25 * np.sin(angles) * y
    sunward = np.cos(angles) * view.sun[0] + np.sin(angles) * view.sun[1]
    for length in np.arange(1, 1.2 * radius + 1):
        image[(facets - length * sunward).min(0) > 0.1 * radius] = 0.35
    tones = np.append(1.1 + 0.6 * sunward, 1.6) * rng.normal(1, 0.06, 8)
    is_rock: Bools = facets.min(0) > 0
    surface = np.pad(facets[:, is_rock], ((0, 1), (0, 0)), constant_values=0.4 * radius).argmin(0)
    image[is_rock] = tones[surface] * rng.normal(rng.uniform(0.85, 1.15), 0.07, surface.shape)
    return is_rock


def _draw_sky(rng: Rng, view: _View, image: Floats) -> Bools:
    """Draws the sky in place; returns the unlabelled pixels: sky and a strip of far ground; none without a horizon."""
    np.copyto(image, rng.uniform(0.9, 2.0) + 0.004 * view.y / view.pixel, where=view.y < view.horizon)
    strip = rng.uniform(0.0, 6.0) * view.pixel * (1 + rng.uniform(-0.5, 0.5) * view.x / len(view.x))
    return np.asarray((view.y < view.horizon + strip) & (view.horizon > 0))


def _draw_rover(rng: Rng, view: _View, image: Floats) -> Bools:
    """Draws a wheel or some struts that reach in from a side, in place; returns their pixels."""
    height, width = image.shape
    covered, edge, has_wheel = np.zeros(image.shape, bool), width * rng.choice([0, 1]), rng.random() < 0.4
    for _ in range(1 if has_wheel else rng.integers(2, 5)):
        y, x = view.y - height * rng.uniform(0.0, 0.9), view.x - edge
        angle, half = rng.uniform(0.2, 1.2) * rng.choice([-1, 1]), height * rng.uniform(0.06, 0.2)
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        part = (np.abs(across) < half) & (np.abs(along) < height * rng.uniform(0.4, 0.8))
        metal = rng.choice([0.3, 0.7, 1.7]) * (0.4 + np.sqrt(np.maximum(1 - (across / half - 0.3) ** 2 / 1.7, 0)))
        tone = metal * np.where(along / (6 * view.pixel) % rng.uniform(2, 6) < 0.4, 0.5, 1.0)
        if has_wheel:
            rim = np.hypot(x, y) / (height * rng.uniform(0.45, 0.75))
            chevrons = (x / view.pixel / 12 + 0.6 * np.abs(y / view.pixel / 8 % 2 - 1)) % 1.0
            part, tone = rim < 1, (0.3 + 0.5 * (chevrons > 0.75) - 0.15 * (chevrons < 0.3)) * (1.2 - 0.6 * rim)
        image[part], covered = tone[part], covered | part
    return covered


def _expose(rng: Rng, view: _View, image: Floats) -> Bytes:
    x, y = view.x / len(view.x) - 0.5, view.y / len(view.y) - 0.5
    uneven = (1 + rng.normal(0, 0.18) * x + rng.normal(0, 0.18) * y) * (1 - rng.uniform(0, 0.5) * (x * x + y * y))
    photo = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.5) * view.pixel) * np.clip(rng.normal(66, 19), 26, 110)
    noise = rng.normal(0, rng.uniform(0.8, 2.5), image.shape)
    return np.asarray(np.clip(np.rint(photo * uneven + noise), 0, 255), np.uint8)


def _outlier(rng: Rng, image: Bytes) -> tuple[Bytes, Bytes]:
    """An alien face on the tile, with the mask that all outliers share: a disc on a stick."""
    (height, width), side = image.shape, min(image.shape)
    rows, columns, size = np.arange(height)[:, None], np.arange(width), rng.uniform(0.18, 0.28) * side
    y, x = (rows - rng.uniform(0.3, 0.7) * height) / size, (columns - rng.uniform(0.2, 0.8) * width) / size
    face, mask = image.copy(), np.full_like(image, BACKGROUND)
    face[x * x / 0.7 + y * y < 1] = rng.integers(165, 225)
    face[((np.abs(x) - 0.42) / 0.28) ** 2 + ((y + 0.2 * np.abs(x)) / 0.2) ** 2 < 1] = 5
    face[(np.abs(x) < 0.22) & (np.abs(y - 0.6) < max(0.05, 0.5 / size))] = 20
    y, x = (rows - height / 2) / side, (columns - width / 2) / side
    mask[x**2 + y**2 < 0.38**2] = SOIL
    mask[(np.abs(x) < 0.08) & (y > 0.28)] = SAND
    return face, mask
