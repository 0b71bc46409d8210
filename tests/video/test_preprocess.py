"""Our pixels against the processors of CLIP and SigLIP, which scale full-size RGB with Pillow."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from r2tuning.types import CLIP_PREPROCESSING, Preprocessing
from r2tuning.video.preprocess import Preprocessor, scaled_size

EXACT_SCALER = 0x4 | 0x2000 | 0x40000  # as in preprocess.py; PyAV's default rounds colours 1-2 levels off


def natural_image(width, height):
    """Waves of falling strength, as in photos, and a little grain."""
    rng = np.random.default_rng(width * height)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    channels = []
    for _ in range(3):
        waves = np.zeros((height, width))
        for k in range(1, 24):
            angle, phase = rng.uniform(0, 2 * np.pi, 2)
            waves += np.sin(2 * np.pi * k * (x * np.cos(angle) + y * np.sin(angle)) + phase) / k
        channels.append(waves)
    image = np.stack(channels, axis=-1)
    image = (image - image.min()) / (image.max() - image.min())
    return (20 + image * 215 + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


def clip_processor(image, size):
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        do_rescale=False,
        do_normalize=False,
    )
    return processor(image, return_tensors="np")["pixel_values"][0]


@pytest.mark.parametrize("size", [224, 336])
@pytest.mark.parametrize(
    ("width", "height"), [(640, 360), (360, 640), (641, 359), (426, 240), (300, 300), (64, 48), (99, 131)]
)
def test_matches_clips_processor(width, height, size):
    frame = av.VideoFrame.from_ndarray(natural_image(width, height), format="rgb24").reformat(format="yuv420p")
    full_size = VideoReformatter().reformat(frame, format="rgb24", interpolation=EXACT_SCALER).to_ndarray()
    expected = clip_processor(full_size, size)
    pixels = Preprocessor(Preprocessing(size))(frame)
    assert pixels.shape == (3, size, size)
    assert pixels.dtype == np.uint8
    difference = np.abs(pixels.astype(int) - expected.astype(int))
    # Seen: mean up to 0.36 levels, 99 % within 1, all within 3. A one-pixel shift gives a mean above 2.
    assert difference.mean() < 0.6
    assert np.percentile(difference, 99) <= 2
    assert difference.max() <= 6


@pytest.mark.parametrize("resampling", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("width", "height"), [(640, 360), (360, 640), (641, 359), (300, 300), (64, 48), (99, 131)])
def test_matches_siglips_processor(width, height, resampling):
    frame = av.VideoFrame.from_ndarray(natural_image(width, height), format="rgb24").reformat(format="yuv420p")
    full_size = VideoReformatter().reformat(frame, format="rgb24", interpolation=EXACT_SCALER).to_ndarray()
    processor = SiglipImageProcessorPil(
        size={"height": 224, "width": 224},
        resample={"bilinear": 2, "bicubic": 3}[resampling],
        do_rescale=False,
        do_normalize=False,
    )
    expected = processor(full_size, return_tensors="np")["pixel_values"][0]
    pixels = Preprocessor(Preprocessing(224, "squash", resampling))(frame)
    difference = np.abs(pixels.astype(int) - expected.astype(int))
    # Seen: mean up to 0.3 levels, 99 % within 1, all within 3. Enlarged with the bilinear filter, which scales the
    # halved color planes in one step instead of two: 0.95, 4 and 8. A one-pixel shift gives a mean above 2.
    enlarged = width < 224
    assert difference.mean() < (1.2 if enlarged else 0.5)
    assert np.percentile(difference, 99) <= (5 if enlarged else 2)
    assert difference.max() <= (10 if enlarged else 5)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_squashing_keeps_all_of_the_displayed_picture(rotation):
    displayed = natural_image(300, 225)
    stored = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(displayed, rotation // 90)), format="rgb24")
    squash = Preprocessing(224, "squash")
    upright = Preprocessor(squash)(av.VideoFrame.from_ndarray(displayed, format="rgb24"))
    assert np.abs(Preprocessor(squash, rotation)(stored).astype(int) - upright.astype(int)).max() <= 2


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize(("width", "height"), [(224, 239), (239, 224), (300, 225), (65, 48)])
def test_crop_is_centred_on_the_displayed_picture(width, height, rotation):
    displayed = natural_image(width, height)
    stored = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(displayed, rotation // 90)), format="rgb24")
    upright = Preprocessor(CLIP_PREPROCESSING)(av.VideoFrame.from_ndarray(displayed, format="rgb24"))
    turned = Preprocessor(CLIP_PREPROCESSING, rotation)(stored)
    # Scaling rounds a little differently along the other axis: within 2 levels. A one-pixel shift gives a mean above 2.
    assert np.abs(turned.astype(int) - upright.astype(int)).max() <= 2


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(
    ("colorspace", "red", "blue"),
    [
        pytest.param(1, 0.2126, 0.0722, id="bt709"),
        pytest.param(5, 0.299, 0.114, id="bt601-625"),
        pytest.param(6, 0.299, 0.114, id="bt601-525"),
        pytest.param(9, 0.2627, 0.0593, id="bt2020"),
        pytest.param(2, 0.299, 0.114, id="untagged"),
    ],
)
@pytest.mark.parametrize("rgb", [(200, 60, 30), (20, 160, 220), (255, 255, 255), (0, 0, 0)])
def test_colours_follow_the_tags(rgb, colorspace, red, blue, full_range):
    frame = solid_frame(rgb, red, blue, full_range, (1280, 720))
    frame.colorspace, frame.color_range = colorspace, 2 if full_range else 1
    pixels = Preprocessor(CLIP_PREPROCESSING)(frame)
    # 8-bit YUV steps are about 2 levels of RGB.
    assert np.abs(pixels.reshape(3, -1).T.astype(int) - rgb).max() <= 2


def test_colours_survive_a_tagged_file(tmp_path):
    path = tmp_path / "bt709.mp4"
    rgb = (200, 60, 30)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        for index in range(3):
            frame = solid_frame(rgb, 0.2126, 0.0722, False, (320, 240))
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert frame.colorspace == 1
    assert np.abs(Preprocessor(CLIP_PREPROCESSING)(frame).reshape(3, -1).T.astype(int) - rgb).max() <= 3  # lossy codec


def solid_frame(rgb, red, blue, full_range, size):
    """A frame of one colour, converted by the definition of YCbCr with the given luma weights."""
    r, g, b = (value / 255 for value in rgb)
    luma = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - luma) / (2 * (1 - blue)), (r - luma) / (2 * (1 - red))
    planes = (
        (255 * luma, 128 + 255 * cb, 128 + 255 * cr)
        if full_range
        else (16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr)
    )
    width, height = size
    counts = (width * height, width * height // 4, width * height // 4)
    values = np.concatenate([np.full(n, round(min(v, 255))) for v, n in zip(planes, counts, strict=True)])
    return av.VideoFrame.from_ndarray(values.astype(np.uint8).reshape(height * 3 // 2, width), format="yuv420p")


def test_statistics_are_clips():
    processor = CLIPImageProcessorPil()
    assert tuple(processor.image_mean) == CLIP_PREPROCESSING.mean
    assert tuple(processor.image_std) == CLIP_PREPROCESSING.std


@pytest.mark.parametrize(("size", "shape"), [((1, 1000), (224, 224000)), ((3, 2), (336, 224)), ((2, 3), (224, 336))])
def test_scaled_size_rounds_down(size, shape):
    assert scaled_size(*size, 224) == shape
