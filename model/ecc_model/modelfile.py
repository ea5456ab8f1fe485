"""Model files: a PyTorch checkpoint whose ZIP also carries what a device needs.

`torch.load(path, weights_only=True)` opens `vgg9.pt` and `cloud.pt`. Under `<root>/extra/` the same ZIP holds
`manifest.json`, `program.safetensors` (the integer program), `guard.safetensors` (the guard set), and where there are
any `rates.safetensors` (the rate tables of encoders) and `statistics.safetensors` (what can be learnt from without
torch). Those are read and replaced here with `zipfile` and numpy, without torch and without pickle; every size and hash
is checked first.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecc_model import bits, rates, safetensors
from ecc_model import statistics as class_statistics
from ecc_model.errors import ModelCorrupt, ModelError, ModelFormat, ModelNotFound, ProgramMissing, WrongKind
from ecc_model.program import MAX_CLASSES, Program, from_records, to_records
from ecc_model.rates import RateTable
from ecc_model.statistics import Statistics, StatisticsInfo

FORMAT = 5  # what is read; a file says the oldest format that can hold its program (`Program.format`)
MAX_RECORD_BYTES = 512 << 20
MAX_MANIFEST_BYTES = 1 << 20
MAX_LABEL_CHARACTERS = 64
ACCEPTED_SHARE = 0.9
OPTIONAL = ("rates", "statistics")  # records that a file need not have
_STAMP = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes
_HEADER_BYTES, _NAME_LENGTH_AT = 30, 26  # of a ZIP's entry; the length of its extra field follows that of its name


class LeadingInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A worker answers a code by its first `steps` time steps where the best class leads by `margin` at least.

    temperature: divides the logits of such an answer, on top of the model's own. more: share of validation frames that
    needed the later steps, too.
    """

    steps: int
    margin: float
    temperature: float
    more: float


class EncoderInfo(msgspec.Struct, frozen=True):
    """One bottleneck encoder: its name, what its spikes are called on the wire, and their shape (T, C, H, W).

    rates: the kind of its rate table, whose tensors are in the record "rates" under the encoder's name; "" for none.
    leading: in a worker's file, how its leading time steps are answered alone; None: they are not. decoder: in a
    worker's file, which of the network's decoders reads it.
    """

    name: str
    features_id: str
    shape: list[int]
    rates: str = ""
    leading: LeadingInfo | None = None
    decoder: int = 0


class EarlyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An answer stands after fewer than T time steps where its normalized entropy is at or below `limit` then.

    temperatures: T - 1 of them, for the logits after 1, 2, ... steps.
    """

    temperatures: list[float]
    limit: float


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`: what a model file says of itself."""

    format: int
    kind: str  # "edge" or "cloud"
    labels: list[str]
    temperature: float  # divides the logits before softmax
    threshold: float = 1.0  # edge: normalized entropy above it is ambiguous
    accepted: float = ACCEPTED_SHARE  # edge: share of known frames that a threshold lets it answer by itself
    early: EarlyInfo | None = None  # edge: None: every frame takes all steps
    encoders: list[EncoderInfo]  # edge: what it sends; cloud: what it reads
    frame: list[int]  # steps, channels, height, width
    network: dict[str, Any]  # how to rebuild the torch modules (ecc_model.nets)
    program: dict[str, Any] = msgspec.field(default_factory=dict)
    statistics: StatisticsInfo | None = None
    provenance: dict[str, str] = msgspec.field(default_factory=dict)
    records: dict[str, str] = msgspec.field(default_factory=dict)  # record name -> SHA-256; "weights": of torch's


class _FormatOnly(msgspec.Struct):
    format: int


@dataclass(frozen=True, eq=False)
class GuardSet:
    """Validation rows of known classes that travel with the model.

    bits: uint8 (rows, bytes), packed split-point spikes; labels: int32 (rows,), indices into the model's labels;
    judge: uint8 (rows,), 1 where a row only judges an update, 0 where it is replayed in learning;
    factory: uint8 (F,), of the first F judging rows, which the factory's file had, 1 where the model of that file
    answers rightly; None in that file itself.
    """

    bits: NDArray[np.uint8]
    labels: NDArray[np.int32]
    judge: NDArray[np.uint8]
    factory: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class EdgeModel:
    """What a device reads from `vgg9.pt`."""

    path: Path
    sha256: str
    manifest: Manifest
    program: Program
    guard: GuardSet
    tables: tuple[RateTable | None, ...] = (None,)
    """One for each encoder: of its spikes, where the file has one."""
    statistics: Statistics | None = None
    """What the device can learn from in closed form, where the file has them."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        return tuple(self.manifest.labels)

    @property
    def temperature(self) -> float:
        """Divides the logits before softmax."""
        return self.manifest.temperature

    @property
    def threshold(self) -> float:
        """Normalized entropy above this is ambiguous."""
        return self.manifest.threshold

    @property
    def accepted(self) -> float:
        """Share of known frames that a newly fitted threshold lets the edge answer by itself."""
        return self.manifest.accepted

    @property
    def rates(self) -> RateTable | None:
        """The rate table of the first encoder."""
        return self.tables[0]

    @property
    def encoders(self) -> tuple[str, ...]:
        """The names of the program's encoders."""
        return tuple(info.name for info in self.manifest.encoders)


