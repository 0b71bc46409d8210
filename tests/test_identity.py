"""A video is itself however it is spelled and wherever it is, and no other file is taken for it."""

import shutil
import unicodedata
from pathlib import Path

import av
import pytest
from support.cli import refused, run
from support.files import shared_file
from support.videos import write_moving, write_video

from r2tuning import Grounder
from r2tuning.datasets import load_custom
from r2tuning.datasets.annotations import Annotation
from r2tuning.datasets.custom import hold_out, name_videos
from r2tuning.errors import DataError, FeatureError, OutputError, VideoError
from r2tuning.features import EncodedVideo
from r2tuning.features.encoded import FeatureWriter
from r2tuning.features.extraction import VideoFolder
from r2tuning.hub import identify_file
from r2tuning.output.page import write_page
from r2tuning.types import VIDEO_SUFFIXES

pytestmark = pytest.mark.filterwarnings("ignore::r2tuning.errors.CheckpointWarning")  # these are no shapes

QUERY = "a red circle falls"


def test_three_spellings_are_one_video() -> None:
    """Before: three annotations, of which two could train and one validate."""
    (annotation,) = load_custom(shared_file("bugs/07_one_video_three_spellings.csv"))
    assert (annotation.vid, annotation.moments) == ("kitchen.mp4", ((1, 2), (3, 4), (5, 6)))


@pytest.mark.parametrize(
    ("spellings", "names"),
    [
        (["café.mp4", unicodedata.normalize("NFD", "café.mp4")], {"café.mp4"}),
        (["a.MTS", "a", ".//a.MTS", "b/../a"], {"a.MTS"}),
        (["clips/a.mp4", "a", "clips/a"], {"clips/a.mp4"}),
        (["clips/a.mp4", "other/a.mp4"], {"clips/a.mp4", "other/a.mp4"}),
        (["v1.5", "v1"], {"v1.5", "v1"}),
    ],
)
def test_spellings_without_files(spellings: list[str], names: set[str]) -> None:
    assert set(name_videos(spellings).values()) == names


