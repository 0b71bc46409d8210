"""What this machine has for r2tuning, what is wrong with it, and the remedy.

Nothing that is broken ends a diagnosis: each part is looked at alone, and what it raises is a finding. PyTorch, PyAV
and the hub's client are imported only to look at them.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from r2tuning import __version__
from r2tuning.errors import CheckpointError, DownloadError
from r2tuning.files import cache_folder, explain
from r2tuning.hub import Progress, find_damaged, free_space, hub_cache, no_progress, reach_hub

if TYPE_CHECKING:
    from r2tuning.checkpoints.resolve import Missing

Level: TypeAlias = Literal["ok", "note", "problem", "error"]
"""``note``: all is well, but something could be better or is left out; ``problem``: some things do not work;
``error``: no video can be grounded."""


@dataclass(frozen=True)
class Extra:
    """What ``pip install 'r2tuning[NAME]'`` adds, and the modules that only it installs."""

    name: str
    purpose: str
    modules: tuple[str, ...]


EXTRAS = (
    Extra("train", "train and ablate", ("lightning", "tensorboard")),
    Extra("onnx", "the engine onnx-int8", ("onnx", "onnxruntime")),
    Extra("export", "OpenTimelineIO files", ("opentimelineio",)),
    Extra("cluster", "encode on a Ray cluster", ("ray",)),
    Extra("lance", "libraries in an object store", ("lancedb", "obstore", "pyarrow")),
    Extra("server", "a library over HTTP", ("fastapi", "starlette", "uvicorn")),
    Extra("mcp", "a library for assistants", ("mcp",)),
)

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch is without CUDA."""

LITTLE_SPACE = 10**9
"""Bytes of free disk below which a long run may end early."""

