"""The benchmark: its problems are right, contestants' results are checked, and what was measured is written down."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from fastconv._spec import ConvSpec
from fastconv.bench import contestants, machine, nets, report, runner, tasks, worker
from fastconv.bench.problem_line import files, parse, read
from fastconv.cli import main
from kit import integers, reference
from readme_table import END, START, rewrite

THIS = Path(__file__).stem  # as another process imports it: tests/ is on its path

CONVS = [
    pytest.param(each, id=f"{file}-{each.name}") for file in ("resnet50", "vgg16") for each in read(file)
]
QUICK = runner.Effort(rounds=1, seconds=0.0)
TINY = parse('mb2 ic3 ih6 oc4 kh3 ph1 n"conv"')
EVERY_OP = [
    TINY,
    parse("denormal mb1 ic4 ih6 oc4 kh3 ph1"),
    parse("prepared mb1 ic4 ih6 oc4 kh3 ph1"),
    parse("pool mb2 ic3 ih7 kh3 sh2 ph1"),
    parse("dropout mb4 ic256 ih1 p40"),
    parse("relu mb2 ic3 ih4"),
    parse('train mb4 ic1 ih8 n"mnist"'),
]
INFER = parse('infer mb2 ic1 ih8 n"mnist"')


def test_a_line_is_its_sizes() -> None:
    problem = parse('mb8 ic64 ih56 iw48 oc32 kh3 sh2 ph1 g2 n"block.2*3"')
    assert (problem.name, problem.count) == ("block.2", 3)
    assert problem.input_shape == (8, 64, 56, 48)
    assert problem.weight_shape == (32, 32, 3, 3)
    assert (problem.pair("s"), problem.pair("p"), problem.pair("d")) == ((2, 2), (1, 1), (1, 1))
    assert problem.out_size == (28, 24)
    assert problem.macs == 8 * 32 * 28 * 24 * 32 * 9


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ic3 ih8 xx3", "'xx3'"),
        ("ic3 ih8 kh", "'kh'"),
        ("ic3 ih8 kh-1", "'kh-1'"),
        ("ic3 oc3", "needs ih"),
        ("ic3 ih8 ic4", "ic is given twice"),
        ('ic3 ih8 n"a b"', "words like"),
    ],
)
def test_lines_that_are_no_problem_are_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(line)


@pytest.mark.parametrize("file", files())
def test_every_file_has_problems_with_names_of_their_own(file: str) -> None:
    names = [each.name for each in read(file)]
    assert names
    assert len(set(names)) == len(names)


def test_the_nets_have_their_published_cost() -> None:
    """15.35 GMAC for VGG-16's convolutions; 4.09 for ResNet-50 with its 7x7 stem (0.118) and classifier (0.002); 0.30
    for MobileNetV2 with its classifier (0.001)."""
    cost = {
        file: sum(each.macs // each["mb"] * each.count for each in read(file))
        for file in ("vgg16", "resnet50", "mobilenetv2")
    }
    assert cost["vgg16"] == 15_346_630_656
    assert cost["resnet50"] == 4_089_184_256 - 112**2 * 64 * 3 * 49 - 2048 * 1000
    assert cost["mobilenetv2"] == 300_774_272 - 1280 * 1000
    assert sum(each.count for each in read("resnet50")) == 52
    assert sum(each.count for each in read("mobilenetv2")) == 52


@pytest.mark.parametrize("problem", CONVS)
def test_layers_of_the_nets_are_right(problem: object) -> None:
    """All channels of each layer on a corner of its image; integers, so the results must be equal."""
    rng = np.random.default_rng(0)
    size = tuple(min(n, 5) for n in problem.input_shape[2:])
    options = {"stride": problem.pair("s"), "padding": problem.pair("p")}
    spec = ConvSpec.from_shapes((1, problem["ic"], *size), problem.weight_shape, "float32", **options)
    x, w, y = (
        integers(rng, shape, "float32") for shape in (spec.input_shape, spec.weight_shape, spec.output_shape)
    )
    np.testing.assert_array_equal(
        F.conv2d(x, w, **options), reference("conv_forward", spec, x, w, None, None)
    )
    np.testing.assert_array_equal(
        G.conv2d_input(x.shape, w, y, **options), reference("conv_input_grad", spec, y, w, None, None)
    )
    np.testing.assert_array_equal(
        G.conv2d_weight(x, w.shape, y, **options), reference("conv_weight_grad", spec, x, y)
    )


def test_a_line_may_begin_with_its_op() -> None:
    assert parse("pool ic3 ih8 kh2 sh2").op == "pool"
    assert parse("ic3 ih8").op == "conv"
    with pytest.raises(ValueError, match="words like"):
        parse("ic3 pool ih8")


@pytest.mark.parametrize("name", sorted(nets.TRAINED))
def test_a_step_gives_loss_and_all_gradients(name: str) -> None:
    problem = parse(f'train mb4 ic2 ih8 n"{name}"')
    model = nets.build(problem)
    step = contestants.Fastconv().prepare(problem, tasks.STEP, tasks.inputs(problem, tasks.STEP))
    first, second = step(), step()
    assert 1 < first.loss != second.loss, "the parameters have moved"
    count = 1 + sum(model.params[each].size for each in model.trainable)
    assert contestants.array_of(first).shape == (1, count)


def test_the_work_of_a_step_is_three_passes_but_one() -> None:
    problem = parse('train mb2 ic1 ih8 n"mnist"')
    first, *others = 64 * 32 * 9, 16 * 64 * 32 * 9, 4 * 64 * 128, 128 * 10
    params = 32 * 10 + 64 * (32 * 9 + 1) + 128 * (256 + 1) + 10 * (128 + 1)
    work = tasks.work(problem, tasks.STEP)
    assert work == (2 * 2 * (2 * first + 3 * sum(others)), 4 * (2 * 64 + 2 * params))


def test_a_net_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"one of mnist, .*, mobilenetv2, got 'lenet'"):
        nets.build(parse('train ic1 ih8 n"lenet"'))


def test_the_nets_that_are_explained_have_the_published_arithmetic() -> None:
    macs = {}
    for problem in read("occlusion"):
        graph = nets.build(problem).graph
        macs[problem.name] = sum(graph.macs(node) for node in graph.nodes)
        assert nets.count_windows(problem) == 27**2
    assert macs == {
        "vgg16": 15_470_264_320,
        "imagenet-resnet18": 1_814_073_344,
        "imagenet-resnet50": 4_089_184_256,
        "mobilenetv2": 300_774_272,
    }


def test_a_map_is_that_of_captum() -> None:
    problem = parse('occlusion ic3 ih64 kh8 sh6 n"mobilenetv2"')
    arrays = tasks.inputs(problem, tasks.MAP)
    ours = contestants.Fastconv()
    result = ours.prepare(problem, tasks.MAP, arrays)()
    assert result.shape == problem.input_shape
    assert ours.served_by(problem, tasks.MAP, arrays).startswith("incremental, 1/1.")
    pytest.importorskip("captum")
    torch = pytest.importorskip("torch")
    with torch.enable_grad():  # the contestant, which has a process of its own elsewhere, turns gradients off
        expected = contestants.Torch().prepare(problem, tasks.MAP, arrays)()
    assert tasks.error(problem, tasks.MAP, expected, result) < tasks.TOLERANCE


def test_there_is_no_other_problem_file() -> None:
    with pytest.raises(ValueError, match="no problem file 'none'; there are denormal, "):
        read("none")


class Half(contestants.Fastconv):
    """Half of the right result."""

    version = "0.5"

    def prepare(self, problem: Any, kind: str, arrays: Any) -> Any:
        call = super().prepare(problem, kind, arrays)
        return lambda: contestants.array_of(call()) / 2


class Broken(contestants.Fastconv):
    """Fails at once on some problems, later on others, and lacks the rest."""

    def prepare(self, problem: Any, kind: str, arrays: Any) -> Any:
        if problem.op == "relu":
            sys.exit(7)
        if problem.op == "pool":
            raise KeyError(kind)
        return None


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's figures take seconds to measure."""
    monkeypatch.setattr(runner, "probe", lambda threads: {"flops": 1e11, "bandwidth": 2e10})


