"""The loops of Farneback's flow, compiled. Why they are laid out so, `farneback.py` says; loops over one array each are what LLVM
makes wide, since of many it cannot see that none is another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Floats = NDArray[np.float32]
P = ParamSpec("P")
R = TypeVar("R")

RADIUS = 5  # of the neighbourhood that a polynomial is fitted to, in pixels
PLACES = 8  # floats kept for a pixel's 5 coefficients: one wide register
ROWS = 16  # of the picture, whose running sums go side by side
TILE = 64  # columns that are turned at a time, so that what is written stays in the first cache
f32, f64 = np.float32, np.float64


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """By numba, kept for the next process where there is a folder for it."""
    try:
        kept = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        kept = numba.njit(nogil=True, error_model="numpy")(function)
    return cast(Callable[P, R], kept)


@intrinsic  # type: ignore[untyped-decorator]
def blend(
    _context: Any, source: Any, above: Any, below: Any, a: Any, b: Any, c: Any, d: Any, target: Any, to: Any
) -> Any:
    """target[to : to + 8] = a * source[above] + b * the next pixel + c * source[below] + d * the next pixel, 8 floats at once.

    numba leaves LLVM's vectoriser of straight code off, and the one for loops cannot see that `target` is not in `source`.
    """
    vector, word = ir.VectorType(ir.FloatType(), PLACES), ir.IntType(32)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        read = context.make_array(signature.args[0])(context, builder, args[0]).data
        write = context.make_array(signature.args[7])(context, builder, args[7]).data
        nothing = ir.Constant(vector, ir.Undefined)

        def place(base: Any, index: Any) -> Any:
            return builder.bitcast(builder.gep(base, [index]), vector.as_pointer())

        def pixel(index: Any, next_one: bool, weight: Any) -> Any:
            if next_one:
                index = builder.add(index, ir.Constant(index.type, PLACES))
            first = builder.insert_element(nothing, weight, ir.Constant(word, 0))
            everywhere = builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(word, PLACES), [0] * PLACES))
            return builder.fmul(everywhere, builder.load(place(read, index), align=4))

        total = pixel(args[1], False, args[3])
        for index, next_one, weight in ((args[1], True, args[4]), (args[2], False, args[5]), (args[2], True, args[6])):
            total = builder.fadd(total, pixel(index, next_one, weight))
        builder.store(total, place(write, args[8]), align=4)
        return context.get_dummy_value()

    return types.void(source, above, below, a, b, c, d, target, to), generate


@compiled
def expand(picture: Floats, g: Floats, xg: Floats, xxg: Floats, inverse: Any, rows: Floats, pixels: Floats) -> None:
    """[h, w] -> the two layouts of an `Expansion`: down the columns in floats, then along the rows in doubles."""
    height, width = picture.shape
    padded = np.empty((3, width + 2 * RADIUS), np.float32)
    v0, v1, v2 = (
        padded[0, RADIUS : RADIUS + width],
        padded[1, RADIUS : RADIUS + width],
        padded[2, RADIUS : RADIUS + width],
    )
    plain, ig11, ig03, ig33, ig55 = np.empty(width, np.float64), inverse[0], inverse[1], inverse[2], inverse[3]
    for y in range(height):
        v0[:] = picture[y] * g[0]
        v1[:] = f32(0)
        v2[:] = f32(0)
        for k in range(1, RADIUS + 1):
            up, down = picture[max(y - k, 0)], picture[min(y + k, height - 1)]
            for x in range(width):
                v0[x] += g[k] * (up[x] + down[x])
            for x in range(width):
                v1[x] += xg[k] * (down[x] - up[x])
            for x in range(width):
                v2[x] += xxg[k] * (up[x] + down[x])
        for c in range(3):
            padded[c, :RADIUS] = padded[c, RADIUS]
            padded[c, RADIUS + width :] = padded[c, RADIUS + width - 1]
        p0, p1, p2 = padded[0], padded[1], padded[2]
        r2, r3, r4, r5, r6 = rows[y, 0], rows[y, 1], rows[y, 2], rows[y, 3], rows[y, 4]
        for x in range(width):
            total = f64(p1[RADIUS + x] * g[0])
            for k in range(1, RADIUS + 1):
                total += f64((p1[RADIUS + x + k] + p1[RADIUS + x - k]) * g[k])
            r2[x] = total * ig11
        for x in range(width):
            total = f64(0)
            for k in range(1, RADIUS + 1):
                total += f64((p0[RADIUS + x + k] - p0[RADIUS + x - k]) * xg[k])
            r3[x] = total * ig11
        for x in range(width):
            total = f64(p0[RADIUS + x] * g[0])
            for k in range(1, RADIUS + 1):
                total += f64(p0[RADIUS + x + k] + p0[RADIUS + x - k]) * f64(g[k])
            plain[x] = total * ig03
        for x in range(width):
            total = f64(p2[RADIUS + x] * g[0])
            for k in range(1, RADIUS + 1):
                total += f64((p2[RADIUS + x + k] + p2[RADIUS + x - k]) * g[k])
            r4[x] = plain[x] + total * ig33
        for x in range(width):
            total = f64(0)
            for k in range(1, RADIUS + 1):
                total += f64(p0[RADIUS + x + k] + p0[RADIUS + x - k]) * f64(xxg[k])
            r5[x] = plain[x] + total * ig33
        for x in range(width):
            total = f64(0)
            for k in range(1, RADIUS + 1):
                total += f64((p1[RADIUS + x + k] - p1[RADIUS + x - k]) * xg[k])
            r6[x] = total * ig55
        into = pixels[y]
        for x in range(width):
            into[x, 0], into[x, 1], into[x, 2], into[x, 3], into[x, 4] = r2[x], r3[x], r4[x], r5[x], r6[x]


@compiled
def displaced(dx: Floats, dy: Floats, y: int, height: int, step: int, at: Any, weights: Floats) -> None:
    """Where a row's pixels go to: the index of the upper left of the 4 pixels around, -1 outside, and those pixels' weights.

    weights: [6, w], of which the last two rows are for the way there.
    """
    width, one, zero = dx.shape[0], f32(1), f32(0)
    right, bottom, row = f32(width - 1), f32(height - 1), f32(y)
    a, b, c, d, right_of, below = weights[0], weights[1], weights[2], weights[3], weights[4], weights[5]
    for x in range(width):
        fx, fy = f32(x) + dx[x], row + dy[x]
        left, top = np.floor(fx), np.floor(fy)
        inside = (left >= zero) & (left < right) & (top >= zero) & (top < bottom)
        # a far displacement does not fit an integer: what is computed then must not be used
        at[x] = np.int32(top if inside else zero) * np.int32(step) + np.int32(left if inside else zero) * np.int32(
            PLACES
        )
        at[x] = at[x] if inside else np.int32(-1)
    for x in range(width):
        fx = f32(x) + dx[x]
        right_of[x] = fx - np.floor(fx)
    for x in range(width):
        fy = row + dy[x]
        below[x] = fy - np.floor(fy)
    for x in range(width):
        a[x] = (one - right_of[x]) * (one - below[x])
    for x in range(width):
        b[x] = right_of[x] * (one - below[x])
    for x in range(width):
        c[x] = (one - right_of[x]) * below[x]
    for x in range(width):
        d[x] = right_of[x] * below[x]


@compiled
def at_edge(place: int, size: int) -> bool:
    """Whether a pixel is among the 5 outermost. Of less than 10 in all OpenCV's unsigned numbers turn over: we follow."""
    return bool(np.uint32(place - 5) >= np.uint32(size - 10))


