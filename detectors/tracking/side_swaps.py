"""Left/right swaps over a whole track: finds sides that the detector swapped, for one frame or for seconds.

What is compared are the vectors from the right to the left joint of every pair: a swap negates them and changes
nothing else. Through the frames of a track leads one path of "swapped" and "not" on which these vectors move least
suddenly (Viterbi). Their speed counts: legs that pass each other and shoulders of somebody who turns round go on
through zero, where a swap would let them bounce. Frames that fit neither way, mostly those in which both limbs
are put into one place, may be left out at a price.

Which state is the right one geometry cannot tell: a body with all sides swapped is, from afar, the same body seen
from the other side, with knees that bend forwards and the nose where it was. It is the state with most frames, unless
ears that were not swapped with the shoulders contradict.
"""

from __future__ import annotations

import numpy as np

from detectors.people import NUM_KEYPOINTS
from detectors.pose_geometry import BODY
from detectors.tracking.segments import contiguous_segments

LEFT = np.arange(1, NUM_KEYPOINTS, 2)  # pairs: eyes, ears, shoulders, elbows, wrists, hips, knees, ankles
RIGHT = LEFT + 1
EARS, SHOULDERS, HIPS = 1, 2, 5
# What detectors swap: everything with the face or without, then arms, then legs, with shoulders or hips or without.
CHAINS = (([0, 1], [2, 3, 4, 5, 6, 7]), ([2], [3, 4]), ([5], [6, 7]))
STATES = np.array([(1, 1), (-1, -1), (1, -1)])  # signs of a chain's two parts: as they are, both swapped, the second
# Whether (state, state) differ in a part: (3, 3, 2) int, an index.
DIFFERS = (STATES[:, None] * STATES < 0).astype(np.int64)

# Where a pair's vector is predicted to be, it is within NOISE [body sizes] and what adds up in time [body sizes/s]:
# rounded from medians on recorded motion at 10 to 60 fps with simulated errors of the detector.
NOISE = np.array([0.004, 0.005, 0.005, 0.008, 0.010, 0.006, 0.007, 0.008])
DRIFT = np.array([0.05, 0.06, 0.10, 0.20, 0.30, 0.08, 0.16, 0.20])
SPEED_S = 0.2  # so long a vector keeps its speed
# After a gap as long as this beyond a tenth of a second positions say a third of what they said: half a step reverses
# legs, half a turn takes longer.
FORGET_S = np.array([0.4, 0.4, 0.4, 0.15, 0.15, 0.4, 0.15, 0.15])
USUAL_STEP_S = 0.11
MAX_SURPRISE = 100.0  # squared, in units of the above: one joint that jumps tells no more than this
MIN_WEIGHT_SCORE = 0.1  # pairs count by the root of their lower score, at least this one

# Prices, in units of log likelihood.
SWITCH = 5.0  # of entering or leaving a swap
SPLIT = 8.0  # of a change in a chain's first part alone, say the hips without the legs, on top
SWAPPED = 0.08  # per frame, of being swapped: the state with most frames is the right one
EARS_DIFFER = 0.24  # per frame, of ears in another order than the shoulders, times two; both must be apart by WIDE
TRUNK_TWISTS = 0.018  # per frame, of hips in another order than the shoulders, times two; both must be apart by NARROW
WIDE, NARROW = 0.05, 0.02  # body sizes
SEEN_SCORE = 0.3
HELD, HELD_S = 15.0, 0.25  # how clearly [log likelihood], over how long [s], a frame of a swap must follow
SKIP = 5.0  # of a frame left out, per pair
SKIP_S = (0.0, 0.067, 0.167)  # from the last frame to the next; to leave out more would turn walkers round