def rows_of(problems: list[Any], peers: dict[str, str], threads: tuple[int, ...] = (1,)) -> list[report.Row]:
    places = contestants.PLACES | peers
    with runner.Runner([*peers], threads, QUICK, places) as contest:
        return [row for problem in problems for row in contest.rows("file", problem)]


@pytest.mark.no_sanitize
def test_fastconv_alone_has_figures_but_no_ratio() -> None:
    rows = rows_of(EVERY_OP, {}, threads=(2, 1))
    expected = [
        (problem.op, kind, count)
        for problem in EVERY_OP
        for kind in tasks.PASSES[problem.op]
        for count in (2, 1)
    ]
    assert [(row["op"], row["pass"], row["threads"]) for row in rows] == expected
    for row in rows:
        assert row["failed"] == {}
        assert row["rival"] is row["ratio"] is None
        assert row["errors"]["fastconv"] < 1e-5
        assert row["rate"] > 0 and row["share"] > 0
        assert row["served_by"]
        assert row["times"]["fastconv"]["min"] <= row["times"]["fastconv"]["median"]
    assert {row["unit"] for row in rows if row["op"] == "conv"} == {"GFLOP/s"}
    assert {row["unit"] for row in rows if row["op"] in ("pool", "dropout", "relu")} == {"GB/s"}
    assert [row["pass"] for row in rows if "slowdown" in row] == [tasks.DENORMAL] * 2


