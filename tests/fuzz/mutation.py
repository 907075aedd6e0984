"""Valid bytes, damaged: as a broken disk or connection damages them, and as an attacker does."""

from hypothesis import strategies as st

HEAD_BYTES = 256  # where files and requests have most of their structure
# Lengths, sizes and offsets at the ends of their ranges.
EXTREMES = [
    *(bytes([value]) * width for value in (0, 0x7F, 0x80, 0xFF) for width in (1, 2, 4)),
    *(value.to_bytes(width, order) for order in ("big", "little") for width in (2, 4) for value in (1, 0x7FFF, 0x8000)),
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
]


@st.composite
def mutated(draw, data: bytes, tokens: list[bytes]) -> bytes:
    """Between one and six changes of `data`; `tokens` are written over it or put into it."""
    for _ in range(draw(st.integers(1, 6))):
        if not data:
            return data
        region = min(len(data), HEAD_BYTES) if draw(st.booleans()) else len(data)
        at = draw(st.integers(0, region - 1))
        match draw(st.sampled_from(["flip", "write", "write", "insert", "cut", "remove", "repeat", "move"])):
            case "flip":
                data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
            case "write":
                token = draw(st.sampled_from(tokens) | st.binary(min_size=1, max_size=4))
                data = data[:at] + token + data[at + len(token) :]
            case "insert":
                data = data[:at] + draw(st.sampled_from(tokens) | st.binary(min_size=1, max_size=40)) + data[at:]
            case "cut":
                data = data[:at]
            case "remove":
                data = data[:at] + data[at + draw(st.integers(1, 64)) :]
            case "repeat":
                end = at + draw(st.integers(1, 64))
                data = data[:end] + data[at:end] * draw(st.integers(1, 100)) + data[end:]
            case "move":
                end, to = at + draw(st.integers(1, 64)), draw(st.integers(0, len(data)))
                data = data[:to] + data[at:end] + data[to:]
    return data