Records = Mapping[str, Mapping[str, NDArray[Any]]]  # record name -> tensors


def labels_id(names: Sequence[str]) -> bytes:
    """Four bytes that tell label lists apart: the start of SHA-256 of the names, joined by NUL."""
    return hashlib.sha256("\0".join(names).encode()).digest()[:4]


def with_rates(
    encoders: Sequence[EncoderInfo], tables: Mapping[str, RateTable]
) -> tuple[list[EncoderInfo], dict[str, NDArray[Any]]]:
    """The encoders, knowing the kinds of their tables (by name), and the tensors of the record "rates"."""
    infos: list[EncoderInfo] = []
    tensors: dict[str, NDArray[Any]] = {}
    for info in encoders:
        table = tables.get(info.name)
        infos.append(msgspec.structs.replace(info, rates="" if table is None else table.kind))
        if table is not None:
            tensors |= {f"{info.name}.{name}": array for name, array in rates.to_records(table).items()}
    return infos, tensors


def edge_records(
    manifest: Manifest,
    program: Program,
    guard: GuardSet,
    learnable: Statistics | None,
    tables: Sequence[RateTable | None],
) -> tuple[Manifest, Records]:
    """The manifest of an edge model, knowing what its records hold, and the records; `tables` are its encoders'."""
    spec, tensors = to_records(program)
    found: dict[str, Mapping[str, NDArray[Any]]] = {
        "program": tensors,
        "guard": {"bits": guard.bits, "labels": guard.labels, "judge": guard.judge},
    }
    if guard.factory is not None:
        found["guard"] = {**found["guard"], "factory": guard.factory}
    named = zip((info.name for info in manifest.encoders), tables, strict=True)
    encoders, coded = with_rates(manifest.encoders, {name: table for name, table in named if table is not None})
    if coded:
        found["rates"] = coded
    info = None
    if learnable is not None:
        info, found["statistics"] = class_statistics.describe(program, learnable)
    changes = {"format": program.format, "program": spec, "encoders": encoders, "statistics": info}
    return msgspec.structs.replace(manifest, **changes), found


def write_learnt(
    path: Path,
    parent: EdgeModel,
    program: Program,
    guard: GuardSet,
    *,
    labels: Sequence[str],
    temperature: float,
    threshold: float,
    early: EarlyInfo | None,
    provenance: dict[str, str],
    statistics: Statistics | None,
) -> None:
    """Write what `parent` has become, without torch: torch's part is copied byte for byte, and knows nothing new.

    `ModelError` when it cannot be written, `ModelCorrupt` for a parent whose records are not at its end.
    """
    manifest = msgspec.structs.replace(
        parent.manifest,
        labels=list(labels),
        temperature=temperature,
        threshold=threshold,
        early=early,
        provenance=provenance,
    )
    with whole_file(path) as partial:
        shutil.copyfile(parent.path, partial)
        add_records(partial, *edge_records(manifest, program, guard, statistics, parent.tables))


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write instead of `path`, which takes its place, durably, when all went well. `ModelError`."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as exc:
        raise ModelError(f"{path}: cannot be written ({exc.strerror}); choose another place for it") from exc
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def add_records(path: Path, manifest: Manifest, records: Records) -> None:
    """Put manifest and records into the checkpoint at `path`: behind what torch wrote, instead of earlier ones."""
    blobs = {f"{name}.safetensors": safetensors.dump(tensors) for name, tensors in records.items()}
    hashes = {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()}
    kept = {name: digest for name, digest in manifest.records.items() if not name.endswith(".safetensors")}
    blobs["manifest.json"] = msgspec.json.encode(msgspec.structs.replace(manifest, records=kept | hashes))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        root = archive.namelist()[0].partition("/")[0]
        _cut_off(path, archive, f"{root}/extra/")
        for name, blob in sorted(blobs.items()):
            archive.writestr(zipfile.ZipInfo(f"{root}/extra/{name}", _STAMP), blob)


