"""Steps and cadence, against recorded walks and runs whose rhythm and contacts are measured another way."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from app.biomechanics.gait import find_steps
from app.biomechanics.movement_summary import movement_summary
from lifter.skeletons import H36M17
from tests.people import walkers

FPS = 50.0
LEFT, RIGHT = H36M17.index("left_ankle"), H36M17.index("right_ankle")


def recorded(shared, name: str) -> dict[str, np.ndarray]:
    """Clips of recorded motion, (T, 17, 3) meters, y up."""
    path = shared / "data" / "mocap" / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no recorded motion {name}.npz in the shared folder")
    with np.load(path, allow_pickle=False) as file:
        places = file["rel"].astype(np.float64) + file["root"][:, None]
        y_up = places[..., [0, 2, 1]] * (1, 1, -1)
        starts = file["clip_start"]
        return {str(n): y_up[a:b] for n, a, b in zip(file["clip_name"], starts, starts[1:], strict=False)}


def seen(world: np.ndarray, fps: float = FPS, **settings):
    result = walkers(world - world[:1, :1] * (1, 0, 1) - (0, 0, 8), 1, **settings)
    times = np.arange(len(world)) / fps
    return replace(result, video=replace(result.video, fps=fps, timestamps_s=times))


def rhythm(world: np.ndarray) -> float:
    """Steps per minute: the strongest frequency in the distance between the feet."""
    apart = np.linalg.norm((world[:, LEFT] - world[:, RIGHT])[:, [0, 2]], axis=-1)
    count = 16 * len(apart)
    power = np.abs(np.fft.rfft((apart - apart.mean()) * np.hanning(len(apart)), count))
    frequencies = np.fft.rfftfreq(count, 1 / FPS)
    return 60 * float(frequencies[np.argmax(power * (frequencies > 0.8) * (frequencies < 4.5))])


def planted(world: np.ndarray, foot: int) -> np.ndarray:
    """When a foot begins to be low and slow [s]: its contacts, by a definition that needs the floor."""
    ankle = world[:, foot]
    speed = np.linalg.norm(np.gradient(ankle, 1 / FPS, axis=0), axis=-1)
    stands = (ankle[:, 1] < np.percentile(ankle[:, 1], 5) + 0.05) & (speed < 0.8)
    return np.flatnonzero(stands[1:] & ~stands[:-1]) / FPS


def test_cadence_is_the_rhythm_of_recorded_walks(shared):
    clips = [clip for clip in recorded(shared, "cmu/cmusub_walking").values() if len(clip) >= 110]
    errors = []
    for clip in clips:
        gait = find_steps(seen(clip), 0)
        is_steady = np.linalg.norm(clip[-1, 0] - clip[0, 0]) / (len(clip) / FPS) > 1.1
        if is_steady:
            assert gait.kind == "walking"
            errors.append(abs(gait.cadence / rhythm(clip) - 1))
    assert len(errors) >= 30
    assert np.mean(errors) < 0.01
    assert np.max(errors) < 0.04


def test_landings_are_where_a_foot_begins_to_stand(shared):
    late, missed = [], 0
    for clip in list(recorded(shared, "cmu/cmusub_walking").values())[:20]:
        gait = find_steps(seen(clip), 0)
        for side, foot in (("left", LEFT), ("right", RIGHT)):
            starts = planted(clip, foot)
            for step in gait.steps:
                if step.side == side:
                    after = starts - step.time_s
                    near = after[np.abs(after).argmin()] if len(after) else np.inf
                    missed += abs(near) > 0.2
                    late.append(near)
    assert len(late) > 80
    assert missed <= 0.02 * len(late)
    assert abs(np.median(late)) < 0.08  # an ankle still rolls on after the heel has landed


@pytest.mark.parametrize(("name", "kind"), [("C22_RunWithBox", "running"), ("C07_RunBackwards", "running"),
                                            ("B05_WalkBackwards", "walking"), ("B03_Walk1", "walking")])  # fmt: skip
def test_walks_and_runs_either_way(shared, name, kind):
    clip = recorded(shared, "accad/accad_female1")[name]
    gait = find_steps(seen(clip), 0)
    assert gait.kind == kind
    assert gait.cadence == pytest.approx(rhythm(clip), rel=0.03)
    sides = [step.side for step in gait.steps]
    assert all(a != b for a, b in pairwise(sides))


def test_exercises_on_the_spot_are_no_gait(shared):
    clips = list(recorded(shared, "uiprmd/uiprmd_s01").values())[::4]
    assert sum(find_steps(seen(clip), 0).kind != "none" for clip in clips) <= 0.03 * len(clips)


def test_steps_of_the_sample(walker):
    """He walks before he stops and waves."""
    gait = find_steps(walkers(walker[:110], 1), 0)
    assert gait.kind == "walking"
    assert 90 < gait.cadence < 140
    first, last = gait.steps[0].frame, gait.steps[-1].frame
    path = np.linalg.norm(np.diff(walker[first : last + 1, 0, ::2], axis=0), axis=1).sum()
    assert gait.speed_m_s == pytest.approx(path / (last - first) * 30, rel=0.05)
    assert all(0.3 < step.length_m < 0.9 for step in gait.steps)
    for step in gait.steps:
        ankle = walker[:110, LEFT if step.side == "left" else RIGHT]
        assert ankle[step.frame, 1] < ankle[:, 1].min() + 0.08, "a foot that lands is near the floor"


def test_who_stands_takes_no_steps(walker):
    still = np.repeat(walker[:1], 120, axis=0)
    gait = find_steps(walkers(still, 1), 0)
    assert (gait.kind, gait.steps, gait.cadence) == ("none", (), None)


def test_a_treadmill_and_a_lifter_without_meters_keep_the_cadence(walker):
    walk = walker[:110]
    over_ground = find_steps(walkers(walk, 1), 0)
    belt = find_steps(walkers(walk - walk[:, :1] * (1, 0, 1) + (0, 0, -4), 1), 0)
    assert belt.kind == "walking or running"
    assert belt.cadence == pytest.approx(over_ground.cadence, rel=0.03)
    (person,) = movement_summary(walkers(walk, 1, unit="normalized"))["people"]
    assert person["gait"]["cadence_steps_per_min"] == pytest.approx(over_ground.cadence, rel=0.03)
    assert person["gait"]["speed"] is None
    assert person["gait"]["mean_step_length"] == {"left": None, "right": None}


def test_a_gap_makes_no_steps(walker):
    result = walkers(walker[:150])
    track = result.tracks[1]
    lost = track.frames[~track.valid]
    assert not {step.frame for step in find_steps(result, 1).steps} & set(lost.tolist())