def fix_left_right_swaps(keypoints: np.ndarray, scores: np.ndarray, observed: np.ndarray, fps: float) -> np.ndarray:
    """Return (T, 17) int64: the joint that each is to be taken from; itself but where sides were swapped.

    Args:
        keypoints: (T, 17, 2) px; any numbers where not observed.
        scores: (T, 17) in [0, 1].
        observed: (T,) bool; other frames stay as they are.
        fps: Frames per second.
    """
    frames = np.flatnonzero(observed)
    points = keypoints[frames].astype(np.float64) / _sizes(keypoints[frames], fps)[:, None, None]
    pairs = points[:, LEFT] - points[:, RIGHT]  # (n, 8, 2)
    pair_scores = np.minimum(scores[frames][:, LEFT], scores[frames][:, RIGHT])
    signs = np.ones(pairs.shape[:2])
    for chain in CHAINS:
        found = find_swaps(pairs * signs[..., None], pair_scores, signs, frames / fps, chain)
        if SHOULDERS in chain[1]:
            found = _certain(found, pairs, frames / fps, chain)
        for part, sign in zip(chain, found.T, strict=True):
            signs[:, part] *= sign[:, None]
    order = np.tile(np.arange(NUM_KEYPOINTS), (len(keypoints), 1))
    rows, swapped = np.nonzero(signs < 0)
    order[frames[rows], LEFT[swapped]], order[frames[rows], RIGHT[swapped]] = RIGHT[swapped], LEFT[swapped]
    return order


def _sizes(keypoints: np.ndarray, fps: float) -> np.ndarray:
    """Return the body size [px] in every frame, its median over a second: (n,)."""
    sizes = np.maximum(np.linalg.norm(np.ptp(keypoints[:, BODY], axis=1), axis=-1), 1.0)
    reach = round(fps / 2)
    return np.median(np.lib.stride_tricks.sliding_window_view(np.pad(sizes, reach, mode="edge"), 2 * reach + 1), axis=1)


def find_swaps(
    pairs: np.ndarray, scores: np.ndarray, signs: np.ndarray, times: np.ndarray, chain: tuple[list[int], list[int]]
) -> np.ndarray:
    """Return (n, 2) float64, 1 or -1: whether the two parts of ``chain`` are swapped in each of n observed frames.

    Args:
        pairs: (n, 8, 2) float64, vectors from right to left joints [body sizes].
        scores: (n, 8), the lower one of each pair.
        signs: (n, 8), -1 where ``pairs`` are not as the detector had them.
        times: (n,) [s].
        chain: The pairs of either part, one of ``CHAINS``.
    """
    steps = times[1:] - times[:-1]
    lags = np.unique([max(1, round(skip / steps.min())) for skip in SKIP_S]) if len(steps) else np.ones(1, np.int64)
    lags = lags[(lags == 1) | (lags * steps.min(initial=1) <= 1.1 * SKIP_S[-1])]
    links = [_links(pairs[:, part], scores[:, part], times, lags, part) for part in chain]
    costs = _state_costs(pairs, scores, signs, chain)
    states = _best_path(links, costs, lags, SKIP * sum(map(len, chain)))
    found = STATES[states].astype(np.float64)  # of frames that were left out: STATES[-1], replaced here
    for column, part in enumerate(chain):
        found[:, column] = _filled(found[:, column], states >= 0, pairs[:, part], times, part)
    return found


def _state_costs(
    pairs: np.ndarray, scores: np.ndarray, signs: np.ndarray, chain: tuple[list[int], list[int]]
) -> np.ndarray:
    """Return (n, 3) float64: what the states cost: the prior, and what contradicts in the picture."""
    is_swapped = (signs[:, None, [part[0] for part in chain]] * STATES < 0).any(axis=-1)
    costs = SWAPPED * is_swapped
    is_whole = SHOULDERS in chain[1]
    across = pairs[:, [EARS, SHOULDERS] if is_whole else [SHOULDERS, HIPS], 0]  # (n, 2)
    agree = np.sign(across.prod(axis=1)) * (np.abs(across).min(axis=1) > (WIDE if is_whole else NARROW))
    if is_whole:
        costs[:, 2] += 2 * EARS_DIFFER * agree * (scores[:, EARS] >= SEEN_SCORE)
    else:
        costs[:, 1] += 2 * TRUNK_TWISTS * agree
    return costs


