"""TACoS (Regneri et al., TACL 2013): cooking filmed by a fixed camera, minutes long."""

from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.moments import parse_moments

TACOS = Benchmark(
    name="tacos",
    splits=tuple(
        Split(name, f"{name}.jsonl", (f"{name}.jsonl", f"tacos_{name}.jsonl")) for name in ("train", "val", "test")
    ),
    evaluation_split="test",
    main_metric="MR-full-R1@0.5",
    fps=0.5,
    hub_folder="tacos",
    parse=parse_moments,
    # Annotations name the recording, files also the camera.
    video_suffix="-cam-002",
)
"""127 recordings; several people described the same one, so a sentence may occur more than once."""