@pytest.mark.slow
@pytest.mark.no_sanitize
def test_pytorch_agrees_on_every_pass() -> None:
    pytest.importorskip("torch")
    layouts = {name: place for name, place in contestants.PLACES.items() if name.startswith("torch")}
    for row in rows_of(EVERY_OP, layouts):
        assert row["failed"] == {}
        assert row["ratio"] == row["times"][row["rival"]]["min"] / row["times"]["fastconv"]["min"]
        assert "torch NCHW" in row["times"]
        assert ("torch channels_last" in row["times"]) == (row["op"] not in ("dropout", "relu"))


@pytest.mark.no_sanitize
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_inference_libraries_agree_on_forward_passes(name: str) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip(name)
    rows = rows_of(EVERY_OP, {name: contestants.PLACES[name]})
    assert all(row["failed"] == {} for row in rows)
    served = {(row["op"], row["pass"]) for row in rows if row["rival"]}
    forward = {(op, "forward") for op in ("conv", "denormal", "prepared", "pool", "relu")}
    assert served == forward | {("denormal", tasks.DENORMAL), ("prepared", tasks.PREPARED)}


@pytest.mark.no_sanitize
def test_inference_is_measured_from_the_file_on() -> None:
    pytest.importorskip("onnx")
    rivals = [name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name)]
    (row,) = rows_of([INFER], {name: contestants.PLACES[name] for name in rivals})
    assert row["failed"] == {}
    assert row["times"].keys() == {"fastconv", *rivals}
    assert all(row["first"][name] > times["min"] for name, times in row["times"].items())
    graph = nets.build(INFER).graph
    assert row["flop"] == 2 * 2 * sum(map(graph.macs, graph.nodes))
    (line,) = [line for line in report._inference([row]) if line.startswith("| mnist")]
    assert line.count(" ms") == 2 * len(row["times"])


@pytest.mark.no_sanitize
def test_a_wrong_result_is_reported_and_not_timed() -> None:
    checked = [row for row in rows_of(EVERY_OP, {"half": f"{THIS}:Half"}) if row["pass"] != tasks.DENORMAL]
    for row in checked:
        assert "of the largest value, not timed" in row["failed"]["half"]
        assert "half" not in row["times"] and row["ratio"] is None
        assert "fastconv" in row["times"]
    assert len(checked) == sum(len(tasks.PASSES[problem.op]) for problem in EVERY_OP) - 1


