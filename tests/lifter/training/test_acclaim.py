"""Acclaim files: geometry by SciPy, units, axes, frame rates, malformed files."""

import random
import re

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lifter.training.mocap.recordings import read_recording
from tests.recordings import (
    BONES,
    INCH,
    JOINT,
    ORDERS,
    amc_text,
    asf_text,
    assert_faces_ahead,
    change,
    only_clip,
    random_values,
    to_ours,
    write_amc,
)


def scipy_bones(values, unit: float) -> tuple[dict[str, np.ndarray], dict[str, Rotation]]:
    """Ends (F, 3) of the bones in meters, and their rotations: C M C^-1 below the parent's, M by fixed axes x, y, z."""
    ends = {"root": values["root"][:, :3] * unit}
    turned = {"root": Rotation.from_euler("xyz", values["root"][:, 3:], degrees=True)}
    todo = list(BONES)
    while todo:
        name, parent, direction, meters, axes, dof = todo.pop(0)
        if parent not in ends:
            todo.append((name, parent, direction, meters, axes, dof))
            continue
        own = Rotation.identity()
        if dof:
            angles = np.zeros((len(values["root"]), 3))
            angles[:, ["xyz".index(d[1]) for d in dof.split()]] = values[name]
            basis = Rotation.from_euler("xyz", axes, degrees=True)
            own = basis * Rotation.from_euler("xyz", angles, degrees=True) * basis.inv()
        turned[name] = turned[parent] * own
        ends[name] = ends[parent] + turned[name].apply(np.array(direction) / np.linalg.norm(direction) * meters)
    return ends, turned


def test_acclaim_motion_is_what_scipy_computes(tmp_path):
    values = write_amc(tmp_path, frames=120, header=(":SAMPLES-PER-SECOND 50",))  # every frame as it is
    joints = only_clip(tmp_path / "77_01.amc")
    ends, turned = scipy_bones(values, INCH / 0.45)
    for side, letter in (("left", "l"), ("right", "r")):
        for part, bone in (
            ("hip", "hipjoint"),
            ("knee", "femur"),
            ("ankle", "tibia"),
            ("shoulder", "clavicle"),
            ("elbow", "humerus"),
        ):
            np.testing.assert_allclose(
                joints[:, JOINT[f"{side}_{part}"]], to_ours(ends[letter + bone]), rtol=0, atol=1e-5
            )
        wrist = 0.6 * ends[f"{letter}radius"] + 0.4 * ends[f"{letter}wrist"]
        np.testing.assert_allclose(joints[:, JOINT[f"{side}_wrist"]], to_ours(wrist), rtol=0, atol=1e-5)
    np.testing.assert_allclose(joints[:, JOINT["thorax"]], to_ours(ends["thorax"]), rtol=0, atol=1e-5)
    nose = ends["upperneck"] + turned["head"].apply([0, 0.02, 0.055])
    head = 0.25 * ends["upperneck"] + 0.75 * ends["head"] + turned["head"].apply([0, 0.05, 0])
    np.testing.assert_allclose(joints[:, JOINT["nose"]], to_ours(nose), rtol=0, atol=1e-5)
    np.testing.assert_allclose(joints[:, JOINT["head"]], to_ours(head), rtol=0, atol=1e-5)


def test_people_of_acclaim_files_face_ahead(tmp_path):
    write_amc(tmp_path, size=5)
    assert_faces_ahead(only_clip(tmp_path / "77_01.amc"))


def test_acclaim_units_angles_and_orders(tmp_path):
    # the same motion in inches, in radians, with the root's channels and a bone's axes in another order
    values = write_amc(tmp_path / "a", size=20)
    reference = only_clip(tmp_path / "a" / "77_01.amc")

    inches = {**values, "root": np.concatenate([values["root"][:, :3] / 0.45, values["root"][:, 3:]], axis=1)}
    radians = {name: np.radians(rows) for name, rows in values.items()}
    radians["root"][:, :3] = values["root"][:, :3]
    swapped = {**values, "root": values["root"][:, [3, 4, 5, 2, 0, 1]]}
    variants = (
        (asf_text(length=1.0), amc_text(inches)),
        (asf_text(angle="rad"), amc_text(radians, (":FULLY-SPECIFIED", ":RADIANS"))),
        (asf_text(angle="rad"), amc_text(radians, (":FULLY-SPECIFIED",))),
        (asf_text(root_order="RX RY RZ TZ TX TY"), amc_text(swapped)),
    )
    for number, (asf, amc) in enumerate(variants):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "only_one.asf").write_text(asf)
        (folder / "77_01.amc").write_text(amc)
        np.testing.assert_allclose(only_clip(folder / "77_01.amc"), reference, rtol=0, atol=1e-5)


def test_hands_may_be_missing(tmp_path):
    values = write_amc(tmp_path)
    reference = only_clip(tmp_path / "77_01.amc")
    asf = re.sub(r"  begin\n     id \d+\n     name [lr]hand\n.*?  end\n", "", asf_text(), flags=re.DOTALL)
    (tmp_path / "77.asf").write_text(re.sub(r"    [lr]wrist [lr]hand\n", "", asf))
    (tmp_path / "77_01.amc").write_text(amc_text({n: rows for n, rows in values.items() if not n.endswith("hand")}))
    np.testing.assert_array_equal(only_clip(tmp_path / "77_01.amc"), reference)


def test_the_order_of_an_axis_is_heeded():
    from lifter.training.mocap.acclaim import parse_axes

    for order in ORDERS:
        expected = Rotation.from_euler(
            order.lower(), [10, 20, 30], degrees=True
        ).as_matrix()  # small letters: fixed axes
        np.testing.assert_allclose(parse_axes(["10", "20", "30", order], True), expected, rtol=0, atol=1e-12)