def test_links_and_names_in_another_folder_are_one_video(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write_video(tmp_path / "sub" / "a.mp4", frames=4)
    (tmp_path / "b.mp4").symlink_to(tmp_path / "sub" / "a.mp4")
    spellings = ["a", "sub/a.mp4", "b", str(tmp_path / "b.mp4"), "gone"]
    names = name_videos(spellings, VideoFolder(tmp_path).find)
    assert len({names[text] for text in spellings[:-1]}) == 1
    assert names["gone"] == "gone"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_file_is_found_in_both_forms_of_unicode(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"{unicodedata.normalize(form, 'café')}.MTS"
    path.write_bytes(b"x")
    for other in ("NFC", "NFD"):
        for name in ("café", "café.MTS", "./café.MTS"):
            assert path.samefile(VideoFolder(tmp_path).find(unicodedata.normalize(other, name)))


def test_every_container_that_ffmpeg_writes_pictures_to_counts_as_video() -> None:
    """The lists of endings are those of FFmpeg's muxers."""
    others = {
        "apng",
        "avif",
        "dash",
        "ffm",
        "hls",
        "ico",
        "image2",
        "smjpeg",
        "webp",
        "adx",
        "rtp",
        "segment",
        "film_cpk",
    }
    missing = set()
    for name in sorted(av.formats_available):
        try:
            form = av.format.ContainerFormat(name, "w")
        except ValueError:
            continue
        if form.is_output and form.name in WITH_PICTURES:
            missing |= {f".{ending}" for ending in form.extensions} - VIDEO_SUFFIXES
    sound, others = (
        {".m4a", ".m4b", ".isma", ".wma", ".ra", ".oga", ".spx", ".opus"},
        {".avs", ".h26l"},
    )  # .avs: a script
    assert missing <= sound | others


WITH_PICTURES = {
    "3g2", "3gp", "amv", "asf", "avi", "avs2", "avs3", "cavsvideo", "dirac", "dv", "f4v", "flv", "gif", "gxf", "h261",
    "h263", "h264", "hevc", "ipod", "ismv", "ivf", "m4v", "matroska", "mjpeg", "mov", "mp4", "mpeg", "mpeg1video",
    "mpeg2video",
    "mpegts", "mxf", "nut", "obu", "ogv", "rm", "roq", "svcd", "swf", "vc1", "vob", "webm", "wtv", "yuv4mpegpipe",
}  # fmt: skip


def test_recordings_of_one_name_stay_on_one_side() -> None:
    rows = [Annotation(qid=i, vid=v, query="a", duration=9) for i, v in enumerate(["a.mp4", "a.mkv", "a", "b.mp4"])]
    for seed in range(20):
        sides = [{row.vid.partition(".")[0] for row in side} for side in hold_out(rows, seed)]
        assert not sides[0] & sides[1]


def test_one_video_in_training_and_validation_is_refused(tmp_path: Path) -> None:
    """By its name in another file, or by its content under another name."""
    videos = tmp_path / "videos"
    videos.mkdir()
    write_moving(videos / "a.mp4", "libx264", {}, frames=60)
    shutil.copy(videos / "a.mp4", videos / "copy.mp4")
    settings = ["data.videos=" + str(videos), "backbone=demo", "fps=2", "training.epochs=1", "data.workers=0"]
    (tmp_path / "train.csv").write_text("video,start,end,query\na.mp4,0,1,a dog\n")
    for names, message in (
        (["a.mp4"], "'a.mp4' is in training and in validation; keep its queries on one side"),
        (["copy.mp4"], "'a.mp4' in training and 'copy.mp4' in validation are the same video; keep its queries on one "),
        (["./a", "copy.mp4"], "are the same video (and 1 more); keep its queries on one side, under one name"),
    ):
        rows = "".join(f"{name},0,1,a dog\n" for name in names)
        (tmp_path / "val.csv").write_text(f"video,start,end,query\n{rows}")
        given = [*settings, f"data.annotations={tmp_path / 'train.csv'}", f"data.validation={tmp_path / 'val.csv'}"]
        result = run("train", "custom", "--run", tmp_path / "run", *(x for one in given for x in ("--set", one)))
        refused(result, 1, message)


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    return Grounder.from_pretrained("demo", device="cpu", engine="torch")


@pytest.fixture
def features(tmp_path: Path, grounder: Grounder) -> Path:
    write_moving(tmp_path / "v.mp4", "libx264", {}, frames=60)
    (tmp_path / "features").mkdir()
    grounder.encode(tmp_path / "v.mp4").save(tmp_path / "features" / "v.safetensors")
    return tmp_path / "features" / "v.safetensors"


def test_features_say_which_video_they_are_of(features: Path, tmp_path: Path) -> None:
    facts = EncodedVideo.load(features).facts
    assert (facts.absolute, facts.relative) == (str(tmp_path / "v.mp4"), "../v.mp4")
    assert facts.identity == identify_file(tmp_path / "v.mp4")
    assert facts.identity.startswith(f"{(tmp_path / 'v.mp4').stat().st_size}:")


def test_features_that_outgrew_memory_know_it_too(features: Path, tmp_path: Path) -> None:
    encoded = EncodedVideo.load(features)
    writer = FeatureWriter(memory_limit=0)
    writer.append(encoded.read(0, encoded.frames).transpose(0, 1))
    spilled = writer.finish(encoded.facts.model_copy(update={"relative": ""}))
    spilled.save(tmp_path / "other.safetensors")
    again = EncodedVideo.load(tmp_path / "other.safetensors")
    assert again.facts.relative == "v.mp4"
    assert (again.read(0, 3) == encoded.read(0, 3)).all()


def test_a_moved_video_is_found(features: Path, tmp_path: Path) -> None:
    beside = features.parent / "v.mp4"
    shutil.move(tmp_path / "v.mp4", beside)
    assert EncodedVideo.load(features).facts.video == str(beside)
    whole = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    shutil.move(whole / "features" / "v.mp4", whole / "v.mp4")
    moved = whole / "features" / "v.safetensors"
    assert Path(EncodedVideo.load(moved).facts.video).samefile(whole / "v.mp4")
    shutil.move(whole / "v.mp4", whole / "elsewhere.mp4")
    assert EncodedVideo.load(moved, whole / "elsewhere.mp4").facts.video == str(whole / "elsewhere.mp4")
    clips = whole / "clips"
    done = run("ground", moved, QUERY, "-m", "demo", "--clips", clips, "--video", whole / "elsewhere.mp4")
    assert done.exit_code == 0, done.output
    assert list(clips.glob("*.mp4"))
    whole.rename(tmp_path)


def test_another_file_at_its_place_is_refused(features: Path, tmp_path: Path, grounder: Grounder) -> None:
    write_moving(tmp_path / "v.mp4", "libx264", {}, frames=60, seed=5)
    with pytest.raises(FeatureError, match="is not the video of"):
        EncodedVideo.load(features, tmp_path / "v.mp4")
    answer = grounder.ground(EncodedVideo.load(features), QUERY)
    for attempt in (
        lambda: answer.save(tmp_path / "a.gif"),
        lambda: answer.save(f"sheet:{tmp_path / 'a.png'}"),
        lambda: write_page([answer], tmp_path / "a.html", embed=True),
        lambda: answer.save(tmp_path / "a.edl"),
    ):
        with pytest.raises((VideoError, OutputError), match="is not the video that was encoded"):
            attempt()
    options = ("-m", "demo", "--clips", tmp_path / "clips")
    refused_parts = "is not the video that was encoded"
    assert refused_parts in run("ground", features, QUERY, *options).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features", "v.mp4"]


@pytest.mark.parametrize("secret", ["/etc/passwd", "/dev/zero", "secret.txt"])
def test_tampered_features_put_no_other_file_into_a_page(
    secret: str, features: Path, tmp_path: Path, grounder: Grounder
) -> None:
    (tmp_path / "secret.txt").write_text("root:x\n" * 100)
    encoded = EncodedVideo.load(features)
    for identity in ("", identify_file(tmp_path / "secret.txt") if secret.startswith("s") else ""):
        place = str(tmp_path / secret) if secret.startswith("s") else secret
        facts = encoded.facts.model_copy(update={"video": place, "absolute": place, "identity": identity})
        answer = grounder.ground(EncodedVideo(facts, encoded.read(0, encoded.frames).transpose(0, 1)), QUERY)
        with pytest.raises(OutputError, match="cannot be embedded"):
            write_page([answer], tmp_path / "a.html", embed=True)
    assert not (tmp_path / "a.html").exists()


def test_a_hold_out_of_one_video_in_three_spellings_is_refused() -> None:
    with pytest.raises(DataError, match="is not enough"):
        hold_out(load_custom(shared_file("bugs/07_one_video_three_spellings.csv")), 0)