def _surprise(miss: np.ndarray, sigma_squared: np.ndarray) -> np.ndarray:
    """Return minus the log likelihood of missing by ``miss`` (..., 2): heavy tails, and bounded."""
    ratio = np.einsum("...i,...i", miss, miss) / sigma_squared
    return 1.5 * np.log1p(ratio / (1 + ratio / MAX_SURPRISE))


def _links(pairs: np.ndarray, scores: np.ndarray, times: np.ndarray, lags: np.ndarray, part: list[int]) -> np.ndarray:
    """Return (n, L, L + 1, 2, 2) float32: the cost of each frame's vectors after two frames before.

    Axes: frame; lag of the frame before; lag from there to the one before that, the last for none; whether that one,
    and whether the frame before, differs from this frame in being swapped.
    """
    count, num_lags = len(pairs), len(lags)
    vectors = pairs.astype(np.float32)
    costs = np.zeros((count, num_lags, num_lags + 1, 2, 2), np.float32)
    for i, lag in enumerate(lags):
        before = np.maximum(np.arange(count) - lag, 0)
        elapsed = np.maximum(times - times[before], 1e-3).astype(np.float32)[:, None]
        sigma_squared = (NOISE[part] ** 2 + (DRIFT[part] * elapsed) ** 2).astype(np.float32)
        weights = np.sqrt(np.maximum(np.minimum(scores, scores[before]), MIN_WEIGHT_SCORE))
        weights = weights * np.exp(-np.maximum(elapsed - USUAL_STEP_S, 0) / FORGET_S[part])
        for j, lag_before in enumerate([*lags, 0]):
            first = np.maximum(before - lag_before, 0)
            earlier = np.maximum(times[before] - times[first], 1e-3).astype(np.float32)[:, None]
            gain = np.exp(-(elapsed + earlier) / (2 * SPEED_S)) * elapsed / earlier * (lag_before > 0)
            near, far = (1 + gain)[..., None] * vectors[before], gain[..., None] * vectors[first]
            for k, m in np.ndindex(2, 2):
                miss = vectors - (1 - 2 * m) * near + (1 - 2 * k) * far
                costs[:, i, j, k, m] = np.einsum("np,np->n", weights, _surprise(miss, sigma_squared))
    return costs


def _best_path(links: list[np.ndarray], state_costs: np.ndarray, lags: np.ndarray, skip: float) -> np.ndarray:
    """Return (n,) int64: the state of every frame on the cheapest path, -1 for frames that it leaves out.

    Args:
        links: Of both parts, see ``_links``.
        state_costs: (n, 3).
        lags: (L,) how many frames on the path may go.
        skip: Cost of leaving a frame out.
    """
    count, num_lags, num_states = len(state_costs), len(lags), len(STATES)
    steps = _step_costs(links, lags, skip)  # (n, L, state before, state, (lag before that, state there))
    farthest = int(lags[-1])
    # The cheapest way to each frame; axes: frame and farthest, lag, state of the frame before, state. The last lag is
    # for paths that begin here.
    best = np.full((count + farthest, num_lags + 1, num_states, num_states), np.inf)
    every = np.arange(num_states)
    for frame in range(count):
        ways = best[frame + farthest - lags].transpose(0, 3, 1, 2).reshape(num_lags, num_states, 1, -1)
        best[frame + farthest, :num_lags] = (ways + steps[frame]).min(axis=-1)
        if frame <= farthest:
            best[frame + farthest, num_lags, every, every] = frame * skip
        best[frame + farthest] += state_costs[frame]
    best = best[farthest:]
    ends = best[-farthest - 1 :] + skip * np.arange(min(farthest + 1, count))[::-1, None, None, None]
    path = np.full(count, -1)
    frame, lag, before, state = (int(i) for i in np.unravel_index(ends.argmin(), ends.shape))
    frame += count - len(ends)
    while True:
        path[frame] = state
        if lag == num_lags:
            return path
        earlier = frame - lags[lag]
        ways = best[earlier, :, :, before].reshape(-1) + steps[frame, lag, before, state]
        (lag_before, there), frame = divmod(int(ways.argmin()), num_states), earlier
        lag, before, state = lag_before, there, before