def test_acclaim_frame_rates(tmp_path):
    # 120 by default, 60 for the trials that CMU lists, or what the file says
    for name, header, seconds in (("77_01", (), 2.0), ("60_01", (), 4.0), ("77_02", (":SAMPLES-PER-SECOND 80",), 3.0)):
        values = random_values(np.random.default_rng(0), 240, 5)
        (tmp_path / f"{name.partition('_')[0]}.asf").write_text(asf_text())
        (tmp_path / f"{name}.amc").write_text(amc_text(values, (":FULLY-SPECIFIED", ":DEGREES", *header)))
        assert len(only_clip(tmp_path / f"{name}.amc")) == pytest.approx(seconds * 50, abs=1)


def test_the_skeleton_of_an_amc_is_found_or_missed(tmp_path):
    write_amc(tmp_path)
    amc = tmp_path / "77_01.amc"
    reference = only_clip(amc)
    (tmp_path / "other.asf").write_text("nonsense")
    np.testing.assert_array_equal(only_clip(amc), reference)  # 77.asf
    (tmp_path / "77.asf").rename(tmp_path / "77_01.asf")
    np.testing.assert_array_equal(only_clip(amc), reference)
    (tmp_path / "77_01.asf").rename(tmp_path / "third.asf")
    with pytest.raises(FileNotFoundError, match=r"among the 2 .asf files of its folder; expected 77_01.asf or 77.asf"):
        read_recording(amc)
    (tmp_path / "other.asf").unlink()
    np.testing.assert_array_equal(only_clip(amc), reference)  # the only one


BAD_ACCLAIM = {
    "empty skeleton": (lambda s, m: ("", m), "77.asf: no section :root"),
    "garbage skeleton": (lambda s, m: (random.Random(0).randbytes(5000).decode("latin-1"), m), "77.asf: no section"),
    "endless skeleton": (lambda s, m: (s + "x\n" * 30_000, m), "over 20000 lines"),
    "no hierarchy": (lambda s, m: (s.partition(":hierarchy")[0], m), "no section :hierarchy"),
    "skeleton cut short": (lambda s, m: (s[: s.index("name head")] + "\n:hierarchy\n", m), "ends inside a bone"),
    "bone twice": (lambda s, m: (change(s, "name ltibia", "name lfemur"), m), "no name of its own"),
    "bad length": (lambda s, m: (re.sub(r"length 7\.44\S*", "length nan", s), m), "length of"),
    "no direction": (lambda s, m: (re.sub(r"direction 0 1 0\b.*", "direction 0 0 0", s), m), "direction of 'head'"),
    "unit 0": (lambda s, m: (change(s, "length 0.45", "length 0"), m), "unit of length is 0"),
    "wrong dof": (lambda s, m: (change(s, "dof rx ry rz", "dof rx l rz"), m), "expected some of rx ry rz"),
    "wrong axis": (lambda s, m: (change(s, "  XYZ", "  XXY"), m), "order of an axis is 'xxy'"),
    "circle": (lambda s, m: (change(s, "root lhipjoint", "lfoot lhipjoint\nroot"), m), "in a circle): lhipjoint"),
    "two parents": (lambda s, m: (change(s, "lhipjoint lfemur", "lhipjoint lfemur\nroot lfemur"), m), "two parents"),
    "unknown bone": (lambda s, m: (change(s, "lhipjoint lfemur", "lhipjoint lfemur tail"), m), "'tail' is no bone"),
    "of giants": (lambda s, m: (change(s, "length 0.45", "length 0.045"), m), "leg from hip to ankle"),
    "empty motion": (lambda s, m: (s, ""), "expected :FULLY-SPECIFIED"),
    "garbage motion": (lambda s, m: (s, random.Random(0).randbytes(5000).decode("latin-1")), "FULLY-SPECIFIED"),
    "no header": (lambda s, m: (s, change(m, ":FULLY-SPECIFIED", "")), "expected :FULLY-SPECIFIED, then"),
    "no frame number": (lambda s, m: (s, change(m, "\n1\n", "\n")), "expected :FULLY-SPECIFIED or a frame number"),
    "motion cut short": (lambda s, m: (s, m[: m.rindex("rradius")]), "frame 60 has 0 values of"),
    "value missing": (lambda s, m: (s, re.sub(r"\nlfemur (\S+ \S+) .*", r"\nlfemur \1", m)), "2 values of 'lfemur'"),
    "bone missing": (lambda s, m: (s, re.sub(r"\nhead .*", "", m)), "0 values of 'head'"),
    "unknown bone moves": (lambda s, m: (s, m.replace("\nhead ", "\ntail ")), "'tail', expected no such bone"),
    "NaN": (lambda s, m: (s, re.sub(r"(?m)^ltibia \S+$", "ltibia nan", m)), "frame 1 has values"),
    "a word": (lambda s, m: (s, re.sub(r"(?m)^ltibia \S+$", "ltibia eval(1)", m)), "frame 1: could not convert"),
    "rate 0": (lambda s, m: (s, change(m, ":DEGREES", ":DEGREES\n:SAMPLES-PER-SECOND 0")), "expected 10 to 1000"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ACCLAIM)
def test_malformed_acclaim_files_say_what_is_wrong(tmp_path, name):
    spoil, message = BAD_ACCLAIM[name]
    asf, amc = spoil(asf_text(), amc_text(random_values(np.random.default_rng(0), 60)))
    (tmp_path / "77.asf").write_text(asf, encoding="utf-8")
    (tmp_path / "77_01.amc").write_text(amc, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_recording(tmp_path / "77_01.amc")