@pytest.mark.no_sanitize
def test_a_contestant_that_fails_or_dies_does_not_end_the_run() -> None:
    problems = [parse("pool mb1 ic2 ih4 kh2 sh2"), parse("relu mb1 ic2 ih4"), TINY]
    rows = rows_of(problems, {"broken": f"{THIS}:Broken"})
    failed = [row["failed"].get("broken") for row in rows]
    assert (
        failed
        == [f"KeyError: {kind!r}" for kind in tasks.PASSES["pool"]]
        + ["its process ended with code 7"]
        + [None] * 3
    )
    assert all("fastconv" in row["times"] for row in rows)


@pytest.mark.no_sanitize
def test_the_others_play_without_a_contestant_that_cannot_start() -> None:
    places = contestants.PLACES | {"ghost": "no_such_module:Class"}
    with runner.Runner(["ghost"], (1,), QUICK, places) as contest:
        assert contest.absent["ghost"].startswith("ModuleNotFoundError")
        (row,) = contest.rows("file", parse("relu mb1 ic2 ih4"))
    assert [*row["times"]] == ["fastconv"] and row["failed"] == {}


@pytest.mark.no_sanitize
def test_fastconv_must_start() -> None:
    places = {"fastconv": "no_such_module:Class"}
    with pytest.raises(RuntimeError, match="fastconv does not start: ModuleNotFoundError"):
        runner.Runner([], (1,), QUICK, places)


@pytest.mark.no_sanitize
def test_the_same_problem_is_measured_once() -> None:
    again = parse(TINY.line.replace("conv", "again"))
    rows = rows_of([TINY, again], {})
    assert [row["name"] for row in rows] == ["conv"] * 3 + ["again"] * 3
    assert [row["times"] for row in rows[:3]] == [row["times"] for row in rows[3:]]


def test_what_counts_as_an_error() -> None:
    right = np.arange(-3.0, 3.0).reshape(2, 3)
    assert tasks.error(TINY, "forward", right, right) == 0
    assert tasks.error(TINY, "forward", right + 0.3, right) == pytest.approx(0.1)
    assert tasks.error(TINY, "forward", right[:1], right) == np.inf
    assert np.isnan(tasks.error(TINY, "forward", np.where(right == 1, np.nan, right), right))
    tiny = np.full((2, 3), 1e-40)
    assert tasks.error(TINY, "forward", np.zeros((2, 3)), tiny) < tasks.TOLERANCE, "flushed to zero"


@pytest.mark.parametrize(
    ("result", "wrong"),
    [
        (lambda x, y: y, False),
        (lambda x, y: 1.01 * y, True),
        (lambda x, y: x / 0.6, True),  # nothing dropped
        (lambda x, y: np.zeros_like(y), True),
    ],
)
def test_dropout_keeps_multiples_of_as_many_as_it_should(result: Any, wrong: bool) -> None:
    problem = parse("dropout mb4 ic256 ih1 p40")
    x = tasks.inputs(problem, "forward")[0]
    error = tasks.error(problem, "forward", result(x, F.dropout(x, 0.4, seed=1)), None)
    assert (not error <= tasks.TOLERANCE) == wrong


def test_work_is_the_direct_algorithm_s_and_every_byte_once() -> None:
    assert tasks.work(TINY, "forward") == (2 * TINY.macs, 4 * (2 * 3 * 36 + 4 * 3 * 9 + 2 * 4 * 36))
    pool = parse("pool mb1 ic2 ih4 kh2 sh2")
    assert tasks.work(pool, "forward") == (0, 4 * (32 + 8))
    assert tasks.work(pool, "backward") == tasks.work(pool, "forward, indices") == (0, 4 * (32 + 8) + 8)
    assert tasks.work(parse("dropout mb1 ic8 ih4 p50"), "forward") == (0, 8 * 128 + 16)


