"""Bodies and names for schemathesis that are more than noise: messages as the calls of a remote have them, and entries that are there."""

import os

import schemathesis
from hypothesis import strategies as st

ENTRIES = os.environ.get("VML_TEST_ENTRIES", "work@latest").split()
PACKS = os.environ.get("VML_TEST_PACKS", "").split()


def count(number):
    """A length in the encoding of records."""
    if number < 251:
        return bytes([number])
    return b"\xfb" + number.to_bytes(2, "little")


def listed(items):
    return count(len(items)) + b"".join(items)


entry_ids = st.sampled_from([bytes.fromhex(name) for name in ENTRIES if len(name) == 64] or [bytes(32)])
ids = st.lists(st.one_of(st.binary(min_size=32, max_size=32), entry_ids), max_size=4).map(listed)
kinds = st.sampled_from([b"\0", b"\1"])
small = st.integers(0, 250).map(lambda number: bytes([number]))
frames_at = st.lists(
    st.tuples(kinds, st.binary(min_size=32, max_size=32), small, small, small).map(b"".join), max_size=3
).map(listed)
blocks = st.lists(st.binary(min_size=1, max_size=40), max_size=3).map(
    lambda parts: b"".join(len(part).to_bytes(4, "little") + part for part in parts) + bytes(4)
)
messages = st.one_of(
    ids,
    st.tuples(ids, ids).map(b"".join),
    st.tuples(kinds, ids).map(b"".join),
    st.tuples(ids, st.sampled_from([b"\0"])).map(b"".join),
    frames_at,
    blocks,
    st.binary(max_size=64),
    st.just(bytes(5)),
)
schemathesis.openapi.media_type("application/octet-stream", messages)


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Every second name is one that is there."""
    if not path_parameters:
        return path_parameters
    for key, known in (("entry", ENTRIES), ("pack", PACKS)):
        value = path_parameters.get(key)
        if isinstance(value, str) and known and len(value) % 2 == 0 and context.operation.method.upper() != "DELETE":
            path_parameters[key] = known[len(value) // 2 % len(known)]
    return path_parameters
