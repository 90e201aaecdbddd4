"""Run from examples/echo: python -m unittest discover -s tests. Needs no GPU and no compiler."""

import contextlib
import importlib
import io
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

os.environ["DEV"] = "PYTHON"  # tinygrad's interpreter, slow but everywhere
os.environ["PARALLEL"] = "0"
os.environ["CACHELEVEL"] = "0"
HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME))

import numpy as np
import pydicom
from pydicom.data import get_testdata_file

import classify
import clip
import contract
import make_clips
import network
import reference
from report import consensus

WEIGHTS = str(HOME / "weights.safetensors")
SEED = 20260


def saved(ds, folder, name="clip.dcm"):
    path = str(Path(folder) / name)
    ds.save_as(path, enforce_file_format=True)
    return path


class NumpyNetwork:
    """Stands in for the device: the reference's arithmetic behind the network's interface."""

    compiled_ahead = False

    def __init__(self, path, compiled=None):
        self.weights, self.classes = reference.load_weights(path)

    def probabilities(self, small):
        return reference.evaluate(self.weights, small)


class InFolder(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = scratch.name

    def classify(self, source, folder=None, factory=NumpyNetwork):
        """(exit code, stderr) of classify.main with the device replaced."""
        env = {"INPUT_FILE_PATH": source, "TMP_OUTPUT_DIR": folder or self.folder, "ECHO_WEIGHTS": WEIGHTS}
        err = io.StringIO()
        with mock.patch.dict(os.environ, env), mock.patch.object(classify, "open_network", factory):
            with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
                return classify.main(), err.getvalue()


class TheNetwork(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.device = network.Network(WEIGHTS, 16, 16)

    def test_tinygrad_agrees_with_the_reference(self):
        rng = np.random.default_rng(SEED)
        print(f"seed {SEED}", file=sys.stderr)
        weights, classes = reference.load_weights(WEIGHTS)
        device = self.device
        self.assertEqual(device.classes, classes)
        for _ in range(2):  # the second frame must not show the first one's answer
            small = rng.integers(0, 256, (16, 16), dtype=np.uint8)
            np.testing.assert_allclose(device.probabilities(small), reference.evaluate(weights, small), atol=1e-5)

    def test_a_compiled_network_answers_as_the_one_it_was_made_of(self):
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "network")
            made = self.device
            made.save(file, WEIGHTS)
            found = network.open_network(WEIGHTS, file)
            self.assertTrue(found.compiled_ahead)
            self.assertEqual(found.classes, made.classes)
            small = np.random.default_rng(SEED).integers(0, 256, (16, 16), dtype=np.uint8)
            np.testing.assert_array_equal(found.probabilities(small), made.probabilities(small))
            whole = Path(file).read_bytes()
            head, body = whole.split(b"\n", 1)
            higher = json.dumps(json.loads(head) | {"architecture": 999}).encode()
            cases = {
                "no such file": None,
                "is damaged": whole[:-1],
                "JSON": b"\0" * 100,
                "another python": whole.replace(json.dumps(sys.version).encode(), b'"2.7"', 1),
                "higher compute": higher + b"\n" + body,
                "KeyError": b"{}\n" + body,
            }
            for why, content in cases.items():
                with self.subTest(why), mock.patch.object(network, "Network", NumpyNetwork):
                    Path(file).unlink(missing_ok=True)
                    if content is not None:
                        Path(file).write_bytes(content)
                    err = io.StringIO()
                    with contextlib.redirect_stderr(err):
                        self.assertFalse(network.open_network(WEIGHTS, file).compiled_ahead)
                    self.assertIn(why.lower(), err.getvalue().lower())

    def test_weights_are_small_f32_and_bounded(self):
        self.assertLess(os.path.getsize(WEIGHTS), 200_000)
        tensors, floats, _ = network.read_weights(WEIGHTS)
        self.assertEqual(floats.dtype, np.float32)
        self.assertEqual(len(tensors), 10)
        blob = Path(WEIGHTS).read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "w"
            for bad in (b"", b"\xff" * 8, blob[:1000], blob[:-4], (1 << 40).to_bytes(8, "little") + blob[8:]):
                path.write_bytes(bad)
                with self.assertRaises(ValueError):
                    network.read_weights(str(path))


class Consensus(unittest.TestCase):
    CLASSES = ["a", "b"]

    def test_frames_without_a_picture_are_left_out(self):
        a, b = np.array([0.9, 0.1]), np.array([0.0, 1.0])
        got = consensus([a, b, b, a], ["ok", "black", "noise", "ok"], self.CLASSES)
        self.assertEqual((got["class"], got["counted"], got["agreement"]), ("a", 2, 1.0))
        self.assertEqual(got["left_out"], {"black": 1, "noise": 1})

    def test_the_mean_decides_not_the_majority(self):
        weak, strong = np.array([0.52, 0.48]), np.array([0.0, 1.0])
        got = consensus([weak, weak, strong], ["ok"] * 3, self.CLASSES)
        self.assertEqual(got["class"], "b")
        self.assertAlmostEqual(got["agreement"], 1 / 3, places=5)

    def test_nothing_to_go_by_is_undecided(self):
        got = consensus([np.array([1.0, 0.0])], ["black"], self.CLASSES)
        self.assertIsNone(got["class"])

    def test_quality_of_made_frames(self):
        ds, plan = make_clips.make_clip(30, SEED, 0.2, 0.2)
        found = [clip.quality(clip.shrink(f)) for f in clip.frames(ds)]
        self.assertEqual(found, [k if isinstance(k, str) else "ok" for k in plan])


class Clips(InFolder):
    def test_the_same_seed_gives_the_same_bytes(self):
        first, again, other = (make_clips.make_clip(n, s)[0] for n, s in ((8, 1), (8, 1), (8, 2)))
        paths = [saved(ds, self.folder, f"{i}.dcm") for i, ds in enumerate((first, again, other))]
        a, b, c = (Path(p).read_bytes() for p in paths)
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)

    def test_a_clip_has_its_frames_and_each_kind(self):
        for count in (1, 6, 8, 61):
            ds, plan = make_clips.make_clip(count, SEED)
            self.assertEqual(len(list(clip.frames(ds))), count)
            if count >= 6:
                self.assertTrue({"black", "noise"} <= set(plan))

    def test_both_readers_see_the_same_picture(self):
        names = ("examples_rgb_color.dcm", "examples_palette.dcm", "CT_small.dcm", "examples_overlay.dcm", "examples_ybr_color.dcm")
        for name in names:
            ds = clip.open_clip(get_testdata_file(name))
            _, theirs = reference.luma_frames(get_testdata_file(name))
            for ours, other in zip(clip.frames(ds), theirs, strict=True):
                np.testing.assert_array_equal(ours, other, err_msg=name)
                np.testing.assert_array_equal(clip.shrink(ours), reference.fit(other), err_msg=name)


