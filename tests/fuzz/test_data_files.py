"""Broken data sets, tables, archives, checkpoints, weights, results: each is read or refused in one line."""

import gzip
import io
import json
import shutil
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from scipy.io import savemat
from scipy.sparse import csc_matrix

from diffsal.data.databases import DATASETS, gaze, stavis, synthetic
from diffsal.data.matlab import read_matrix
from diffsal.data.preparation.archives import extract
from diffsal.data.preparation.samples import Recording, fixations
from diffsal.runtime.graphs import _checked, read_graphs
from diffsal.runtime.onnx import OnnxEngine
from diffsal.scoring import jobs, results
from diffsal.scoring.protocols import PROTOCOLS
from diffsal.weights.catalogue import find
from diffsal.weights.torch_files import read_checkpoint
from tests.fuzz import NUMBERS, attack


def saved(save, *arguments, **options) -> bytes:
    data = io.BytesIO()
    save(*arguments, data, **options) if save is torch.save else save(data, *arguments, **options)
    return data.getvalue()


def test_matlab_files(tmp_path):
    eye = np.eye(40, 60)
    seeds = [saved(savemat, {"I": eye}), saved(savemat, {"I": eye}, do_compression=True), saved(savemat, {
        "eyeMap": csc_matrix(eye)}), saved(savemat, {"eyeMap": eye.astype(np.uint8)}, format="4")]

    def read(path):
        assert read_matrix(path).ndim == 2

    attack(".mat", seeds, tmp_path / "a.mat", read, share=2)


def test_checkpoints(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    optimiser = torch.optim.Adam(model.parameters())
    content = {"state_dict": model.state_dict(), "optimizer": optimiser.state_dict(), "best": np.float64(0.5)}
    seeds = [saved(torch.save, content), saved(torch.save, content, _use_new_zipfile_serialization=False)]

    def read(path):
        state = read_checkpoint(path)
        for value in state.values():
            assert value.numel() <= 1 << 28
            value.reshape(-1)[:9].sum()

    attack("checkpoint", seeds, tmp_path / "a.pth", read, share=2)


def test_pickles_of_checkpoints(tmp_path):
    """The pickle alone is broken, its archive whole: deeper than most faults of the whole file get."""
    data = saved(torch.save, {"state_dict": {"a": torch.ones(3, 4), "c": torch.zeros(2).half()}, "b": np.float64(1)})
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    name = next(n for n in entries if n.endswith("data.pkl"))

    def read(path):
        whole = path.with_name("whole.pth")
        with zipfile.ZipFile(whole, "w") as made:
            for entry, content in entries.items():
                made.writestr(entry, path.read_bytes() if entry == name else content)
        read_checkpoint(whole)

    attack("pickle", [entries[name]], tmp_path / "data.pkl", read)


def test_weights_files(tmp_path, weights):
    from diffsal.weights.files import load

    data = weights.read_bytes()
    length = 8 + int.from_bytes(data[:8], "little")
    head, rest = data[:length], data[length:]

    def read(path):
        whole = path.with_name("whole.safetensors")
        whole.write_bytes(path.read_bytes() + rest)
        load(str(whole))

    attack("weights", [head], tmp_path / "head", read, share=2)


def test_archives(tmp_path):
    names = ("maps/1.png", "maps/2.png", "a long folder/" + "x" * 120 + ".png")
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file, tarfile.open(fileobj=tarred, mode="w") as tar:
        for name in names:
            file.writestr(name, bytes(1000))
            info = tarfile.TarInfo(name)
            info.size = 1000
            tar.addfile(info, io.BytesIO(bytes(1000)))
    seeds = {"zip": zipped.getvalue(), "tar": tarred.getvalue(), "tar.gz": gzip.compress(tarred.getvalue())}
    for ending, data in seeds.items():
        folder = tmp_path / ending / "root"
        folder.mkdir(parents=True)

        def read(path, folder=folder):
            try:
                extract(path)
            finally:
                assert [p.name for p in folder.parent.iterdir()] == ["root"]  # nothing beside the archive's folder
                assert not [p for p in folder.rglob(".*")]  # and nothing half done in it
                for made in [p for p in folder.iterdir() if p.is_dir()]:
                    shutil.rmtree(made)
                for made in [p for p in folder.iterdir() if p != path and not p.name.startswith("failed")]:
                    made.unlink()

        attack(f".{ending}", [data], folder / f"a.{ending}", read)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables(tmp_path, encoding):
    rows = "".join(f"1,{t},{t % 7},{t % 5}\n" for t in range(0, 400, 4))
    samples = [("observer,t_ms,x,y\n" + rows).encode(encoding),
               ("observer;t_ms;x;y\n" + rows.replace(",", ";")).replace(";3", ";3,5").encode(encoding)]
    attack(f"samples, {encoding}", samples, tmp_path / "a.csv",
           lambda path: fixations(path, Recording(pixels_per_degree=4), 96, 64))
    table = "observer,start_s,duration_s,x,y\n" + "".join(f"{i},0.{i},1,.{i},.5\n" for i in range(9))

    def read(path):
        clip = gaze.read_clip(path, path)
        gaze.saliency_map(clip.on_frame(0.5), 24, 32, 4 / 3)

    attack(f"fixations, {encoding}", [table.encode(encoding)], tmp_path / "b.csv", read)


def test_compressed_tables(tmp_path):
    (tmp_path / "images/s").mkdir(parents=True)
    (tmp_path / "images/s/p.jpg").write_bytes(b"x")
    (tmp_path / "gaze").mkdir()
    table = b"image,observer,index,x,y\n" + b"".join(b"p,%d,1,.5,.25\n" % i for i in range(30))
    attack(".csv.gz", [gzip.compress(table)], tmp_path / "gaze/s.csv.gz", lambda path: gaze.read_set(tmp_path, "s"))


def test_lists_of_folds(tmp_path):
    seeds = [b"clip 1 300 25.0\nclip_2 18 14.99985\n"]
    attack("list of a fold", seeds, tmp_path / "a.txt", stavis.read_list, share=0.5)


def test_results_and_what_reads_them(tmp_path):
    from diffsal.figures.report import write_report

    root = synthetic.write("ucf_sports", tmp_path / "db")
    head = results.document_head("score", "ucf_sports", root, PROTOCOLS["ntire"], {"split": "test", "fold": None})
    jobs.score_clips(DATASETS["ucf_sports"](root, "test"), [], "ntire", tmp_path / "out", head=head)
    page = tmp_path / "page.html"
    attack("scores.json", [(tmp_path / "out/scores.json").read_bytes()], tmp_path / "out/scores.json",
           lambda path: write_report([path], page, num_worst=0))


def test_a_damaged_part_of_an_evaluation_is_made_again(tmp_path):
    root = synthetic.write("ucf_sports", tmp_path / "db")
    clips = DATASETS["ucf_sports"](root, "test")
    part = json.dumps([results.to_json(results.ClipScores("s", c.name, "p")) for c in clips]).encode()

    def read(path):
        kept = jobs._kept(path, tuple(clips))
        assert kept is None or [c.name for c in kept] == [c.name for c in clips]

    attack("part of an evaluation", [part], tmp_path / "part.json", read, share=0.5)


def test_what_weights_say_about_themselves(tmp_path, weights):
    """The configuration and the finish in a file whose tensors are whole: values of any type, names of any kind."""
    from diffsal.weights.files import load

    data = weights.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]

    def read(path):
        said = {**header["__metadata__"], "diffsal.config": path.read_bytes().decode("utf-8", "replace")}
        text = json.dumps({**header, "__metadata__": said}).encode()
        whole = path.with_name("whole.safetensors")
        whole.write_bytes(len(text).to_bytes(8, "little") + text + rest)
        load(str(whole))

    seed = header["__metadata__"]["diffsal.config"].encode()
    attack("weights: configuration", [seed], tmp_path / "config", read, share=2)


