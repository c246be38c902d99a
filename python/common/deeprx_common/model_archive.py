# SPDX-License-Identifier: GPL-3.0-or-later
"""The one Python reader of model files, which runs nothing that is in them.

It has the rules of the C++ library's reader (gr-deeprx/lib/engines/model_archive.h), stated once in
model_rules.json: both accept and refuse the same files.
"""

import fcntl
import hashlib
import json
import mmap
import os
import re
import stat

from . import model_pickle, zip_archive
from .model_code import check_code
from .model_errors import ModelFileError
from .model_ir import check_ir
from .model_rules import LIMITS, RULES
from .printable import printable
from .schema import LONGEST, first_twice
from .shipped import no_such_model

__all__ = ["ModelArchive", "ModelFileError", "SealedFile", "read_model_file"]

FOLDER = "deeprx"  # of the records of a file that is written here
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_PLAIN = {"version", "byteorder", "constants.pkl", "data.pkl"}
_STORAGE = re.compile(r"(data|constants)/[0-9]+\Z")
_UNPRINTABLE = re.compile(
    "(?![\n\t])["
    + "".join(rf"\U{first:08x}-\U{last:08x}" for first, last in RULES["unprintable"])
    + "]"
)


class SealedFile(mmap.mmap):
    """What a file held when it was read, in memory that nobody changes any more: other readers, as
    Engine and jails, get no copy but fileno().
    """

    def __new__(cls, memory: int, size: int):
        """memory: of a memfd, which this closes at its end."""
        sealed = super().__new__(cls, memory, size, mmap.MAP_PRIVATE, mmap.PROT_READ)
        sealed._memory = memory
        return sealed

    def fileno(self) -> int:
        return self._memory

    def __del__(self):
        os.close(self._memory)


class ModelArchive:
    """A model file's records by name, without their folder, once all of it was accepted.

    data: the file; sha256: of it, hexadecimal. metadata: its deeprx.json. records: what
    LibTorch and receivers read; debugging: what only debuggers read. Raises ModelFileError with one
    line that does not name the file.
    """

    def __init__(self, data: bytes | SealedFile):
        self.data = data
        self.sha256 = hashlib.sha256(data).hexdigest()
        files = zip_archive.read_zip(data)
        if not {"constants.pkl", "data.pkl", "version"} <= {r.name for r in files}:
            raise ModelFileError(
                "is not a TorchScript archive (torch.jit.save makes one, torch.save does not)"
            )
        code = sum(r.size for r in files if r.name.startswith("code/"))
        _expect_size("code", code, LIMITS["code_bytes"])
        xml = sum(r.size for r in files if _is_ir(r.name))
        _expect_size("XML", xml, LIMITS["all_xml_bytes"])
        self.records: dict[str, memoryview] = {}
        self.debugging: dict[str, memoryview] = {}
        for record in files:
            _expect_record(record)
            kept = self.debugging if _is_left_out(record.name) else self.records
            kept[record.name] = zip_archive.contents(record)
        _check_version(self.records["version"], self.records.get("byteorder", b"little"))
        if "extra/deeprx.json" not in self.records:
            raise ModelFileError("has no deeprx.json (torch.jit.save with _extra_files adds it)")
        self.metadata = read_json(self.records["extra/deeprx.json"])
        if isinstance(name := self.metadata.get("name"), str):
            self.metadata["name"] = printable(name, LONGEST)
        self._read_pickle("constants")
        self._module = self._read_pickle("data")
        for name, data in self.records.items():
            if name.startswith("code/"):
                check_code(data)
            if _is_ir(name):
                check_ir(data, len(self.records.get(name[:-3] + "bin", b"")))
        if isinstance(self.data, SealedFile):
            self.data.madvise(mmap.MADV_DONTNEED)  # of this process's pages, until it is read again

    def _read_pickle(self, folder: str) -> model_pickle.Value:
        data = self.records[f"{folder}.pkl"]
        _expect_size("a pickle", len(data), LIMITS["pickle_bytes"])

        def size(key: str) -> int | None:
            name = f"{folder}/{key}"
            known = _STORAGE.match(name) and name in self.records
            return len(self.records[name]) if known else None

        return model_pickle.read(bytes(data), size)

    @property
    def module_type(self) -> str:
        """The module's class: "__torch__.folder.file.Class" is in code/__torch__/folder/file.py."""
        item = self._module.item
        return item.type if isinstance(item, model_pickle.Object) else ""

    def tensors(self) -> dict[str, model_pickle.Tensor]:
        """The module's parameters and buffers by their dotted names, as state_dict() has them, each
        with the place of its elements in records["data/<key>"].
        """
        return model_pickle.tensors(self._module)

    def rewritten(self) -> bytes:
        """All that was accepted as an archive of its own, without what only debuggers read: what
        LibTorch gets.
        """
        return zip_archive.write_zip(self.records)


