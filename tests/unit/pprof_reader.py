"""Read a profile of pprof by protobuf's own runtime, and the field numbers of profile.proto."""

from __future__ import annotations

import gzip
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# github.com/google/pprof, proto/profile.proto: name and number, `*` if repeated, then its type.
MESSAGES = {
    "Profile": "sample_type 1* ValueType, sample 2* Sample, mapping 3* Mapping, "
    "location 4* Location, function 5* Function, string_table 6* string, time_nanos 9 int64, "
    "duration_nanos 10 int64, comment 13* int64, default_sample_type 14 int64",
    "ValueType": "type 1 int64, unit 2 int64",
    "Sample": "location_id 1* uint64, value 2* int64, label 3* Label",
    "Label": "key 1 int64, str 2 int64, num 3 int64, num_unit 4 int64",
    "Mapping": "id 1 uint64, memory_start 2 uint64, memory_limit 3 uint64, file_offset 4 uint64, "
    "filename 5 int64, build_id 6 int64, has_functions 7 bool",
    "Location": "id 1 uint64, mapping_id 2 uint64, address 3 uint64, line 4* Line",
    "Line": "function_id 1 uint64, line 2 int64",
    "Function": "id 1 uint64, name 2 int64, system_name 3 int64, filename 4 int64, "
    "start_line 5 int64",
}


def _profile_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="cowtrace_profile.proto", package="perftools.profiles", syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            word, number, kind = field.split()
            one = message.field.add(name=word, number=int(number.rstrip("*")))
            one.label = one.LABEL_REPEATED if number.endswith("*") else one.LABEL_OPTIONAL
            if kind in MESSAGES:
                one.type, one.type_name = one.TYPE_MESSAGE, f".perftools.profiles.{kind}"
            else:
                one.type = getattr(one, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("perftools.profiles.Profile")
    return message_factory.GetMessageClass(found)


PROFILE = _profile_class()


def read(content: bytes) -> Any:
    """The message; each field in it must be one of these."""
    profile = PROFILE.FromString(gzip.decompress(content))
    known = PROFILE.FromString(profile.SerializeToString())
    known.DiscardUnknownFields()
    assert known.SerializeToString() == profile.SerializeToString()
    assert profile.string_table[0] == ""
    return profile


def types(profile: Any) -> list[tuple[str, str]]:
    names = profile.string_table
    return [(names[each.type], names[each.unit]) for each in profile.sample_type]


def stacks(profile: Any) -> dict[tuple[str, ...], list[int]]:
    """The sums of values by functions, the innermost first."""
    names = profile.string_table
    functions = {each.id: names[each.name] for each in profile.function}
    at = {each.id: functions[each.line[0].function_id] for each in profile.location}
    found: dict[tuple[str, ...], list[int]] = {}
    for sample in profile.sample:
        key = tuple(at[each] for each in sample.location_id)
        before = found.get(key, [0] * len(sample.value))
        found[key] = [a + b for a, b in zip(before, sample.value, strict=True)]
    return found


def labels(profile: Any) -> list[dict[str, Any]]:
    """Of each sample."""
    names = profile.string_table
    return [
        {names[each.key]: names[each.str] if each.str else each.num for each in sample.label}
        for sample in profile.sample
    ]
