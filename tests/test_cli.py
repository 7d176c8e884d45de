"""The command line: fast help, invalid input reported in one line, no incomplete output."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from emibook.cli import main
from emibook.commands import LARGEST_SEED

COMMANDS = (
    "make-corpus check preprocess extract weights train tables ceiling people simulate rehearse predict submit audit "
    "sweep book doctor"
).split()
HEADER = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy\n"


def run(capsys, *arguments) -> tuple[int, str]:
    """Exit code and standard error."""
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def write_video(path: Path, frames: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            image = np.full((48, 64, 3), 40 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def corpus(tmp_path):
    """Six grey clips in the data set's layout: enough for everything that reads labels, quick for everything else."""
    root = tmp_path / "corpus"
    write_video(root / "raw" / "00000.mp4")
    for clip in range(1, 6):
        shutil.copy(root / "raw" / "00000.mp4", root / "raw" / f"{clip:05}.mp4")
    rows = [f"{clip:05},{clip / 10},0,0,0.5,0,0.25\n" for clip in range(6)]
    (root / "train_split.csv").write_text(HEADER + "".join(rows[:3]))
    (root / "valid_split.csv").write_text(HEADER + "".join(rows[3:]))
    return root


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"usage: emibook {command}" in capsys.readouterr().out


def test_the_installed_command_runs():
    result = subprocess.run([sys.executable, "-m", "emibook.cli", "--help"], capture_output=True, text=True)
    assert result.returncode == 0
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["make-corpus"], "ROOT"),
        (["make-corpus", "x", "--clips", "many"], "many"),
        (["extract", "x", "--work", "w"], "--features"),
        (["fly"], "fly"),
        ([], "subcommand"),
        (["book", "--profile", "secret"], "secret"),
    ],
)
def test_an_invalid_command_line_is_reported_in_one_line(arguments, said, capsys):
    code, complaint = run(capsys, *arguments)
    assert code == 2
    assert said in complaint and complaint.count("\n") == 1


def test_check_accepts_the_documented_layout(corpus, capsys):
    assert main(["check", str(corpus)]) == 0
    assert "hume-vidmimic2" in capsys.readouterr().out.lower()


def _spoil(root: Path, how: str) -> None:
    train = root / "train_split.csv"
    lines = train.read_text().splitlines()
    if how == "missing root":
        shutil.rmtree(root)
    elif how == "empty root":
        shutil.rmtree(root)
        root.mkdir()
    elif how == "column":
        train.write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    elif how == "range":
        train.write_text("\n".join([*lines, lines[-1].replace("0.5", "1.5").replace("00002", "00003")]))
    elif how == "not a number":
        train.write_text("\n".join([lines[0], lines[1].replace("0.5", "much"), *lines[2:]]))
    elif how == "twice":
        train.write_text("\n".join([*lines, lines[-1]]))
    elif how == "absent":
        (root / "raw" / "00001.mp4").unlink()


SPOILS = {
    "missing root": "corpus",
    "empty root": "corpus",
    "column": "Joy",
    "range": "1.5",
    "not a number": "much",
    "twice": "00002",
    "absent": "00001",
}


@pytest.mark.parametrize("how", SPOILS)
@pytest.mark.parametrize("command", ["check", "preprocess", "train", "tables", "submit"])
def test_a_damaged_corpus_is_reported_in_one_line_and_nothing_is_written(corpus, tmp_path, capsys, how, command):
    _spoil(corpus, how)
    work = tmp_path / "made"
    options = {
        "check": [],
        "preprocess": ["--work", work],
        "train": ["--work", work, "--features", "aus"],
        "tables": ["--work", work],
        "submit": ["--run", tmp_path, "--out", tmp_path / "made"],
    }[command]
    code = main([command, str(corpus), *map(str, options)])
    output = capsys.readouterr()
    assert code == 1
    if command == "check" and how not in ("missing root", "empty root"):
        assert SPOILS[how] in output.out
    else:
        assert SPOILS[how] in output.err
        assert output.err.count("\n") == 1
    assert not work.exists()


def test_check_lists_all_problems(corpus, capsys):
    for how in ("absent", "twice", "range"):
        _spoil(corpus, how)
    assert main(["check", str(corpus)]) == 1
    listed = capsys.readouterr().out
    assert all(SPOILS[how] in listed for how in ("range", "absent", "twice"))


@pytest.mark.parametrize("command", ["extract", "train"])
def test_an_unknown_feature_set_lists_those_that_exist(corpus, tmp_path, capsys, command):
    code, complaint = run(capsys, command, corpus, "--work", tmp_path / "w", "--features", "resnet81")
    assert code == 1
    assert "resnet81" in complaint and "resnet18" in complaint and "mfcc" in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "w").exists()


def test_features_before_faces_name_the_missing_command(corpus, tmp_path, capsys):
    code, complaint = run(capsys, "extract", corpus, "--work", tmp_path / "w", "--features", "mfcc")
    assert code == 1
    assert "emibook preprocess" in complaint and complaint.count("\n") == 1


