"""Where a run of a peer is put together."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.core.errors import LightexError
from lightex.mulogger.imports.desk import Desk, text, value_of
from tests.services import need


@pytest.mark.parametrize(
    ("written", "value"),
    [("0.1", 0.1), ("1e-05", 1e-05), ("0.019546679384022547", 0.019546679384022547), ("-3", -3), ("True", True),
     ("007", "007"), ("1e-5", "1e-5"), ("1.10", "1.10"), ("nan", "nan"), ("", ""), ("9" * 30, "9" * 30), ("٣", "٣")],
)  # fmt: skip
def test_texts_become_numbers_only_where_nothing_is_lost(written, value):
    assert repr(value_of(written)) == repr(value)


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**17), 10**17), st.booleans()))
def test_a_number_that_python_wrote_is_that_number(value):
    assert repr(value_of(str(value))) == repr(value)


@given(st.text())
def test_whatever_becomes_a_number_is_written_as_it_was(written):
    assert str(value_of(written)) == written


@given(st.recursive(st.one_of(st.none(), st.integers(), st.floats(), st.text(st.characters(codec=None))),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner)))  # fmt: skip
def test_any_value_has_a_place_in_a_record(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("desk") / "run"
    with Desk(folder) as desk:
        desk.write({"params": {"x": value}})
    (line,) = (folder / "records.jsonl").read_bytes().splitlines()
    assert list(json.loads(line)["params"]) == ["x"]


def test_names_of_files_that_are_no_utf8_are_shown():
    assert text("a\udcff") == "a\\udcff"


def test_a_file_stays_inside_the_run(tmp_path):
    with Desk(tmp_path / "run") as desk:
        for name in ("../x", "/etc/passwd", "a/../../x", ""):
            with pytest.raises(LightexError, match="not a name for an artifact"):
                desk.place(name)


@need("PIL")
def test_images_become_png_and_what_moves_stays_a_file(tmp_path):
    from PIL import Image

    made = {}
    for kind, more in (("JPEG", {}), ("GIF", {"save_all": True, "append_images": [Image.new("RGB", (5, 4), "red")]})):
        data = io.BytesIO()
        Image.new("RGB", (5, 4)).save(data, kind, **more)
        made[kind] = data.getvalue()
    with Desk(tmp_path / "run") as desk:
        desk.media("image", "still", made["JPEG"], ".jpg", 1, 2.0)
        desk.media("image", "moves", made["GIF"], ".gif", 1, 2.0)
        desk.media("image", "broken", b"\xff\xd8\xffnothing", ".jpg", 1, 2.0)
        desk.media("audio", "song", b"ID3", ".mp3", 1, 2.0)
    records = [json.loads(line) for line in (tmp_path / "run/records.jsonl").read_text().splitlines()]
    assert records[0]["media"]["path"] == "artifacts/media/still-0.png"
    assert [record["artifact"]["path"] for record in records[1:]] == [
        "artifacts/media/moves-1.gif", "artifacts/media/broken-2.jpg", "artifacts/media/song-3.mp3"]  # fmt: skip
