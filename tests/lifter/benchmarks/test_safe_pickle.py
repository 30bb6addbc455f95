"""Pickles of numbers are read, pickles that name anything else are refused before anything runs."""

import collections
import datetime
import io
import operator
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lifter.benchmarks import safe_pickle
from lifter.benchmarks.safe_pickle import read_object_npz, read_pickle

PROTOCOLS = [2, 3, 4, 5]


def written(path, content: bytes):
    path.write_bytes(content)
    return path


def same(a, b) -> bool:
    """Whether two values are equal, arrays with dtype and shape."""
    if isinstance(b, np.ndarray):
        equal = isinstance(a, np.ndarray) and a.dtype == b.dtype.newbyteorder("=") and a.shape == b.shape
        return equal and (all(map(same, a.flat, b.flat)) if b.dtype == object else np.array_equal(a, b))
    if isinstance(b, dict):
        return type(a) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


PLAIN = [
    {"a": [1, 2.5, None, True, "text", b"bytes", b"", (1, (2,)), 10**30, float("inf")]},
    {"joints": np.arange(24, dtype=np.float32).reshape(2, 4, 3), "fps": np.float64(50.0), "count": np.int64(3)},
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(3, dtype=">i4"),
    np.array(["s_09_act_02", "x"]),
    np.array([b"ab", b"c"]),
    np.zeros((0, 17, 3)),
    np.array(7.0),
    np.array({"TS1": {"data_2d": np.ones((2, 17, 2)), "valid": np.array([1, 0], np.uint8)}}, dtype=object),
    np.array([["a", None], [[1, 2], np.arange(2)]], dtype=object),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_back_as_they_were(tmp_path, protocol):
    for value in PLAIN:
        assert same(read_pickle(written(tmp_path / "x.pkl", pickle.dumps(value, protocol))), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(
    array=hnp.arrays(
        st.sampled_from(["f4", "<f8", ">f8", "i2", "u1", "?", "U3", "S2", "c8"]), hnp.array_shapes(min_side=0)
    )
)
def test_every_array_comes_back(tmp_path_factory, array, protocol):
    path = written(tmp_path_factory.getbasetemp() / "array.pkl", pickle.dumps(array, protocol))
    got = read_pickle(path)
    assert got.shape == array.shape
    assert got.astype(array.dtype).tobytes() == array.tobytes()  # bits, so that NaN counts as itself


@pytest.mark.parametrize("protocol", [2, 3])  # later ones write texts with their length: nothing to replace in place
def test_names_of_numpy_2_are_those_of_numpy_1(tmp_path, protocol):
    content = pickle.dumps({"x": np.arange(4.0), "y": np.float32(2)}, protocol)
    for old, new in ((b"numpy.core", b"numpy._core"), (b"numpy._core", b"numpy.core")):
        got = read_pickle(written(tmp_path / "x.pkl", content.replace(old, new)))
        assert same(got, {"x": np.arange(4.0), "y": np.float32(2)})


def test_files_of_python_2_are_read(tmp_path):
    # protocol 2 as Python 2 wrote it: names and the array's content are byte strings (opcode U)
    raw = np.arange(2.0).tobytes()
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x02\x85cnumpy\ndtype\n"
        b"(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(raw)]) + raw
        + b"tb."
    )  # fmt: skip
    assert same(read_pickle(written(tmp_path / "x.pkl", content)), np.arange(2.0))


# ------------------------------------------------------------------------------------------------- refusals


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def hostile(marker) -> dict[str, object]:
    """Return objects whose ordinary unpickling would create the file ``marker`` or call what may do so."""
    touch = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Calls(os.system, f"touch {marker}"),
        "eval": Calls(eval, touch),
        "open": Calls(open, str(marker), "w"),
        "getattr": Calls(getattr, np.zeros(1), "tofile"),
        "attrgetter": Calls(operator.attrgetter, "__class__.__base__"),
        "np.load": Calls(np.load, str(marker)),
        "np.frompyfunc": Calls(np.frompyfunc, os.system, 1, 1),
        "in a dict": {"joint_2d": np.zeros(2), "x": Calls(os.system, f"touch {marker}")},
        "in an array": np.array([Calls(os.system, f"touch {marker}")], dtype=object),
        "as a key": {Calls(os.system, f"touch {marker}"): 1},
        "a class": collections.OrderedDict(a=1),
        "a function": os.system,
        "a date": datetime.date(2020, 1, 1),
        "a record": np.zeros(2, [("a", "f4"), ("b", "O")]),
        "a time": np.datetime64("2020-01-01"),
    }


