import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Problem
from app.uploads import files_in

FORM = "multipart/form-data; boundary=frontier"


def build(parts):
    body = b""
    for name, content in parts:
        head = f'--frontier\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return body + b"--frontier--\r\n"


contents = st.binary(max_size=300).filter(lambda data: b"frontier" not in data)


@given(st.lists(st.tuples(st.sampled_from(["file", "other", "FILE"]), contents), max_size=8))
def test_a_form_gives_back_the_files_of_its_field_in_order(parts):
    wanted = [content for name, content in parts if name == "file"]
    if wanted:
        assert files_in(FORM, build(parts), "file", 8) == wanted
    else:
        with pytest.raises(Problem, match="no file named 'file'"):
            files_in(FORM, build(parts), "file", 8)


@given(st.binary(max_size=400), st.sampled_from([FORM, "multipart/form-data", "multipart/form-data; boundary="]))
def test_arbitrary_bytes_as_a_form_are_files_or_a_problem(body, content_type):
    try:
        files = files_in(content_type, body, "file", 3)
    except Problem as problem:
        files, refused = [], problem.code
        assert refused in ("malformed_request", "too_large")
    assert all(isinstance(file, bytes) for file in files)


@given(st.integers(1, 400), contents)
def test_a_form_cut_short_is_refused(cut, content):
    whole = build([("file", content)])
    with pytest.raises(Problem, match=r"before its closing boundary|no file named|cannot be read"):
        files_in(FORM, whole[: max(0, len(whole) - 4 - cut)], "file", 3)