class TheFunction(InFolder):
    def test_a_clip_gives_an_answer_that_the_reference_confirms(self):
        source = saved(make_clips.make_clip(6, SEED)[0], self.folder)
        self.assertEqual(self.classify(source), (0, ""))
        result = json.loads(Path(self.folder, "clip.json").read_text())
        wrong, _ = reference.compare(reference.reference(source, WEIGHTS), result)
        self.assertEqual(wrong, [])
        phases = json.loads(Path(self.folder, ".phases.json").read_text())
        self.assertEqual(set(phases["seconds"]), {"input_output", "import_modules", "load_model", "processing"})
        self.assertEqual(phases["frames"], 6)
        self.assertEqual(Path(self.folder, "clip.png").read_bytes()[:8], b"\x89PNG\r\n\x1a\n")

    def handle(self, module, source, folder, **more):
        """One job of a handler that is kept warm, as the bootstrap calls it; its exit code."""
        job = {"INPUT_FILE_PATH": str(source), "TMP_OUTPUT_DIR": str(folder), **more}
        with mock.patch.dict(os.environ, job), contextlib.redirect_stdout(io.StringIO()):
            with self.assertRaises(SystemExit) as end:
                module.handle(job)
        return end.exception.code

    def handler(self, name):
        with mock.patch.dict(os.environ, {"ECHO_WEIGHTS": WEIGHTS}), mock.patch.object(classify, "open_network", NumpyNetwork):
            return importlib.import_module(name)

    def test_the_warm_handler_answers_clip_after_clip_as_the_script_does(self):
        handler = self.handler("handler")
        for n in range(2):
            source, folder = saved(make_clips.make_clip(6, SEED + n)[0], self.folder, f"{n}.dcm"), Path(self.folder, f"out{n}")
            folder.mkdir()
            self.assertEqual(self.handle(handler, source, folder), 0)
            result = json.loads((folder / f"{n}.json").read_text())
            self.assertEqual(reference.compare(reference.reference(source, WEIGHTS), result)[0], [])
            self.assertEqual(result["timings"]["frames"], 6)
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(self.handle(handler, self.file(b""), self.folder), clip.NO_INPUT)

    def test_split_frame_and_consensus_answer_as_the_one_function_does(self):
        split, frame, consensus = (self.handler(name) for name in ("split", "frame", "consensus"))
        source = saved(make_clips.make_clip(30, SEED)[0], self.folder)
        frames, answers, out = (Path(self.folder, name) for name in ("frames", "answers", "out"))
        for folder in (frames, answers, out):
            folder.mkdir()
        self.assertEqual(self.handle(split, source, frames), 0)
        self.assertEqual(len(os.listdir(frames)), 30)
        for name in os.listdir(frames):
            self.assertEqual(self.handle(frame, frames / name, answers), 0)
        group = Path(self.folder, "group.json")
        group.write_text(json.dumps({"counts": {"succeeded": 30, "failed": 1, "cancelled": 0}}))
        self.assertEqual(self.handle(consensus, answers, out, RGPU_GROUP_FILE=str(group)), 0)
        result = json.loads((out / "clip.json").read_text())
        self.assertEqual(result["missing"], 1)
        self.assertEqual(self.classify(source)[0], 0)
        whole = json.loads(Path(self.folder, "clip.json").read_text())
        self.assertEqual(result["frames"], whole["frames"])
        self.assertEqual(result["consensus"], whole["consensus"])

    def test_what_is_no_frame_and_no_answer_is_refused(self):
        frame, consensus = self.handler("frame"), self.handler("consensus")
        group = self.file(b'{"counts": {"failed": 0, "cancelled": 0}}', "group.json")
        answers = Path(self.folder, "answers")
        answers.mkdir()

        def together():
            return self.handle(consensus, answers, self.folder, RGPU_GROUP_FILE=group)

        with contextlib.redirect_stderr(io.StringIO()):
            for size in (0, 1, clip.HEIGHT * clip.WIDTH - 1, clip.HEIGHT * clip.WIDTH + 1):
                self.assertEqual(self.handle(frame, self.file(bytes(size)), self.folder), clip.DAMAGED, size)
            self.assertEqual(together(), clip.NO_INPUT)
            (answers / "a-0001.json").write_text("[")
            self.assertEqual(together(), clip.DAMAGED)
            (answers / "a-0001.json").write_text("{}")
            self.assertEqual(together(), clip.DAMAGED)

    def test_the_reference_refuses_a_changed_answer(self):
        source = saved(make_clips.make_clip(6, SEED)[0], self.folder)
        self.classify(source)
        result = json.loads(Path(self.folder, "clip.json").read_text())
        expected = reference.reference(source, WEIGHTS)

        def changed(edit):
            copy = json.loads(json.dumps(result))
            edit(copy)
            return reference.compare(expected, copy)[0]

        def nudge(r):
            r["frames"][2]["probabilities"][0] += 0.002

        def lose(r):
            r["frames"].pop()

        def not_a_number(r):
            r["consensus"]["probabilities"][0] = float("nan")

        for edit in (nudge, lose, not_a_number, lambda r: r["consensus"].update({"class": "mr"})):
            self.assertTrue(changed(edit))

    def refused(self, path, code, words):
        got, message = self.classify(path)
        self.assertEqual(got, code, message)
        self.assertIn(words, message)
        self.assertEqual(message.count("\n"), 1, "one line, no traceback")

    def file(self, data, name="x.dcm"):
        path = Path(self.folder, name)
        path.write_bytes(data)
        return str(path)

    def test_no_file_empty_and_not_dicom(self):
        self.refused(str(Path(self.folder, "none.dcm")), clip.NO_INPUT, "No such file")
        self.refused("", clip.NO_INPUT, "not set")
        self.refused(self.file(b""), clip.NO_INPUT, "empty")
        self.refused(self.file(b"PNG, honestly" * 99), clip.NOT_DICOM, "not a DICOM file")
        self.refused(self.file(b"\0" * 128 + b"DICM" + b"\xff" * 500), clip.DAMAGED, "damaged")

    def test_no_place_for_results(self):
        source = saved(make_clips.make_clip(1, SEED)[0], self.folder)
        self.assertEqual(self.classify(source, str(Path(self.folder, "nowhere")))[0], contract.NO_OUTPUT)

    def test_no_device(self):
        def absent(_):
            raise RuntimeError("no server")

        source = saved(make_clips.make_clip(1, SEED)[0], self.folder)
        self.assertEqual(self.classify(source, factory=absent)[0], classify.NO_MODEL)

    def test_truncated_anywhere_is_refused_or_right(self):
        whole = Path(saved(make_clips.make_clip(6, SEED)[0], self.folder)).read_bytes()
        rng = np.random.default_rng(SEED)
        for cut in [*rng.integers(1, len(whole), 24).tolist(), len(whole) - 20000]:
            code, message = self.classify(self.file(whole[:cut]))
            self.assertIn(code, (clip.NOT_DICOM, clip.DAMAGED, clip.UNSUITABLE), f"cut at {cut}: {message}")

    def test_wrong_modality_and_shape(self):
        self.refused(get_testdata_file("rtdose.dcm"), clip.UNSUITABLE, "modality 'RTDOSE'")
        self.refused(get_testdata_file("test-SR.dcm"), clip.UNSUITABLE, "modality 'SR'")
        for field, value, words in (
            ("Rows", 60000, "each side"),
            ("Columns", 0, "each side"),
            ("SamplesPerPixel", 4, "samples a pixel"),
            ("NumberOfFrames", 2_000_000, "frames"),
            ("NumberOfFrames", -3, "frames"),
        ):
            ds = make_clips.make_clip(2, SEED)[0]
            setattr(ds, field, value)
            self.refused(saved(ds, self.folder, "shape.dcm"), clip.UNSUITABLE, words)

    def test_a_header_that_lies_about_its_frames(self):
        more = make_clips.make_clip(2, SEED)[0]
        more.NumberOfFrames = 5
        self.refused(saved(more, self.folder), clip.DAMAGED, "frame")
        larger = make_clips.make_clip(2, SEED)[0]
        larger.Rows = larger.Columns = 64  # a JPEG of 240x320 inside
        self.refused(saved(larger, self.folder), clip.DAMAGED, "frame 0")

    def test_noise_for_bytes_never_escapes(self):
        whole = bytearray(Path(saved(make_clips.make_clip(2, SEED)[0], self.folder)).read_bytes())
        rng = np.random.default_rng(SEED)
        for _ in range(20):
            damaged = bytearray(whole)
            for at in rng.integers(132, 3000, 12):
                damaged[at] = rng.integers(256)
            code, message = self.classify(self.file(bytes(damaged)))
            self.assertIn(code, (0, clip.NO_INPUT, clip.NOT_DICOM, clip.DAMAGED, clip.UNSUITABLE), message)


class Definition(unittest.TestCase):
    def test_the_function_file_names_what_is_here(self):
        text = (HOME / "function.yaml").read_text()
        self.assertIn("script: script.sh", text)
        self.assertTrue(os.access(HOME / "script.sh", os.X_OK))


if __name__ == "__main__":
    unittest.main()
