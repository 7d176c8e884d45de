"""What it takes to have the large speech model: a checkpoint of the published size and layout, with random numbers.

    python benchmarks/wav2vec2.py

Each line is a process of its own: seconds until the model is there, seconds for five seconds of sound, and the most
memory that the process held. Beside ours transformers' own way, which leaves the emotion head unread. The checkpoint
(661 MB) is made first, in a temporary folder.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FILE = "model.safetensors"
SOUND_SECONDS = 5.0


def make(folder: Path) -> dict[str, float]:
    """Write the checkpoint as audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim is published."""
    from safetensors.torch import save_file

    from emibook.features.wav2vec2 import HEAD, RENAMED, Wav2Vec2Outputs, random

    model, head = random(Wav2Vec2Outputs.shape, 0, head=True)
    old = {new: before for before, new in RENAMED.items()}
    state = {f"wav2vec2.{old.get(key, key)}": value for key, value in model.state_dict().items()}
    state |= head.state_dict(prefix=HEAD)
    save_file(state, folder / FILE)
    model.config.save_pretrained(folder)
    return {"keys": len(state), "megabytes": (folder / FILE).stat().st_size / 1e6}


def sound() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(round(SOUND_SECONDS * 16000)) * 5000).astype(np.int16)


def ours(folder: Path, again: bool) -> dict[str, float]:
    """Through the registry: the first time the file is checked and kept, and after that the kept one is used."""
    from safetensors import safe_open

    from emibook.features import EXTRACTORS
    from emibook.features.weights import Weights, file_fingerprint

    extractor, encoders = EXTRACTORS["wav2vec2_outputs"], folder / "encoders"
    started = time.perf_counter()
    if again:
        [path] = encoders.glob("*.safetensors")
        weights = Weights("file", path.name, file_fingerprint(path))
        encoder = extractor.encoder_class(weights, encoders)
    else:
        encoder = extractor.load(str(folder / FILE), encoders)
    ready = time.perf_counter() - started
    [path] = encoders.glob("*.safetensors")
    with safe_open(folder / FILE, "numpy") as published, safe_open(path, "numpy") as kept:
        used = len(list(kept.keys()))
        assert used == len(list(published.keys())), "a key of the checkpoint is not used"
    parameters = sum(each.numel() for part in (encoder.model, encoder.head) for each in part.parameters())
    started = time.perf_counter()
    sequence = encoder(sound())
    return {"ready": ready, "encoded": time.perf_counter() - started, "rows": len(sequence),
            "columns": sequence.values.shape[1], "keys": used, "parameters": parameters, "sum": float(
                np.abs(sequence.values[:, :1024]).sum())}


def theirs(folder: Path) -> dict[str, float]:
    import torch
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    started = time.perf_counter()
    model = Wav2Vec2Model.from_pretrained(folder).eval()
    ready = time.perf_counter() - started
    started = time.perf_counter()
    with torch.inference_mode():
        prepare = Wav2Vec2FeatureExtractor(do_normalize=True)
        values = prepare(sound() / np.float32(32768), sampling_rate=16000, return_tensors="pt").input_values
        hidden = model(values).last_hidden_state[0]
    return {"ready": ready, "encoded": time.perf_counter() - started, "rows": len(hidden), "columns": hidden.shape[1],
            "sum": float(hidden.abs().sum())}


STEPS = {"make": make, "ours, first": lambda folder: ours(folder, False),
         "ours, again": lambda folder: ours(folder, True), "transformers": theirs}


def measure() -> dict[str, dict[str, float]]:
    """What each step's own process found, by step."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for step in STEPS:
            done = subprocess.run([sys.executable, __file__, step, folder], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            found[step] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    if len(sys.argv) == 3:
        found = STEPS[sys.argv[1]](Path(sys.argv[2]))
        print(json.dumps(found | {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
        return
    found = measure()
    made = found.pop("make")
    print(f"checkpoint: {made['keys']} tensors, {made['megabytes']:.0f} MB; ours has "
          f"{found['ours, first']['parameters']:,} parameters and uses {found['ours, first']['keys']} tensors")
    print(f"{'':14}{'ready, s':>10}{'encoded, s':>12}{'peak, GiB':>11}{'rows':>6}{'columns':>9}")
    for step, each in found.items():
        print(f"{step:14}{each['ready']:10.1f}{each['encoded']:12.2f}{each['peak_gib']:11.2f}{each['rows']:6}"
              f"{each['columns']:9}")


if __name__ == "__main__":
    main()
