"""Training curves: read from the CSVs of training, drawn without a display."""

import cv2
import pytest

from app.evaluation.training_curves import ERRORS, draw_curves, figure_of, read_curve

HEADER = "step,minutes,depth,loss,clean_p1,clean_p2,noisy_p1,noisy_p2\n"


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text(HEADER + "10,1.5,3,0.5,90,70,100,80\n20,3,3,0.4,80,60,90,70\n")
    return path


def test_a_curve_is_read_by_column(csv):
    assert read_curve(csv) == {
        "minutes": [1.5, 3], "loss": [0.5, 0.4], "clean_p1": [90, 80], "clean_p2": [70, 60], "noisy_p1": [100, 90],
        "noisy_p2": [80, 70],
    }  # fmt: skip


def test_runs_follow_each_other_in_one_picture(csv, tmp_path):
    png = draw_curves([csv, csv], tmp_path / "curves.png")
    assert cv2.imread(str(png)).shape[:2] == (700, 900)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.csv", "curves.png"]
    loss = figure_of([csv, csv]).axes[1]
    assert [line.get_xdata().tolist() for line in loss.lines[:2]] == [[1.5, 3], [4.5, 6]]  # minutes add up


def test_columns_may_be_missing_and_files_without_rows_are_skipped(csv, tmp_path):
    (tmp_path / "empty.csv").write_text(HEADER)
    (tmp_path / "few.csv").write_text("minutes,noisy_p1,new\n1,50,x\n")
    assert draw_curves([tmp_path / "empty.csv", tmp_path / "few.csv", csv], tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (HEADER, "no rows in .*curve.csv"),
        ("", "no column 'minutes'"),
        ("a,b\n1,2\n", "no column 'minutes'"),
        (HEADER + "1,2\n", "not made of numbers"),
        (HEADER + "1,2,3,x,5,6,7,8\n", "not made of numbers"),
    ],
)
def test_other_files_are_refused_and_leave_no_picture(tmp_path, content, text):
    path = tmp_path / "curve.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=text):
        draw_curves([path], tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_shipped_curves_can_be_drawn(root):
    errors, loss = figure_of(sorted((root / "checkpoints").glob("*.csv"))).axes
    assert {line.get_label() for line in errors.lines} >= set(ERRORS.values())
    assert all(len(line.get_xdata()) for line in loss.lines)