_DECODERS = {"H.264": ("h264",), "HEVC": ("hevc",), "VP9": ("vp9",), "AV1": ("libdav1d", "libaom-av1", "libgav1")}
"""FFmpeg's own decoder of AV1 needs a GPU."""
_ENCODERS = {"H.264": ("libx264", "h264"), "AAC": ("aac",)}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what, how it is, how bad that is, and what to do about it."""

    topic: str
    value: str
    level: Level = "ok"
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and the model that the machine should ground a video with."""

    model: str
    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether a video can be grounded now."""
        return all(finding.level != "error" for finding in self.findings)


def diagnose(model: str, library: str = "", progress: Progress = no_progress) -> Diagnosis:
    """Looks at everything, in a few seconds; cached backbones are read to check their hashes.

    Args:
        model: As for `Grounder.from_pretrained`.
        library: Folder of the library that commands use; an address is not looked at.
        progress: Shows the check of hashes.
    """
    findings: list[Finding] = []
    findings += _look("Python", _check_python)
    findings += _look("PyTorch", _check_torch, "error", f"pip install --force-reinstall torch --index-url {CPU_INDEX}")
    whole = findings[-1].level != "error"
    findings += _look("processor", _check_processor) if whole else []
    findings += _look("video", _check_codecs, "error", "pip install --force-reinstall av")
    findings += _look("extras", _check_extras)
    findings += _look("hub", _check_hub, remedy="pip install --force-reinstall huggingface-hub")
    needed: list[Missing] = []
    if whole:
        reachable = findings[-1].level == "ok"
        findings += _look(
            "model", partial(_check_model, model, needed, reachable=reachable), "error", "name another with --model"
        )
        findings += _look("cached models", partial(_check_copies, model, progress))
    findings += _look("folders", partial(_check_folders, needed, library))
    findings += _look("browser", _check_browser)
    return Diagnosis(model, tuple(findings))


def _look(
    topic: str, check: Callable[[], Iterator[Finding]], level: Level = "problem", remedy: str = ""
) -> list[Finding]:
    """What a check finds; whatever it raises is a finding too."""
    found = []
    try:
        for finding in check():
            found.append(finding)  # noqa: PERF402  (what came before an exception counts)
    except Exception as error:  # also of native libraries, which have errors of any kind
        advice = remedy or "see https://pypi.org/project/r2tuning for what r2tuning needs"
        found.append(Finding(topic, f"cannot be used ({explain(error)})", level, advice))
    return found


def _check_python() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("Python", f"{platform.python_version()} on {system}")
    yield Finding("r2tuning", __version__)


def _check_torch() -> Iterator[Finding]:
    import torch

    build = f"CUDA {torch.version.cuda} build" if torch.version.cuda else "CPU build"
    value = f"{torch.__version__}, {build}"
    torch.ones(2, 2) @ torch.ones(2, 2)  # a library that lacks a part of itself fails here
    if torch.cuda.is_available():
        yield Finding("PyTorch", f"{value}, {torch.cuda.get_device_name()}")
    elif torch.version.cuda:
        remedy = f"the CPU build is gigabytes smaller: pip install --force-reinstall torch --index-url {CPU_INDEX}"
        yield Finding("PyTorch", f"{value}, but no NVIDIA GPU is found", "note", remedy)
    elif shutil.which("nvidia-smi"):
        remedy = "to use it: pip install --force-reinstall torch"
        yield Finding("PyTorch", f"{value}, but there is an NVIDIA GPU", "note", remedy)
    elif torch.backends.mps.is_available():
        yield Finding("PyTorch", f"{value}; --device mps uses the Apple GPU")
    else:
        yield Finding("PyTorch", value)


def _check_processor() -> Iterator[Finding]:
    import torch

    from r2tuning.backbones import choose_device
    from r2tuning.backbones.base import choose_engine

    device = choose_device(None)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    amx = ", AMX" if getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)() else ""
    units = torch.backends.cpu.get_cpu_capability()
    engine = choose_engine(device, 768)
    value = f"{units}{amx}, {cores} cores, {threads} threads; runs on {device.type} with engine {engine}"
    if device.type == "cpu" and platform.machine() in ("x86_64", "AMD64") and "AVX" not in units:
        yield Finding(
            "processor", value, "note", "without AVX2, encoding is several times slower; --sampling keyframe helps"
        )
    elif device.type == "cpu" and threads * 2 <= cores and "OMP_NUM_THREADS" in os.environ:
        yield Finding("processor", value, "note", "unset OMP_NUM_THREADS to use all cores")
    else:
        yield Finding("processor", value)


def _check_codecs() -> Iterator[Finding]:
    import av

    found = {"decodes": _find_codecs(_DECODERS, "r"), "encodes": _find_codecs(_ENCODERS, "w")}
    listed = "; ".join(f"{what} {', '.join(names) or 'nothing'}" for what, names in found.items())
    value = f"PyAV {av.__version__} with FFmpeg {av.ffmpeg_version_info}; {listed}"
    lacking = [name for name in _DECODERS if name not in found["decodes"]]
    lacking += [f"{name} encoding" for name in _ENCODERS if name not in found["encodes"]]
    if lacking:
        level: Level = "error" if "H.264" in lacking else "problem"
        remedy = "install PyAV's own build: pip install --force-reinstall --only-binary av av"
        yield Finding("video", f"{value}; lacks {', '.join(lacking)}", level, remedy)
    else:
        yield Finding("video", value)


def _find_codecs(wanted: dict[str, tuple[str, ...]], mode: Literal["r", "w"]) -> list[str]:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    found = []
    for name, codecs in wanted.items():
        for codec in codecs:
            try:
                Codec(codec, mode)
            except UnknownCodecError:
                continue
            found.append(name)
            break
    return found


def _check_extras() -> Iterator[Finding]:
    for extra in EXTRAS:
        missing = [module for module in extra.modules if not _is_installed(module)]
        topic = f"extra {extra.name}"
        if missing:
            remedy = f"pip install 'r2tuning[{extra.name}]'"
            yield Finding(topic, f"{', '.join(missing)} not installed ({extra.purpose})", "note", remedy)
        else:
            found = ", ".join(f"{module} {_version(module)}".strip() for module in extra.modules)
            yield Finding(topic, f"{found} ({extra.purpose})")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # half installed
        return False


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # installed by other means
        return ""


def _check_hub() -> Iterator[Finding]:
    from r2tuning.checkpoints.published import REPOSITORY

    try:
        yield Finding("hub", f"{reach_hub(REPOSITORY)} answers")
    except DownloadError as error:
        if "HF_HUB_OFFLINE" in error.reason:
            yield Finding("hub", error.reason, "note", "unset HF_HUB_OFFLINE to download models")
        else:
            remedy = "connect, or set HF_ENDPOINT to a mirror or HTTPS_PROXY to a proxy"
            yield Finding("hub", f"not reached: {error.reason}", "problem", remedy)


def _check_model(model: str, needed: list[Missing], *, reachable: bool) -> Iterator[Finding]:
    """Whether a model and its backbone are here; what is not is added to ``needed``."""
    from r2tuning.checkpoints.published import DEMO, is_published
    from r2tuning.checkpoints.resolve import find_checkpoint, find_missing, load_checkpoint

    needed += find_missing(model)
    if not needed:
        if not is_published(model):  # a published one is looked at with everything that is cached
            load_checkpoint(find_checkpoint(model))
        yield Finding("model", f"{model} and its backbone are on this machine")
        return
    value = f"{model} needs {' and '.join(map(str, needed))} from the hub"
    if reachable:
        yield Finding("model", value, "note", f"r2tuning prepare {model} fetches it now")
    else:
        remedy = (
            f"run r2tuning prepare {model} with a network, or on a connected machine, and copy {hub_cache()} and "
            f"{cache_folder()} from there; --model {DEMO} needs no network"
        )
        yield Finding("model", value, "error", remedy)


def _check_copies(model: str, progress: Progress) -> Iterator[Finding]:
    """Whether all files of cached checkpoints and backbones are there, and their content is what it was."""
    from r2tuning.backbones.registry import hub_name
    from r2tuning.caches import list_entries
    from r2tuning.checkpoints.resolve import find_backbone

    used = {model.lower()}
    with suppress(CheckpointError):  # which was found before
        used.add(hub_name(find_backbone(model)))
    for entry in list_entries():
        if entry.kind not in ("model", "backbone", "download"):
            continue
        source = hub_name(entry.name)
        wrong = _find_flaw(entry.path) if entry.kind == "model" else ", ".join(find_damaged(source, progress))
        topic = f"cached {entry.kind}"
        if not wrong:
            yield Finding(topic, f"{entry.name}, {entry.size / 1e6:,.1f} MB")
            continue
        again = {"model": f" {entry.name}", "backbone": f" --backbone {entry.name}"}.get(entry.kind, "")
        remedy = f"r2tuning cache remove {entry.full_name} --yes, then r2tuning prepare{again}"
        level: Level = "error" if used & {source, entry.name.lower()} else "problem"
        yield Finding(topic, f"{entry.name} is damaged: {wrong}", level, remedy)


def _find_flaw(folder: Path) -> str:
    """What keeps a cached checkpoint from being loaded; nothing if it can be."""
    from r2tuning.checkpoints.resolve import load_checkpoint

    try:
        load_checkpoint(folder)
    except CheckpointError as error:
        return str(error).partition(";")[0]
    return ""


def _check_folders(needed: Sequence[Missing], library: str) -> Iterator[Finding]:
    """Whether what is needed fits into the folders, and what is made later can be written."""
    megabytes = sum(missing.megabytes or 0 for missing in needed)
    yield _check_folder("cache folder", cache_folder(), "R2TUNING_CACHE", "problem", megabytes)
    yield _check_folder("hub's cache", hub_cache(), "HF_HOME", "note", megabytes)
    if library and "://" not in library:
        yield _check_folder("library", Path(library).expanduser(), "R2TUNING_LIBRARY", "note", 0)


def _check_folder(topic: str, folder: Path, variable: str, unwritable: Level, megabytes: int) -> Finding:
    from r2tuning.caches import measure

    size, free = measure(folder)[0] if folder.exists() else 0, free_space(folder)
    value = f"{folder}: {size / 1e6:,.1f} MB, {free / 1e9:,.1f} GB free"
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        level = "error" if megabytes else unwritable
        return Finding(topic, f"{value}, not writable", level, f"set {variable} to a folder that you can write")
    remedy = f"free space, or set {variable} to a folder on another disk"
    if free < megabytes * 10**6:
        return Finding(topic, f"{value}, but {megabytes} MB are needed", "error", remedy)
    if free < LITTLE_SPACE:
        return Finding(topic, f"{value}, which is little", "problem", remedy)
    return Finding(topic, value)


def _check_browser() -> Iterator[Finding]:
    names = (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))
    found = [next(filter(None, map(shutil.which, kinds)), None) for kinds in names]
    if None in found:
        value = f"no {' and no '.join(kinds[0] for kinds, path in zip(names, found, strict=True) if path is None)}"
        remedy = "only tests of the HTML page need it: apt-get install chromium chromium-driver"
        yield Finding("browser", value, "note", remedy)
    else:
        yield Finding("browser", ", ".join(map(str, found)))