def _cut_off(path: Path, archive: zipfile.ZipFile, prefix: str) -> None:
    """Forget the entries of this prefix: what is written next takes their place, and all before it stays as it is."""
    own = [info for info in archive.filelist if info.filename.startswith(prefix)]
    others = [info for info in archive.filelist if not info.filename.startswith(prefix)]
    if own:
        archive.start_dir = min(info.header_offset for info in own)
        if any(info.header_offset > archive.start_dir for info in others):
            raise ModelCorrupt(path, "its records are not at its end; write it again")
        archive.filelist, archive.NameToInfo = others, {info.filename: info for info in others}


def read_edge(path: Path | str) -> EdgeModel:
    """Read an edge model without torch.

    Raises `ModelNotFound`, `ModelCorrupt`, `ModelFormat`, `WrongKind`, or `ProgramMissing` for a plain checkpoint.
    """
    path = Path(path)
    manifest, records, digest = _read(path, "edge", ("program", "guard", "rates", "statistics"))
    try:
        program = from_records(manifest.program, records["program"])
        guard = _guard(records["guard"], program, len(manifest.labels))
        learnable = None
        if manifest.statistics is not None:
            learnable = class_statistics.build(manifest.statistics, records.get("statistics", {}), program)
    except ModelError as exc:
        raise ModelCorrupt(path, str(exc)) from exc
    if program.format > manifest.format:
        raise ModelCorrupt(path, f"its program needs format {program.format}, its manifest says {manifest.format}")
    if program.classes != len(manifest.labels):
        raise ModelCorrupt(path, f"{program.classes} logits for {len(manifest.labels)} labels")
    if manifest.early is not None:
        _check_early(path, manifest.early, program.steps)
    names = [encoder.name for encoder in manifest.encoders]
    if len(set(names)) != len(names) or not all(map(_is_name, names)):
        raise ModelCorrupt(path, f"names of its encoders: 1 to {MAX_LABEL_CHARACTERS} printable characters, each once")
    if tuple(encoder.features_id for encoder in manifest.encoders) != program.features_ids:
        raise ModelCorrupt(path, "its features_id is not that of its head and encoder")
    for encoder, shape in zip(manifest.encoders, program.code_shapes, strict=True):
        if tuple(encoder.shape) != shape:
            raise ModelCorrupt(path, f"its encoder emits {shape}, its manifest says {tuple(encoder.shape)}")
    named = _tables(path, manifest, records.get("rates", {}))
    tables = tuple(named.get(name) for name in names)
    return EdgeModel(path, digest, manifest, program, guard, tables, learnable)


def read_rates(path: Path | str, kind: str) -> dict[str, RateTable]:
    """The rate tables in a model file of `kind` ("edge" or "cloud"), by the names of their encoders."""
    path = Path(path)
    manifest, records, _ = _read(path, kind, ("rates",))
    return _tables(path, manifest, records.get("rates", {}))


def read_manifest(path: Path | str, kind: str) -> Manifest:
    """The checked manifest of a model file of `kind` ("edge" or "cloud")."""
    return _read(Path(path), kind, ())[0]


def _read(path: Path, kind: str, wanted: tuple[str, ...]) -> tuple[Manifest, dict[str, dict[str, NDArray[Any]]], str]:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256") if hasattr(hashlib, "file_digest") else _sha256(stream)
            with zipfile.ZipFile(stream) as archive:
                mapped = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
                names = archive.namelist()
                root = names[0].partition("/")[0] if names else ""
                if f"{root}/extra/manifest.json" not in names:
                    if f"{root}/data.pkl" in names:
                        raise ProgramMissing(path)
                    raise ModelCorrupt(path, "no manifest inside")
                text = archive.read(_entry(archive, f"{root}/extra/manifest.json", MAX_MANIFEST_BYTES))
                manifest = _manifest(path, text, kind)
                records = {}
                for name in wanted:
                    if name in OPTIONAL and f"{name}.safetensors" not in manifest.records:
                        continue
                    entry = _entry(archive, f"{root}/extra/{name}.safetensors", MAX_RECORD_BYTES)
                    blob = _mapped(archive, mapped, entry)
                    if hashlib.sha256(blob).hexdigest() != manifest.records.get(f"{name}.safetensors"):
                        raise ModelCorrupt(path, f"record '{name}' has another hash than the manifest says")
                    records[name] = _tensors(path, blob)
    except FileNotFoundError as exc:
        raise ModelNotFound(path) from exc
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError) as exc:
        raise ModelCorrupt(path, str(exc) or type(exc).__name__) from exc
    except (ValueError, KeyError, IndexError, OverflowError, NotImplementedError, RuntimeError) as exc:
        # zipfile's own reactions to altered directories: absurd offsets, unknown methods, password flags
        raise ModelCorrupt(path, f"its ZIP directory is damaged: {exc}") from exc
    return manifest, records, digest.hexdigest()