@pytest.mark.parametrize("command", ["make-corpus", "preprocess", "simulate", "simulated work", "rehearse"])
def test_a_file_where_a_folder_should_be(corpus, tmp_path, capsys, command):
    file = tmp_path / "file"
    file.write_text("kept")
    arguments = {
        "make-corpus": [file, "--clips", "20"],
        "preprocess": [corpus, "--work", file],
        "simulate": [file, "--work", tmp_path / "work", "--size", "tiny"],
        "simulated work": [tmp_path / "set", "--work", file, "--size", "tiny"],
        "rehearse": ["--size", "tiny", "--parts", "crops", "--out", file],
    }[command]
    code, complaint = run(capsys, command.replace("simulated work", "simulate"), *arguments)
    assert code == 1
    said = "holds something that is not a puppet corpus; give a new or an empty folder" if command == "make-corpus" \
        else "is a file where a folder is needed; move it or give another folder"
    assert complaint.splitlines()[-1] == f"emibook: {file}: {said}" and "Traceback" not in complaint
    assert file.read_text() == "kept"


def test_predict_without_a_run_or_a_clip(tmp_path, capsys):
    write_video(tmp_path / "one.mp4")
    code, complaint = run(capsys, "predict", tmp_path / "one.mp4", "--run", tmp_path / "nowhere")
    assert code == 1 and "nowhere" in complaint and complaint.count("\n") == 1


def test_profiles_that_need_data_report_it(capsys):
    for profile in ("open", "paper"):
        code, complaint = run(capsys, "book", "--profile", profile)
        assert code == 1 and "root" in complaint and complaint.count("\n") == 1


def test_a_bad_clip_is_named_and_stops_nothing(corpus, tmp_path, capsys):
    (corpus / "raw" / "00001.mp4").write_bytes(b"")
    (corpus / "raw" / "00002.mp4").write_text("no video at all")
    whole = (corpus / "raw" / "00003.mp4").read_bytes()
    (corpus / "raw" / "00003.mp4").write_bytes(whole[: len(whole) // 2])
    code, complaint = run(capsys, "preprocess", corpus, "--work", tmp_path / "w", "--workers", "1")
    told = [line for line in complaint.splitlines() if line.startswith("failed: ")]
    assert code == 0 and [line.split()[2].strip(":") for line in told] == ["00001", "00002", "00003"]


def test_a_folder_without_one_usable_clip_is_a_failure(tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "one.mp4").write_text("no video at all")
    code, complaint = run(capsys, "preprocess", tmp_path / "clips", "--work", tmp_path / "w")
    assert code == 1 and "none of the 1 clips of" in complaint and "clip one: " in complaint
    code, complaint = run(capsys, "predict", tmp_path / "clips" / "one.mp4", "--run", tmp_path)
    assert code == 1 and complaint.count("\n") == 1


@pytest.mark.parametrize("command", [["train", "--features", "mfcc"], ["tables"], ["extract", "--features", "mfcc"]])
def test_a_requested_gpu_that_is_absent_is_reported_before_anything_is_written(
    corpus, tmp_path, capsys, monkeypatch, command
):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines = (corpus / "valid_split.csv").read_text().splitlines()
    for name in ("train_split.csv", "valid_split.csv"):  # labels that vary, so that only the device is amiss
        rows = [f"{int(line[:5]) % 3 + 3 * (name[0] == 'v'):05}," + ",".join(f"{(i + n) % 5 / 5}" for i in range(6))
                for n, line in enumerate(lines[1:])]
        (corpus / name).write_text("\n".join([lines[0], *rows]) + "\n")
    name, *options = command
    code, complaint = run(capsys, name, corpus, "--work", tmp_path / "w", *options, "--device", "cuda")
    assert code == 1 and "no GPU that torch can use" in complaint and complaint.count("\n") == 1
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--variant", "depper"], "no variant named 'depper'; there are base, sound-mean"),
     (["--recipe", "large"], "no recipe named 'large'; there are paper, small"),
     (["--device", "tpu"], "no device 'tpu'; there are cpu and cuda")],
)
def test_a_wrong_choice_lists_the_valid_ones(corpus, tmp_path, capsys, options, said):
    code, complaint = run(capsys, "train", corpus, "--work", tmp_path / "w", "--features", "aus", *options)
    assert code == 1 and said in complaint and complaint.count("\n") == 1 and not (tmp_path / "w").exists()


@pytest.mark.parametrize("command", ["make-corpus", "train --features aus", "simulate", "ceiling", "people"])
@pytest.mark.parametrize("seed", [-1, 2**63])
def test_an_invalid_seed_is_reported_in_one_line(corpus, tmp_path, capsys, command, seed):
    name, *options = command.split()
    options += ["--work", tmp_path / "w"] if name in ("train", "simulate") else []
    root = tmp_path / "new" if name in ("make-corpus", "simulate") else corpus
    before = sorted(tmp_path.rglob("*"))
    code, complaint = run(capsys, name, root, *options, "--seed", seed)
    assert code == 1 and complaint == f"emibook: --seed {seed}: give an integer from 0 to {2**63 - 1}\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_the_largest_seed_is_valid(tmp_path):
    assert main(["ceiling", str(tmp_path), "--seed", str(2**63 - 1)]) == 1  # for want of labels
    torch.manual_seed(LARGEST_SEED), np.random.default_rng([LARGEST_SEED, 0])
    with pytest.raises((RuntimeError, ValueError)):
        torch.manual_seed(-(2**63) - 1)