def test_graphs(tmp_path):
    attack("graph (.onnx)", [find("compact", graphs=True).read_bytes()], tmp_path / "a.onnx", read_graphs)


def test_graphs_that_are_run(tmp_path):
    """Graphs that pass for whole: one or two numbers of an operator or a constant are others, or inputs changed places.

    The case's bytes are the seed of what is changed.
    """
    graphs = read_graphs(find("compact", graphs=True))
    models = {name: onnx.load_from_string(data) for name, data in graphs.parts.items()}
    as_it_is = b"the graph as it is"
    frame, change, noise = np.zeros((1, 224, 384, 3), np.uint8), np.zeros((1, 16, 56, 96)), np.zeros((1, 1, 224, 384))

    def read(path):
        data = path.read_bytes()
        rng = np.random.default_rng(list(data))
        part = str(rng.choice(list(models)))
        model = onnx.ModelProto()
        model.CopyFrom(models[part])
        for _ in range(int(rng.integers(1, 3)) if data != as_it_is else 0):
            change_graph(model.graph, rng)
        _checked(memoryview(model.SerializeToString()), path, part)
        engine = OnnxEngine(replace(graphs, path=path, parts={**graphs.parts, part: model.SerializeToString()}))
        audio = engine.encode_sound(np.zeros((1, 1, 1, 96, 64), np.float32))
        conditions = engine.encode_windows([[engine.encode_frames(frame)[0]] * 8], change.astype(np.float32), audio)
        engine.denoise(noise.astype(np.float32), np.array([999]), conditions)

    attack("graph that is run", [as_it_is], tmp_path / "a.onnx", read)


def change_graph(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    def one(things):
        return things[int(rng.integers(len(things)))]

    kind, number = int(rng.integers(4)), one((1, -1)) * (one(NUMBERS) >> 2)  # of 64 bits with a sign
    attributes = [a for node in graph.node for a in node.attribute]
    constants = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT64 and t.raw_data]
    if kind == 0:
        ints = one([a.ints for a in attributes if a.ints])
        ints[int(rng.integers(len(ints)))] = number
    elif kind == 1:
        one([a for a in attributes if a.type == onnx.AttributeProto.INT]).i = number
    elif kind == 2 and constants:
        tensor = one(constants)
        values = np.frombuffer(tensor.raw_data, np.int64).copy()
        values[int(rng.integers(len(values)))] = number
        tensor.raw_data = values.tobytes()
    else:
        inputs = one([node.input for node in graph.node if len(node.input) > 1])
        inputs[0], inputs[1] = inputs[1], inputs[0]