def _sha256(stream: Any) -> Any:
    """`hashlib.file_digest` for Python 3.10."""
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest


def _entry(archive: zipfile.ZipFile, name: str, limit: int) -> zipfile.ZipInfo:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit or info.compress_size != info.file_size:
        raise zipfile.BadZipFile(f"record {name} is compressed or above {limit} bytes")
    return info


def _mapped(archive: zipfile.ZipFile, mapped: memoryview, entry: zipfile.ZipInfo) -> memoryview:
    """Where an entry lies in the mapped file: in memory once it is touched, and the system may drop it again."""
    with archive.open(entry):  # compares the entry's own header with the directory
        pass
    name_bytes, extra_bytes = struct.unpack_from("<HH", mapped, entry.header_offset + _NAME_LENGTH_AT)
    start = entry.header_offset + _HEADER_BYTES + name_bytes + extra_bytes
    if start + entry.file_size > len(mapped):
        raise zipfile.BadZipFile(f"record {entry.filename} is cut off")
    return mapped[start : start + entry.file_size]


def _tensors(path: Path, blob: memoryview) -> dict[str, NDArray[Any]]:
    try:
        return safetensors.load(blob)
    except ModelError as exc:
        raise ModelCorrupt(path, str(exc)) from exc


def _manifest(path: Path, text: bytes, kind: str) -> Manifest:
    try:
        found = msgspec.json.decode(text, type=_FormatOnly).format
        if not 1 <= found <= FORMAT:
            raise ModelFormat(path, f"format {found}", f"formats 1 to {FORMAT}")
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ModelCorrupt(path, f"its manifest is not valid: {exc}") from exc
    if manifest.kind != kind:
        raise WrongKind(path, manifest.kind, kind)
    names = manifest.labels
    if not 1 <= len(names) <= MAX_CLASSES or len(set(names)) != len(names):
        raise ModelCorrupt(path, f"{len(names)} labels, or some twice")
    if not all(map(_is_name, names)):
        raise ModelCorrupt(path, f"labels are 1 to {MAX_LABEL_CHARACTERS} printable characters")
    if not (0.0 < manifest.temperature < 1e6 and 0.0 <= manifest.threshold <= 1.0):
        raise ModelCorrupt(path, f"temperature {manifest.temperature}, threshold {manifest.threshold}")
    if not 0.0 < manifest.accepted <= 1.0:
        raise ModelCorrupt(path, f"{manifest.accepted} is no share of frames that the edge answers by itself")
    return manifest


def _is_name(name: str) -> bool:
    return 1 <= len(name) <= MAX_LABEL_CHARACTERS and name.isprintable()


def _check_early(path: Path, early: EarlyInfo, steps: int) -> None:
    if len(early.temperatures) != steps - 1 or not all(0.0 < t < 1e6 for t in early.temperatures):
        raise ModelCorrupt(path, f"temperatures {early.temperatures[:16]} for the steps before the last of {steps}")
    if not 0.0 <= early.limit <= 1.0:
        raise ModelCorrupt(path, f"frames end early at an entropy of {early.limit}")


def _tables(path: Path, manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> dict[str, RateTable]:
    tables = {}
    for info in manifest.encoders:
        if info.rates:
            prefix = f"{info.name}."
            own = {name[len(prefix) :]: array for name, array in tensors.items() if name.startswith(prefix)}
            try:
                tables[info.name] = rates.from_records(tuple(info.shape), info.rates, own)
            except ModelError as exc:
                raise ModelCorrupt(path, f"the rate table of '{info.name:.20}': {exc}") from exc
    return tables


def _guard(tensors: dict[str, NDArray[Any]], program: Program, classes: int) -> GuardSet:
    width = bits.packed_size(program.split_shape)
    try:
        rows, labels, judge = tensors["bits"], tensors["labels"], tensors["judge"]
    except KeyError as exc:
        raise ModelError(f"the guard set has no {exc}") from exc
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != width:
        raise ModelError(f"guard rows of {rows.shape[-1:]} bytes, {width} fit the split point")
    if labels.dtype != np.int32 or judge.dtype != np.uint8 or not labels.shape == judge.shape == rows.shape[:1]:
        raise ModelError("guard rows, labels and judges differ in number")
    if labels.min() < 0 or labels.max() >= classes:
        raise ModelError("guard labels outside of the model's labels")
    factory = tensors.get("factory")
    if factory is not None and (factory.dtype != np.uint8 or factory.ndim != 1 or len(factory) > judge.sum()):
        raise ModelError("the factory's answers are not those of guard rows that judge")
    return GuardSet(rows, labels, judge, factory)