def read_model_file(path: str | os.PathLike) -> ModelArchive:
    """The model file at path, which is opened once and never waited for.

    Raises ModelFileError, one line that names the file: what was expected and what was found.
    """
    try:
        return ModelArchive(read_bytes(path))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def read_bytes(path: str | os.PathLike) -> SealedFile:
    """A regular file's bytes. Raises ModelFileError, which does not name it."""
    try:
        _expect_regular(os.stat(path))  # first: opening a device may do something
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(file, "rb"):
            about = os.fstat(file)
            _expect_regular(about)
            return _sealed(file, about.st_size)
    except FileNotFoundError:
        raise ModelFileError(no_such_model()) from None
    except ModelFileError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ModelFileError(f"cannot be read: {reason}") from None


def _sealed(file: int, size: int) -> SealedFile:
    if size == 0:
        raise ModelFileError("is empty")
    memory = os.memfd_create("deeprx-model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = size
        while left > 0:
            sent = os.sendfile(memory, file, None, left)
            if sent == 0:
                raise ModelFileError("became shorter while it was read")
            left -= sent
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
        return SealedFile(memory, size)
    except BaseException:
        os.close(memory)
        raise


def _expect_regular(about: os.stat_result) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise ModelFileError("expected a model file (.pt), found a folder")
    if not stat.S_ISREG(about.st_mode):
        raise ModelFileError("expected a model file (.pt), found a pipe, socket or device")
    _expect_size("a file", about.st_size, LIMITS["file_bytes"])


def _expect_size(what: str, size: int, allowed: int) -> None:
    if size > allowed:
        raise ModelFileError(
            f"refused, {what} of {size} bytes is not allowed in a model, at most {allowed}"
        )


def _is_left_out(name: str) -> bool:
    return name[0] == "." or (name.startswith("code/") and name.endswith(".debug_pkl"))


def _is_ir(name: str) -> bool:
    return name.startswith("extra/openvino/") and name.endswith(".xml")


def _expect_record(record: zip_archive.Record) -> None:
    """One that torch.jit.save writes; it deflates code."""
    name = record.name
    code = name.startswith("code/") and name.endswith((".py", ".debug_pkl"))
    known = name in _PLAIN or code or _STORAGE.match(name) or name.startswith(("extra/", "."))
    if not known:
        raise ModelFileError(f"refused, the record {name} is not allowed in a model")
    if record.deflated and not code:
        raise ModelFileError(
            f"refused, the record {name} is compressed, as only code is allowed to be in a model"
        )


def _check_version(version: memoryview, byteorder: memoryview | bytes) -> None:
    if not re.fullmatch(rb"[0-9]{1,3}\n?", version[:5]):
        raise ModelFileError("is not a TorchScript archive: its version is no number")
    if byteorder != b"little":
        raise ModelFileError(
            "refused, an order of bytes other than little is not allowed in a model"
        )


def read_json(data: bytes | memoryview) -> dict:
    """deeprx.json, once there is only one way to read it. Raises ModelFileError."""
    if len(data) > LIMITS["json_bytes"]:
        raise ModelFileError(f"deeprx.json is longer than {LIMITS['json_bytes']} bytes")
    data = bytes(data)
    deepest = depth = 0
    for bracket in re.findall(rb'"(?:[^"\\]|\\.)*+"?|[][{}]', data, re.DOTALL):
        if len(bracket) == 1:
            depth += 1 if bracket in b"[{" else -1
            deepest = max(deepest, depth)
    if deepest > LIMITS["json_depth"]:
        raise ModelFileError(f"deeprx.json is nested more than {LIMITS['json_depth']} levels deep")
    try:
        metadata = json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_number(float),
            parse_int=_number(int),
        )
    except ModelFileError:
        raise
    except ValueError as error:
        raise ModelFileError(f"deeprx.json is not JSON: {error}") from None
    if not isinstance(metadata, dict):
        raise ModelFileError("deeprx.json is not an object")
    _check_texts(metadata)
    return metadata


def _object(pairs: list) -> dict:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = first_twice(key for key, _ in pairs)
        raise ModelFileError(f"deeprx.json has {_harmless(twice)} twice")
    return values


def _constant(text: str):
    raise ValueError(f"{text} is no number")


def _number(kind: type):
    def parse(text: str):
        if abs(float(text)) == float("inf"):
            raise ValueError("a number beyond double")
        return kind(text)

    return parse


def _harmless(text: str) -> str:
    return json.dumps(text)[:80]


def _check_texts(value) -> None:
    if isinstance(value, str):
        if _UNPRINTABLE.search(value):
            raise ModelFileError("deeprx.json has unprintable characters in a text")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)