@pytest.mark.parametrize("protocol", [0, 1, *PROTOCOLS])
def test_anything_else_is_refused_and_nothing_runs(tmp_path, protocol):
    marker = tmp_path / "was_here"
    for value in hostile(marker).values():
        with pytest.raises(ValueError, match=r"x.pkl was not read"):
            read_pickle(written(tmp_path / "x.pkl", pickle.dumps(value, protocol)))
        assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "named"),
    [("os.system", r"(posix|nt)\.system"), ("eval", r"builtins\.eval"), ("np.load", r"numpy\.load")],
)
def test_the_refusal_names_what_was_asked_for(tmp_path, name, named):
    with pytest.raises(ValueError, match=f"it names {named}; only NumPy arrays"):
        read_pickle(written(tmp_path / "x.pkl", pickle.dumps(hostile("x")[name])))


ARRAY = pickle.dumps(np.arange(2.0), 2)
DTYPE = b"\x80\x02cnumpy\ndtype\n(U\x02O8I00\nI01\ntR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
OPCODES = {
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    "slots of a function": b"\x80\x02cnumpy\ndtype\nN}X\x06\x00\x00\x00_buildNs\x86bX\x02\x00\x00\x00M8\x85R.",
    "new object of a function": b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00f8t\x81.",
    "pointers made of bytes": ARRAY.replace(b"X\x02\x00\x00\x00f8", b"X\x02\x00\x00\x00O8"),
    "pointers behind forged flags": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85" + DTYPE[2:]
    + b"\x89U\x08" + b"A" * 8 + b"tb.",
    "too little content": ARRAY.replace(b"K\x02\x85", b"K\x09\x85"),
    "a negative shape": ARRAY.replace(b"K\x02\x85", b"J\xfe\xff\xff\xff\x85"),
    "extension code": b"\x80\x02\x82\x01.",
    "persistent id": b"Pabc\n.",
    "an array as key": b"\x80\x02}" + ARRAY[2:-1] + b"K\x01s.",
    "nothing": b"",
    "text": b"hello",
}  # fmt: skip


@pytest.mark.parametrize("name", OPCODES)
def test_hand_made_pickles_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="was not read"):
        read_pickle(written(tmp_path / "x.pkl", OPCODES[name]))
    assert same(read_pickle(written(tmp_path / "y.pkl", ARRAY)), np.arange(2.0))  # nothing was changed for later files


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_truncated_files_are_refused(tmp_path, protocol):
    content = pickle.dumps({"a": np.arange(3.0), "b": ["x", np.float32(1)]}, protocol)
    for end in range(len(content)):
        with pytest.raises(ValueError, match="was not read"):
            read_pickle(written(tmp_path / "x.pkl", content[:end]))


def test_a_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_pickle, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match=r"has \d+ bytes, expected at most 100"):
        read_pickle(written(tmp_path / "x.pkl", pickle.dumps(np.zeros(100))))


def test_an_absent_file_is_said_to_be_absent(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_pickle(tmp_path / "x.pkl")
    with pytest.raises(FileNotFoundError):
        read_object_npz(tmp_path / "x.npz", "data")


# ----------------------------------------------------------------------------------------------------- npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_pickled_dict_in_an_npz_is_read(tmp_path, save):
    value = {"TS1": {"data_2d": np.ones((3, 17, 2)), "valid": np.array([1.0, 0, 1])}}
    save(tmp_path / "x.npz", data=value)
    assert same(read_object_npz(tmp_path / "x.npz", "data"), value)


def test_code_in_an_npz_is_refused(tmp_path):
    marker = tmp_path / "was_here"
    np.savez(tmp_path / "x.npz", data=np.array(Calls(os.system, f"touch {marker}"), dtype=object))
    with pytest.raises(ValueError, match=r"data.npy was not read: it names \w+\.system"):
        read_object_npz(tmp_path / "x.npz", "data")
    assert not marker.exists()


def npz_of(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.npy", content)
    return file.getvalue()


def object_header() -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"no archive", "no npz file"),
        (npz_of(b"no array"), "no npy array"),
        (npz_of(b""), "no npy array"),
        (npz_of(object_header() + b"no pickle"), "was not read"),
    ],
)
def test_damaged_npz_files_are_refused(tmp_path, content, text):
    with pytest.raises(ValueError, match=text):
        read_object_npz(written(tmp_path / "x.npz", content), "data")


def test_other_arrays_in_an_npz_are_no_object(tmp_path):
    np.savez(tmp_path / "x.npz", data=np.zeros(3))
    with pytest.raises(ValueError, match="expected one pickled object"):
        read_object_npz(tmp_path / "x.npz", "data")
    with pytest.raises(ValueError, match=r"lacks joints; it holds data.npy"):
        read_object_npz(tmp_path / "x.npz", "joints")
