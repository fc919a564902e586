"""Turn a profile into a request of OTLP, of the signal `profiles` (v1development)."""

from __future__ import annotations

import secrets
from collections.abc import Hashable
from typing import Any

from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.profiles.v1development.profiles_pb2 import (
    Function,
    KeyValueAndUnit,
    Line,
    Link,
    Location,
    Mapping,
    ProfilesDictionary,
    Stack,
    ValueType,
)

from cowtrace.analysis.profile import Profile
from cowtrace.analysis.stacks import Call
from cowtrace.otlp.metrics import resource, scope


def profiles_request(
    profile: Profile, *, began_ns: int, duration_ns: int
) -> ExportProfilesServiceRequest:
    """One profile for each of the profile's types. `began_ns`: since the epoch."""
    request = ExportProfilesServiceRequest()
    tables = _Tables(request.dictionary)
    block = request.resource_profiles.add(resource=resource())
    profiles = block.scope_profiles.add(scope=scope()).profiles
    for at, (name, unit) in enumerate(profile.types):
        found = profiles.add(
            sample_type=tables.value_type(name, unit),
            time_unix_nano=began_ns,
            duration_nano=duration_ns,
            profile_id=secrets.token_bytes(16),
        )
        for sample in profile.samples:
            if sample.values[at]:
                found.samples.add(
                    stack_index=tables.stack(sample.calls),
                    attribute_indices=[tables.attribute(*label) for label in sample.labels],
                    values=[sample.values[at]],
                )
    return request


class _Tables:
    """The tables of a request; the first entry of each stands for none."""

    def __init__(self, dictionary: ProfilesDictionary) -> None:
        self._tables = dictionary
        self._numbers: dict[Hashable, int] = {}
        dictionary.string_table.append("")
        dictionary.mapping_table.append(Mapping())
        dictionary.location_table.append(Location())
        dictionary.function_table.append(Function())
        dictionary.link_table.append(Link())
        dictionary.attribute_table.append(KeyValueAndUnit())
        dictionary.stack_table.append(Stack())

    def value_type(self, name: str, unit: str) -> ValueType:
        return ValueType(type_strindex=self.string(name), unit_strindex=self.string(unit))

    def string(self, text: str) -> int:
        key = ("string", text)
        if not text:
            return 0
        if key not in self._numbers:
            self._tables.string_table.append(text)
            self._numbers[key] = len(self._tables.string_table) - 1
        return self._numbers[key]

    def attribute(self, name: str, value: str | int) -> int:
        key = ("attribute", name, value)
        if key not in self._numbers:
            held = AnyValue()
            if isinstance(value, str):
                held.string_value = value
            else:
                held.int_value = value
            one = KeyValueAndUnit(key_strindex=self.string(name), value=held)
            self._numbers[key] = _appended(self._tables.attribute_table, one)
        return self._numbers[key]

    def stack(self, calls: tuple[Call, ...]) -> int:
        """`calls`: the outermost first."""
        key = ("stack", calls)
        if key not in self._numbers:
            places = [self._location(call) for call in reversed(calls)]
            self._numbers[key] = _appended(self._tables.stack_table, Stack(location_indices=places))
        return self._numbers[key]

    def _location(self, call: Call) -> int:
        key = ("location", call)
        if key not in self._numbers:
            name, file = self.string(call.name), self.string(call.module)
            function = Function(
                name_strindex=name, system_name_strindex=name, filename_strindex=file
            )
            line = Line(function_index=_appended(self._tables.function_table, function))
            place = Location(mapping_index=self._mapping(call.module), lines=[line])
            self._numbers[key] = _appended(self._tables.location_table, place)
        return self._numbers[key]

    def _mapping(self, module: str) -> int:
        key = ("mapping", module)
        if not module:
            return 0
        if key not in self._numbers:
            one = Mapping(filename_strindex=self.string(module))
            self._numbers[key] = _appended(self._tables.mapping_table, one)
        return self._numbers[key]


def _appended(table: Any, one: Any) -> int:
    """Its index."""
    table.append(one)
    return len(table) - 1