def test_a_sample_is_the_time_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0.0], []

    def call() -> None:
        calls.append(None)
        clock[0] += 3e-5 if len(calls) % 100 == 0 else 1e-5

    monkeypatch.setattr(worker.time, "perf_counter", lambda: clock[0])
    times = worker.sample(call, 0.1)
    assert times == pytest.approx({"min": 1e-5, "median": 1e-5})
    assert 0.1 < clock[0] < 0.11
    calls.clear()
    assert worker.sample(call, 1e-6)["min"] == pytest.approx(1e-5)
    assert len(calls) == 1, "a call that takes as long as a turn is not repeated"


def test_the_machine_s_figures_are_work_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_least_time", lambda call: (call(), 0.5)[1])
    monkeypatch.setattr(machine, "_MATRIX", 8)
    monkeypatch.setattr(machine, "_COPIED_BYTES", 1 << 12)
    assert machine.peak_flops() == 2 * 8**3 / 0.5
    assert machine.copy_bandwidth(2) == 2 * 4096 / 0.5


def row(name: str, ratio: float | None, **other: Any) -> report.Row:
    times = {"fastconv": {"min": 0.002, "median": 0.003}}
    if ratio is not None:
        times["torch NCHW"] = {"min": 0.002 * ratio, "median": 0.004}
    return {
        "file": "net",
        "line": f'ic1 ih1 n"{name}"',
        "name": name,
        "op": "conv",
        "pass": "forward",
        "threads": 1,
        "served_by": "direct",
        "times": times,
        "errors": {"fastconv": 2e-7},
        "workspace": {"fastconv": 3 << 20},
        "failed": {},
        "flop": 1e6,
        "bytes": 1e5,
        "rate": 12.5,
        "unit": "GFLOP/s",
        "share": 0.25,
        "rival": None if ratio is None else "torch NCHW",
        "ratio": ratio,
    } | other


CONFIG = {
    "version": "1",
    "isa": "avx2",
    "compiler": "gcc",
    "cpu": "a CPU",
    "versions": {"fastconv": "1", "torch NCHW": "2"},
    "machine": {"1": {"flops": 5e10, "bandwidth": 1e10}},
}


def test_the_report_keeps_the_rows_that_lose() -> None:
    rows = [row("a", 2.0), row("b", 0.5), row("a", 4.0, threads=2), row("b", 1.0, threads=2)]
    lines = report.section({"config": CONFIG, "rows": rows}).splitlines()
    assert "| net | forward | 2 | 1.00 | **0.50** | 1 | 2.00 | 1.00 | 0 |" in lines
    one = "2 ms | 12.5 GFLOP/s | 25% | 1 ms (torch NCHW) | **0.50**"
    two = "2 ms | 12.5 GFLOP/s | 25% | 2 ms (torch NCHW) | 1.00"
    assert f'| net `ic1 ih1 n"b"` | forward | direct | {one} | {two} | 2.0e-07 | 3.0 MiB |' in lines
    assert "beside torch NCHW 2" in lines[0] and "50 GFLOP/s and 10.0 GB/s on 1 thread" in lines[0]


def test_the_report_compares_time_and_memory_of_a_step() -> None:
    memory = {"fastconv": 3 << 20, "torch NCHW": 5 << 20}
    rows = [row("a", 2.0, op="train", workspace=memory), row("b", 2.0)]
    lines = report.section({"config": CONFIG, "rows": rows}).splitlines()
    assert "| a | 1 | 2 ms, 3.0 MiB | 4 ms, 5.0 MiB | 2.00 |" in lines
    assert not any(line.startswith("| b |") for line in lines)


def test_the_report_of_fastconv_alone_has_rates() -> None:
    text = report.section({"config": CONFIG, "rows": [row("a", None), row("b", None)]})
    assert "| net | forward | 2 | 12.5 GFLOP/s | 25% |" in text
    assert "1 thread: ratio" not in text.partition("<details>")[0]


