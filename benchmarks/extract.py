"""How fast faces and sounds become features: one face at a time in float32, batches in float32, and as extraction does.

Prints one table: milliseconds a face (for sound: a second of it), how often that goes into the time of one at a time,
and the least cosine of a face's row with its row alone in float32, as it is and after the mean of all faces is taken
off (which shows whether what tells faces apart is kept). All is made on the spot: drawn faces, noise for sound,
networks of the published sizes with random weights. ``--folder`` takes 112x112 crops instead, for example WORK/faces;
``--encoder`` a ResNet-18 checkpoint (not the built-in one, half of whose blocks are the identity). On a machine with a
GPU the networks are measured there too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import librosa
import numpy as np
import torch
from safetensors.torch import save_file
from torchvision import transforms
from transformers import ViTImageProcessor

from emibook.device import native_precision
from emibook.doctor import machine
from emibook.features.action_units import DESCRIPTION, ActionUnitEstimator
from emibook.features.image_encoder import IMAGENET_MEAN, IMAGENET_STD
from emibook.features.mfcc import MFCC
from emibook.features.resnet18 import ResNet18, resnet18_trunk
from emibook.features.vit import PIXELS, ViT
from emibook.features.wav2vec2 import Wav2Vec2
from emibook.features.weights import Weights, file_fingerprint
from emibook.preprocess import SAMPLE_RATE
from emibook.preprocess.alignment import TEMPLATE
from emibook.preprocess.detector import Detector
from emibook.puppet.corpus import random_stills

REPEATS, SPAN = 3, 2.0  # at least so often and so many seconds; the fastest counts
PEOPLE, STILLS = 12, 8  # drawn faces
MOST = 256  # faces of a folder
TIMED = 64  # faces on which the clock runs
SOUND_SECONDS = 5.0
FRAMES, MANY, SOUNDS = 64, 4096, 128  # on a GPU: pictures, faces, clips


def drawn_faces() -> np.ndarray:
    """(face, 112, 112, 3) uint8: drawn people, found and aligned."""
    from emibook.puppet.builtin import aligned

    stills = (still for person in range(PEOPLE) for still in random_stills(np.random.default_rng(person), STILLS))
    found = [aligned(image) for image, *_ in stills]
    return np.stack([face[0] for face in found if face is not None])


def crops_in(folder: Path) -> np.ndarray:
    """(face, 112, 112, 3) uint8: the pictures below ``folder``, at most ``MOST`` of them, evenly taken."""
    paths = sorted(folder.rglob("*.jpg"))
    if not paths:
        raise SystemExit(f"{folder} holds no .jpg")
    return np.stack([cv2.imread(str(path))[..., ::-1] for path in paths[:: -(-len(paths) // MOST)]])


def seconds(function: Callable[[], Any]) -> float:
    """The fastest of several calls, after one that warms up."""
    function()
    times: list[float] = []
    while len(times) < REPEATS or sum(times) < SPAN:
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def least_cosine(rows: np.ndarray, others: np.ndarray) -> float:
    return float(((rows * others).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(others, axis=1)).min())


def line(name: str, way: str, each: float, alone: float | None = None, cosines: tuple[float, ...] = ()) -> None:
    """Print one row; ``each`` is the time of a face, or of a second of sound, and ``alone`` of one at a time."""
    ratio = "" if alone is None else f"{alone / each:.2f}"
    shown = "".join(f"{cosine:>11.6f}" for cosine in cosines)
    print(f"{name:<10} {way:<30} {torch.get_num_threads():>7} {each * 1e3:>9.3f} {ratio:>6}{shown}", flush=True)


def images(name: str, faces: np.ndarray, alone: Callable[[np.ndarray], torch.Tensor], encoders: list[ViT]) -> None:
    """What a user would run on one face, and ours in each precision."""
    times, landmarks = np.arange(len(faces)) / 30, np.tile(TEMPLATE, (len(faces), 1, 1))
    timed = faces[:TIMED]
    with torch.inference_mode():
        expected = np.concatenate([alone(face).numpy() for face in faces])
        one = seconds(lambda: [alone(face) for face in timed[:16]]) / len(timed[:16])
    line(name, "one at a time, float32", one, one)
    mean = expected.mean(0)
    for encoder in encoders:
        rows = encoder(faces, times, landmarks).values
        part = (timed, times[:TIMED], landmarks[:TIMED])
        each = seconds(lambda encoder=encoder, part=part: encoder(*part)) / len(timed)
        line(name, f"batches of {encoder.batch}, {str(encoder.dtype).removeprefix('torch.')}", each, one,
             (least_cosine(rows, expected), least_cosine(rows - mean, expected - mean)))


def sounds(folder: Path) -> None:
    """What a user would run on one clip, and ours."""
    samples = (np.random.default_rng(0).standard_normal(round(SOUND_SECONDS * SAMPLE_RATE)) * 5000).astype(np.int16)
    wave = samples / np.float32(32768)
    wav2vec2, mfcc = Wav2Vec2(Weights("untrained"), folder), MFCC(Weights("formula"), folder)

    @torch.inference_mode()
    def transformers_alone() -> torch.Tensor:
        values = wav2vec2.processor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values
        return wav2vec2.model(values).last_hidden_state

    def librosa_alone() -> np.ndarray:
        return librosa.feature.delta(librosa.feature.mfcc(y=wave, sr=SAMPLE_RATE, **mfcc.settings))

    for name, alone, ours in (("wav2vec2", transformers_alone, wav2vec2), ("mfcc", librosa_alone, mfcc)):
        one = seconds(alone) / SOUND_SECONDS
        line(name, "one clip at a time, float32", one, one)
        line(name, "ours, the same", seconds(lambda ours=ours: ours(samples)) / SOUND_SECONDS, one)


def table(faces: np.ndarray, trunk: torch.nn.Module, folder: Path) -> None:
    precisions = dict.fromkeys(("float32", native_precision("cpu")))
    digest = file_fingerprint(folder / "resnet18.safetensors")
    resnets = [ResNet18(Weights("file", "resnet18.safetensors", digest, precision=precision), folder)
               for precision in precisions]
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    images("resnet18", faces, lambda face: trunk(prepare(face)[None]), resnets)

    vits = [ViT(Weights("untrained", precision=precision), folder) for precision in precisions]
    processor = ViTImageProcessor(size={"height": PIXELS, "width": PIXELS})
    images("vit", faces[:32], lambda face: vits[0].model(
        processor(images=[face], return_tensors="pt")["pixel_values"]).last_hidden_state[:, 0], vits)

    weights = Weights("file", "aus.safetensors", file_fingerprint(folder / "aus.safetensors"))
    units = ActionUnitEstimator(weights, folder)
    landmarks = np.tile(TEMPLATE, (len(faces), 1, 1)).astype(np.float32)
    line("aus", "ours", seconds(lambda: units(faces, np.arange(len(faces)) / 30, landmarks)) / len(faces))
    sounds(folder)
    packed = [cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 95])[1] for face in faces]
    line("(reading", "a crop from JPEG)", seconds(lambda: [cv2.imdecode(each, 1) for each in packed]) / len(faces))


def on_gpu(faces: np.ndarray, folder: Path) -> None:
    """The whole chain's networks on the GPU: the cascade on every picture, the image encoders, sounds in batches."""
    if not torch.cuda.is_available():
        print("GPU: the cascade, faces and sounds in batches: not measured yet (no GPU here)")
        return
    pictures = [still for still, *_ in random_stills(np.random.default_rng(0), FRAMES)]
    detector = Detector("cuda")
    line("(cascade", f"batches of {detector.batch}, GPU)", seconds(lambda: detector.detect(pictures)) / FRAMES)
    many = np.resize(faces, (MANY, *faces.shape[1:]))
    times, landmarks = np.arange(MANY) / 30, np.tile(TEMPLATE, (MANY, 1, 1))
    digest = file_fingerprint(folder / "resnet18.safetensors")
    for encoder in (
        ResNet18(Weights("file", "resnet18.safetensors", digest, precision=native_precision("cuda")), folder, "cuda"),
        ViT(Weights("untrained", precision=native_precision("cuda")), folder, "cuda"),
    ):
        each = seconds(lambda encoder=encoder: encoder(many, times, landmarks)) / MANY
        line(encoder.name, f"batches of {encoder.batch}, GPU", each)
    sound = (np.random.default_rng(0).standard_normal(round(SOUND_SECONDS * SAMPLE_RATE)) * 5000).astype(np.int16)
    wav2vec2 = Wav2Vec2(Weights("untrained"), folder, "cuda")
    each = seconds(lambda: wav2vec2.encode_batch([sound] * SOUNDS)) / SOUNDS / SOUND_SECONDS
    line("wav2vec2", f"{SOUNDS} clips together, GPU", each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="one table each (default: 1, as a worker)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    faces = crops_in(options.folder) if options.folder else drawn_faces()
    trunk = resnet18_trunk().eval().requires_grad_(False)
    if options.encoder:
        trunk.load_state_dict(ResNet18.convert(options.encoder))
    print(machine())
    print(f"{len(faces)} faces\n{'features':<10} {'way':<30} {'threads':>7} {'ms':>9} {'times':>6} {'cosine':>10} "
          f"{'centred':>10}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_file(trunk.state_dict(), folder / "resnet18.safetensors")
        save_file({"slopes": torch.zeros(DESCRIPTION, 34), "offsets": torch.zeros(34)}, folder / "aus.safetensors")
        for threads in options.threads:
            torch.set_num_threads(threads)
            table(faces, trunk, folder)
        on_gpu(faces, folder)


if __name__ == "__main__":
    main()