@compiled
def equations(
    before: Floats, after: Floats, flow: Floats, across: Floats, down: Floats, start: int, end: int, out: Floats
) -> None:
    """What a pixel of the rows from start to end says about its displacement: 11, 12, 22 of G and 1, 2 of h, [h, 5, w]."""
    height, width = flow.shape[1:]
    source, step, half, quarter = after.reshape(height * width * PLACES), width * PLACES, f32(0.5), f32(0.25)
    at, weights = np.empty(width, np.int32), np.empty((6, width), np.float32)
    moved, a, b, c, d = np.empty((width, PLACES), np.float32), weights[0], weights[1], weights[2], weights[3]
    target, q = moved.reshape(width * PLACES), np.empty((5, width), np.float32)
    r2, r3, r4, r5, r6 = q[0], q[1], q[2], q[3], q[4]
    for y in range(start, end):
        dx, dy, here = flow[0, y], flow[1, y], before[y]
        displaced(dx, dy, y, height, step, at, weights)
        for x in range(width):
            above = np.int64(at[x])
            if above >= 0:
                blend(source, above, above + step, a[x], b[x], c[x], d[x], target, x * PLACES)
            else:  # the mean with itself is itself, to the last bit
                moved[x, 0], moved[x, 1] = f32(0), f32(0)
                moved[x, 2], moved[x, 3], moved[x, 4] = here[2, x], here[3, x], here[4, x]
        for x in range(width):
            r2[x], r3[x], r4[x], r5[x], r6[x] = moved[x, 0], moved[x, 1], moved[x, 2], moved[x, 3], moved[x, 4]
        for x in range(width):
            r4[x] = (here[2, x] + r4[x]) * half
        for x in range(width):
            r5[x] = (here[3, x] + r5[x]) * half
        for x in range(width):
            r6[x] = (here[4, x] + r6[x]) * quarter
        for x in range(width):
            r2[x] = (here[0, x] - r2[x]) * half + (r4[x] * dy[x] + r6[x] * dx[x])
        for x in range(width):
            r3[x] = (here[1, x] - r3[x]) * half + (r6[x] * dy[x] + r5[x] * dx[x])
        outer = at_edge(y, height)
        inner = 0 if outer or width <= 10 else width - 10  # columns that need no look
        for place in range(width - inner):
            x = place if place < 5 else place + inner
            if outer or at_edge(x, width):
                counts = across[0, x] * across[1, x] * down[0, y] * down[1, y]
                for row in range(5):
                    q[row, x] *= counts
        g11, g12, g22, h1, h2 = out[y, 0], out[y, 1], out[y, 2], out[y, 3], out[y, 4]
        for x in range(width):
            g11[x] = r4[x] * r4[x] + r6[x] * r6[x]
        for x in range(width):
            g12[x] = (r4[x] + r5[x]) * r6[x]
        for x in range(width):
            g22[x] = r5[x] * r5[x] + r6[x] * r6[x]
        for x in range(width):
            h1[x] = r4[x] * r2[x] + r6[x] * r3[x]
        for x in range(width):
            h2[x] = r6[x] * r2[x] + r5[x] * r3[x]


