"""What ``--fast`` does with sound: it copies the samples, or encodes again what MP4 does not take."""

from pathlib import Path

import av
import numpy as np
import pytest
from support.videos import SIZE, see_and_hear, write_flashes

from r2tuning.errors import VideoWarning
from r2tuning.output.media import Footage, cut


@pytest.mark.parametrize("ending", ["mkv", "mov"])
@pytest.mark.parametrize(("layout", "hertz"), [("mono", 44100), ("stereo", 48000), ("5.1", 96000)])
def test_24_bits_of_sound_are_copied(ending: str, layout: str, hertz: int, tmp_path: Path) -> None:
    """The samples of ``ffmpeg -i a -f s32le -``; Matroska does not say which channels there are."""
    path, random = tmp_path / f"a.{ending}", np.random.default_rng(0)
    channels, count = av.AudioLayout(layout).nb_channels, hertz // 25
    stored = random.integers(-(1 << 23), 1 << 23, (50, count * channels)).astype(np.int32) << 8
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"g": "5"})
        video.width, video.height, video.pix_fmt, video.codec_context.max_b_frames = *SIZE, "yuv420p", 0
        audio = container.add_stream("pcm_s24le", rate=hertz, layout=layout)
        for index, block in enumerate(stored):
            image = av.VideoFrame.from_ndarray(np.full((SIZE[1], SIZE[0], 3), 100, np.uint8))
            image.pts = index
            container.mux(video.encode(image))
            sound = av.AudioFrame.from_ndarray(block[None], "s32", layout)
            sound.sample_rate, sound.pts = hertz, index * count
            container.mux(audio.encode(sound))
        container.mux([*video.encode(None), *audio.encode(None)])
    begins = cut(str(path), 0.4, 1.2, tmp_path / "b.mp4", exact=False)
    assert begins == pytest.approx(0.4, abs=0.001)
    with av.open(str(tmp_path / "b.mp4")) as container:
        copied = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)[0]
    expected = stored[10:].reshape(-1)[: len(copied)]
    assert abs(len(copied) - round(0.8 * hertz) * channels) <= count * channels
    assert np.array_equal(copied, expected)


def read_pictures(path: Path) -> list[bytes]:
    """The video packets of a file."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize(
    ("name", "codec", "hertz"),
    [("a.mkv", "pcm_u8", 44100), ("a.mov", "pcm_s8", 48000), ("a.mov", "pcm_alaw", 8000), ("a.mkv", "wavpack", 44100)],
)
def test_sound_that_mp4_does_not_take_is_encoded_again(name: str, codec: str, hertz: int, tmp_path: Path) -> None:
    """FFmpeg refuses ``-c copy``: codec not currently supported in container."""
    write_flashes(tmp_path / name, frames=100, sound=codec, hertz=hertz)
    footage = Footage(tmp_path / name)
    with pytest.warns(VideoWarning, match=rf"MP4 does not take its sound \({codec}\); it is encoded again as AAC"):
        begins = cut(footage, 1.3, 3.6, tmp_path / "b.mp4", exact=False)
    cut(footage, 0, 1, tmp_path / "c.mp4", exact=False)  # says it once
    clip = see_and_hear(tmp_path / "b.mp4")
    assert begins == pytest.approx(0.96, abs=0.001)  # the key frame before: every twelfth frame is one
    assert clip.frames[:66] == list(range(24, 90))
    assert clip.flashes == pytest.approx([0.04, 1.04, 2.04], abs=0.002)
    assert clip.beeps == pytest.approx(clip.flashes, abs=0.05)
    assert clip.sound == pytest.approx((0, 3.6 - begins), abs=1024 / hertz)
    whole, copied = read_pictures(tmp_path / name), read_pictures(tmp_path / "b.mp4")
    assert copied == whole[24 : 24 + len(copied)]
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
