"""JSON is read and written as by Python's own module, except for numbers that JSON does not have."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marsseg.plain_json import read_json, write_json

# Strings as they occur in file names: bytes that are not valid UTF-8 become lone surrogates.
TEXT = st.text() | st.binary().map(lambda name: name.decode("utf-8", "surrogateescape"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXT, values, max_size=3),
    max_leaves=8,
)


@given(document=st.dictionaries(TEXT, PLAIN, max_size=4))
def test_a_document_is_the_same_whichever_module_writes_and_reads_it(document: dict[str, Any]) -> None:
    for text in (write_json(document), json.dumps(document), json.dumps(document, indent=2)):
        assert read_json(text) == document
        assert json.loads(text) == document
    assert write_json(document).isascii()


def test_what_is_written_looks_the_same() -> None:
    document = {"a": [1, 2.5, None, True], "ü": {}, "rows": [{"x": "\n"}]}
    assert write_json(document) == json.dumps(document, indent=2)


def test_a_number_that_is_not_finite_is_read_and_written_as_null() -> None:
    read = read_json('{"loss": NaN, "best": -Infinity}')
    assert math.isnan(read["loss"])
    assert read["best"] == -math.inf
    assert json.loads(write_json(read)) == {"loss": None, "best": None}


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="line 1 column 2"):
        read_json("{'a': 1")