def test_the_report_names_failures_and_slow_denormals() -> None:
    failed = row("a", None, failed={"torch NCHW": "wrong by 1 of the largest value, not timed"})
    slow = row("b", 1.0, slowdown={"fastconv": 1.25, "torch NCHW": 30.0})
    text = report.section({"config": CONFIG, "rows": [failed, slow]})
    assert '* torch NCHW failed net `ic1 ih1 n"a"` forward on 1 thread: wrong by 1' in text
    assert '| net `ic1 ih1 n"b"` | 1 | 1.25 | 30.00 |' in text


def test_the_report_replaces_what_is_between_its_marks_alone() -> None:
    readme = f"above\n{START}\nold\n{END}\nbelow\n"
    once = rewrite(readme, "new")
    assert once == f"above\n{START}\nnew\n{END}\nbelow\n"
    assert rewrite(once, "new") == once
    for broken in ("none", f"{END} {START}", f"{START} {START} {END}"):
        with pytest.raises(ValueError, match="must have one"):
            rewrite(broken, "new")


def command(*arguments: str) -> int:
    for module in ("matplotlib", "tqdm"):
        pytest.importorskip(module)
    return main(["bench", *arguments, "--rounds", "1", "--seconds", "0"])


@pytest.fixture
def no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "fastconv.bench.command.installed", lambda: ([], ["torch NCHW does not play: not installed"])
    )


@pytest.mark.no_sanitize
@pytest.mark.usefixtures("no_peers")
def test_command_without_another_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    assert command("tiny", "--match", '"conv"', "--threads", "1", "--out", str(out)) == 0
    assert {path.name for path in out.iterdir()} == {"results.json", "results.md", "roofline_1.png"}
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [each["pass"] for each in results["rows"]] == [*tasks.PASSES["conv"]]
    assert results["config"]["version"] == fastconv.__version__
    assert (out / "results.md").read_text(encoding="utf-8") == report.section(results) + "\n"
    printed = capsys.readouterr()
    assert "torch NCHW does not play" in printed.out
    assert len([line for line in printed.out.splitlines() if line.startswith("tiny conv ")]) == 3
    assert "3/3" in printed.err, "progress bar"


@pytest.mark.no_sanitize
def test_command_with_another_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastconv.bench.command.installed", lambda: (["twin"], []))
    monkeypatch.setitem(contestants.PLACES, "twin", contestants.PLACES["fastconv"])
    assert command("tiny", "--match", "relu", "--threads", "1", "2", "--out", str(tmp_path)) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.md", "ratios_tiny.png"}
    assert "  twin " in capsys.readouterr().out


@pytest.mark.no_sanitize
@pytest.mark.usefixtures("no_peers")
def test_command_fails_where_fastconv_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(contestants.PLACES, "fastconv", f"{THIS}:Half")
    assert command("tiny", "--match", "relu", "--threads", "1", "--out", str(tmp_path)) == 1
    printed = capsys.readouterr()
    assert "1 of fastconv's results are wrong or missing" in printed.err
    assert "fastconv: wrong by 0.5" in printed.out
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["rows"][0]["times"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet51"], "no problem file 'resnet51'; there are"),
        (["tiny", "--match", "kh99"], "no line of the chosen problem files contains 'kh99'"),
    ],
)
def test_problems_that_are_not_there_are_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments, "--out", str(tmp_path)) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert command("tiny", "--out", str(tmp_path / "file")) == 2
    assert "file" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    assert command("tiny", "--out", str(tmp_path)) == 2
    assert f"nothing can be written to {tmp_path}" in capsys.readouterr().err


def test_a_missing_package_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert main(["bench", "--out", str(tmp_path)]) == 2
    assert "pip install 'fastconv[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--threads", "0"], ["--rounds", "x"], ["--seconds", "soon"]])
def test_wrong_calls_are_exit_code_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *wrong])
    assert stopped.value.code == 2
    assert "usage: fastconv bench" in capsys.readouterr().err