@compiled
def sum_down(equations: Floats, reach: int, first: int, rows: int, down: Any, turned: Any) -> None:
    """The next rows of the sums over a column, turned: [w, 5 * ROWS]."""
    height, _, width = equations.shape
    for c in range(5):
        for left in range(0, width, TILE):
            right = min(left + TILE, width)
            part = down[c, left:right]
            for row in range(rows):
                y = first + row
                out, into = (
                    equations[max(y - reach - 1, 0), c, left:right],
                    equations[min(y + reach, height - 1), c, left:right],
                )
                column = turned[left:right, c * ROWS + row]
                for x in range(right - left):
                    part[x] += f64(into[x] - out[x])
                for x in range(right - left):
                    column[x] = part[x]


@compiled
def sum_along(turned: Any, window: int, first: int, rows: int, along: Any, found: Floats, flow: Floats) -> None:
    """The sums along the rows, and the 2 by 2 equations solved."""
    width, reach, scale = turned.shape[0], window // 2, 1 / (window * window)
    for i in range(5 * ROWS):
        along[i] = turned[0, i] * (reach + 2)
    for x in range(1, reach):
        column = turned[min(x, width - 1)]
        for i in range(5 * ROWS):
            along[i] += column[i]
    for x in range(width):
        into, out = turned[min(x + reach, width - 1)], turned[max(x - reach - 1, 0)]
        for i in range(5 * ROWS):
            along[i] += into[i] - out[i]
        for i in range(ROWS):
            g11, g12, g22 = along[i] * scale, along[ROWS + i] * scale, along[2 * ROWS + i] * scale
            h1, h2 = along[3 * ROWS + i] * scale, along[4 * ROWS + i] * scale
            inverse = 1 / (g11 * g22 - g12 * g12 + 1e-3)
            found[i] = (g11 * h2 - g12 * h1) * inverse
            found[ROWS + i] = (g22 * h1 - g12 * h2) * inverse
        for i in range(rows):
            flow[0, first + i, x] = found[i]
            flow[1, first + i, x] = found[ROWS + i]


@compiled
def refine(
    before: Floats, after: Floats, across: Floats, down: Floats, window: int, system: Floats, flow: Floats
) -> None:
    """flow, [2, h, w], anew: the displacement that fits the whole of a window, by running sums, first down, then along.

    The equations of rows are set up just before they are summed, while they are near; `system` is room for them, [h, 5, w].
    """
    height, width = flow.shape[1:]
    reach = window // 2
    sums = np.empty((5, width), np.float64)
    turned = np.empty((width, 5 * ROWS), np.float64)
    along, found = np.empty(5 * ROWS, np.float64), np.empty(2 * ROWS, np.float32)
    ready = min(reach, height)
    equations(before, after, flow, across, down, 0, ready, system)
    for c in range(5):
        for x in range(width):
            sums[c, x] = f64(system[0, c, x] * f32(reach + 2))
        for y in range(1, reach):
            for x in range(width):
                sums[c, x] += f64(system[min(y, height - 1), c, x])
    for first in range(0, height, ROWS):
        rows = min(ROWS, height - first)
        needed = min(first + rows + reach, height)
        equations(before, after, flow, across, down, ready, needed, system)
        ready = needed
        sum_down(system, reach, first, rows, sums, turned)
        sum_along(turned, window, first, rows, along, found, flow)