def _step_costs(links: list[np.ndarray], lags: np.ndarray, skip: float) -> np.ndarray:
    """Return (n, L, 3, 3, (L + 1) * 3) float32: ``links`` of both parts by state, with the prices of what changes."""
    count, num_lags = len(links[0]), len(lags)
    costs = np.zeros((1,), np.float32)
    for column, link in enumerate(links):
        differs = DIFFERS[..., column]
        # axes of the index: state before, state, state of the frame before that
        costs = costs + link[..., differs.T[None], differs[:, :, None]]
    changes = SWITCH * (1.0 - np.eye(len(STATES)))
    changes[[1, 2], [2, 1]] += SPLIT
    costs += changes[:, :, None]
    costs += skip * (lags - 1)[:, None, None, None, None]
    for i, lag in enumerate(lags):
        costs[:lag, i] = np.inf
    return costs.transpose(0, 1, 3, 4, 2, 5).reshape(count, num_lags, len(STATES), len(STATES), -1)


def _certain(found: np.ndarray, pairs: np.ndarray, times: np.ndarray, chain: tuple[list[int], list[int]]) -> np.ndarray:
    """Return ``found`` (n, 2) without swaps in whose midst the sides may have changed unseen.

    Where a detector puts both sides into one place for a moment, it often swaps them, and a path that misses this
    is wrong until the next swap. Every frame of a swap must be held to the one before by two frames, at most
    ``HELD_S`` apart, that are clearly alike.
    """
    body = chain[1]
    vectors = pairs[:, body] * found[:, 1, None, None]
    held = np.zeros(len(found))
    held[:1] = np.inf
    for lag in range(1, len(found)):
        elapsed = times[lag:] - times[:-lag]
        if elapsed.min() > HELD_S:
            break
        sigma_squared = NOISE[body] ** 2 + (DRIFT[body] * elapsed[:, None]) ** 2
        same, other = (_surprise(vectors[lag:] - way * vectors[:-lag], sigma_squared) for way in (1, -1))
        evidence = np.where(elapsed <= HELD_S, (other - same).sum(axis=1), 0.0)
        for inside in range(lag):
            held[lag - inside : len(held) - inside] = np.maximum(held[lag - inside : len(held) - inside], evidence)
    certain = found.copy()
    for start, stop in contiguous_segments((found < 0).any(axis=1)):
        if (held[start + 1 : stop] < HELD).any():
            certain[start:stop] = 1
    return certain


def _filled(sign: np.ndarray, is_kept: np.ndarray, pairs: np.ndarray, times: np.ndarray, part: list[int]) -> np.ndarray:
    """Return signs (n,), those that the path left out from the frames of the path around: as they are, or nearer so."""
    kept, rows = np.flatnonzero(is_kept), np.flatnonzero(~is_kept)
    after = np.searchsorted(kept, rows)
    costs = np.zeros((len(rows), 2))
    for neighbor in (kept[np.maximum(after - 1, 0)], kept[np.minimum(after, len(kept) - 1)]):
        drift = DRIFT[part] * np.abs(times[rows] - times[neighbor])[:, None]
        for column, way in enumerate((1, -1)):
            miss = way * pairs[rows] - sign[neighbor][:, None, None] * pairs[neighbor]
            costs[:, column] += _surprise(miss, NOISE[part] ** 2 + drift**2).sum(axis=1)
            costs[:, column] += SWITCH * (sign[neighbor] != way)
    filled = sign.copy()
    filled[rows] = np.where(costs[:, 1] < costs[:, 0], -1, 1)
    return filled
