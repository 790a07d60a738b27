"""Running a plan: steps bound to one size of the batch, in the memory of one arena."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _arrays
from fastconv._memory import empty
from fastconv._spec import as_int
from fastconv.graph import Graph, forward
from fastconv.plan._fuse import fuse, of_other_dtypes
from fastconv.plan._layout import lay_out
from fastconv.plan._memory import ALIGNMENT, arrange, lives
from fastconv.plan._report import Report, Row
from fastconv.plan._steps import Bound, Step

Array = NDArray[Any]

MOST_SIZES = 16  # of batches that a plan stays bound to


class _Program:
    """The steps of a plan for one size of the batch, and how it uses the arena."""

    def __init__(self, plan: InferencePlan, batch: int) -> None:
        self.batch = batch
        self.bound: list[Bound] = [step.bind(batch) for step in plan.steps]
        itemsize = np.dtype(plan.dtype).itemsize
        self.places, self.nbytes = arrange(plan.held, batch, itemsize)
        self.shapes = {life.name: (batch, *life.shape) for life in plan.held}
        self.seconds = 0.0  # of its first run, this included


class _Arena:
    """Memory of one call at a time, and the arrays that programs have in it."""

    def __init__(self, nbytes: int, dtype: str) -> None:
        self.nbytes, self.dtype = nbytes, dtype
        memory = empty((nbytes + ALIGNMENT,), "uint8")
        start = -memory.ctypes.data % ALIGNMENT
        self._memory = memory[start : start + nbytes]
        self._values: dict[int, dict[str, Array]] = {}  # by size of the batch

    def values(self, program: _Program) -> dict[str, Array]:
        found = self._values.get(program.batch)
        if found is None:
            if len(self._values) >= MOST_SIZES:
                self._values.clear()
            found = self._values[program.batch] = {
                name: np.ndarray(program.shapes[name], self.dtype, self._memory, place)
                for name, place in program.places.items()
            }
        return found


class InferencePlan:
    """A net with its present parameters, ready to infer; :meth:`fastconv.nn.Model.compile_inference` makes one.

    Later changes of the parameters do not reach it.  It serves any batch size, and may be called by several threads.
    The first call with a batch of some size chooses the algorithms and lays out the weights they need; what is settled
    for every size is laid out when the plan is made.  It keeps no plain copy of weights that it has laid out for good,
    so whoever needs no more than the plan may let go of the model.

    Attributes
    ----------
    steps : tuple of Step
    first_seconds : dict of int to float
        By size of the batch, how long the first call took.
    """

    def __init__(self, graph: Graph, params: Mapping[str, Array], dtype: str) -> None:
        self.graph = graph
        self.dtype = dtype
        self._constants = _constants(graph, params)
        foreign = of_other_dtypes(graph, dtype)
        layout = lay_out(graph, fuse(graph, params, self._constants, foreign), foreign, dtype)
        self.steps: tuple[Step, ...] = layout.steps
        self.first_seconds: dict[int, float] = {}
        self._kernels, self._outputs = layout.kernels, layout.outputs
        self.held, self._dying = lives(self.steps, set(self._outputs.values()))
        self._programs: dict[int, _Program] = {}
        self._arenas: list[_Arena] = []  # between calls

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, for arrays (N, *shape) of the plan's dtype by the names of the graph's inputs.

        Raises
        ------
        ValueError, TypeError
            If an input is missing, or of another shape or dtype.
        """
        values = self._checked(inputs)
        for _ in self._run(values):
            pass
        return {name: values[found] for name, found in self._outputs.items()}

    def report(
        self, inputs: Mapping[str, Array] | None = None, batch_size: int = 1, repeats: int = 5
    ) -> Report:
        """Run the plan and say of each step what serves it, why, and how long it takes.

        Parameters
        ----------
        inputs : mapping of str to ndarray, optional
            Of whatever batch size; random numbers if there are none.
        batch_size : int
            Of random inputs.
        repeats : int
            Runs of which the least times count.
        """
        if inputs is None:
            batch, rng = as_int(batch_size, "batch_size", 1), np.random.default_rng(0)
            inputs = {
                name: rng.standard_normal((batch, *shape)).astype(self.dtype)
                for name, shape in self.graph.inputs.items()
            }
        self(inputs)
        batch = len(next(iter(inputs.values())))
        whole, best = np.inf, dict.fromkeys((step.name for step in self.steps), np.inf)
        for _ in range(as_int(repeats, "repeats", 1)):
            begin = time.perf_counter()
            self(inputs)
            whole = min(whole, time.perf_counter() - begin)
            start = time.perf_counter()
            for step in self._run(self._checked(inputs)):
                best[step.name] = min(best[step.name], time.perf_counter() - start)
                start = time.perf_counter()
        program = self._programs[batch]
        size = batch * np.dtype(self.dtype).itemsize
        rows = tuple(
            Row(
                name=step.name,
                nodes=step.nodes,
                by=bound.by,
                why=bound.why,
                seconds=best[step.name],
                gflops=2e-9 * step.macs * batch / best[step.name],
                nbytes=int(np.prod(step.shape)) * size,
            )
            for step, bound in zip(self.steps, program.bound, strict=True)
        )
        return Report(
            rows=rows,
            batch=batch,
            seconds=whole,
            first_seconds=self.first_seconds[batch],
            arena_nbytes=program.nbytes,
            weight_nbytes=self.weight_nbytes,
        )

    def tolerance(self, inputs: Mapping[str, Array], draws: int = 4) -> dict[str, float]:
        """How far rounding may take the outputs from what exact arithmetic gives, by name.

        Each step's result is moved by its error, up or down at random, and the steps behind it carry that on to the
        outputs.  Of a sum of ``n`` products the error is ``4 * growth * sqrt(n) * eps * rms(x) * max||w||``: roundings
        are taken for independent, so that they grow as the root of their number (Higham and Mary 2019,
        doi:10.1137/18M1226312), four standard deviations are allowed for, and ``growth`` is the worst case that the
        algorithm states (1 for plain sums, more for Winograd's).  Of other steps it is four roundings of the largest
        number read or written, and where ``n`` numbers are summed or averaged the root of ``n`` times as many.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            As for a call.
        draws : int
            Of signs; the largest change counts.  They are the same each time.

        Returns
        -------
        dict of str to float
            The largest change of an element of each output; 0 for outputs of other dtypes than the plan's.
        """
        plain = self(inputs)
        bounds = self._programs[len(next(iter(inputs.values())))].bound
        rng, eps = np.random.default_rng(0), np.finfo(self.dtype).eps
        largest = dict.fromkeys(plain, 0.0)
        for _ in range(as_int(draws, "draws", 1)):
            values = self._checked(inputs)
            for step, bound in zip(self._run(values), bounds, strict=True):
                result = values[step.name]
                if result.dtype != self.dtype:
                    continue
                read = [values[name] for name in step.inputs]
                terms = max(sum(x.size for x in read), step.macs * len(result), result.size) / max(
                    result.size, 1
                )
                most = max(float(np.abs(x).max(initial=0)) for x in (result, *read))
                error = 4 * eps * (bound.rounding * _rms(read[0]) + terms**0.5 * most)
                values[step.name] = result + error * rng.choice(np.array([-1, 1], self.dtype), result.shape)
            for name, value in plain.items():
                if value.dtype == self.dtype:
                    change = np.abs(values[self._outputs[name]] - value).max(initial=0)
                    largest[name] = max(largest[name], float(change))
        return largest

    @property
    def weight_nbytes(self) -> int:
        """Bytes of weights and biases of convolutions and linear layers, in all forms that are kept."""
        return sum(kernel.nbytes for kernel in self._kernels)

    def _checked(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs as kernels want them."""
        values: dict[str, Array] = {}
        batch: int | None = None
        for name, shape in self.graph.inputs.items():
            if name not in inputs:
                raise ValueError(f"the net has inputs {list(self.graph.inputs)}, got {list(inputs)}")
            x = _arrays.as_floats(inputs[name], name)
            if x.dtype != self.dtype:
                raise TypeError(f"input {name!r} must be {self.dtype} like the net, got {x.dtype}")
            if batch is None and x.ndim:
                batch = len(x)
            _arrays.check_shape(x, (batch or 0, *shape), name)
            values[name] = x
        return values

    def _run(self, values: dict[str, Array]) -> Iterator[Step]:
        """Run all steps, keeping the outputs in ``values``; yields each step behind its run."""
        begin = time.perf_counter()
        batch = len(next(iter(values.values())))
        program = self._programs.get(batch) or self._bind(batch)
        arena = self._arena(program.nbytes)
        own = arena.values(program)
        values |= self._constants
        for step, bound, dying in zip(self.steps, program.bound, self._dying, strict=True):
            values[step.name] = bound.run([values[name] for name in step.inputs], own.get(step.name))
            yield step
            for name in dying:
                del values[name]
        self._arenas.append(arena)
        if batch not in self.first_seconds:
            self.first_seconds[batch] = time.perf_counter() - begin

    def _bind(self, batch: int) -> _Program:
        if len(self._programs) >= MOST_SIZES:
            self._programs.clear()
        program = self._programs[batch] = _Program(self, batch)
        return program

    def _arena(self, nbytes: int) -> _Arena:
        """One that is free and large enough; the smaller ones make room for it."""
        while self._arenas:
            try:
                arena = self._arenas.pop()
            except IndexError:  # another thread was faster
                break
            if arena.nbytes >= nbytes:
                return arena
        return _Arena(nbytes, self.dtype)


def _rms(x: Array) -> float:
    """Root mean square; 0 of nothing."""
    return float(np.sqrt(np.square(x, dtype=np.float64).mean())) if x.size else 0.0


def _constants(graph: Graph, params: Mapping[str, Array]) -> dict[str, Array]:
    """The values that no input reaches."""
    nodes = tuple(node for node in graph.nodes if node.name in graph.constants)
    if not nodes:
        return {}
    values = forward(Graph({}, nodes, tuple(node.name for node in nodes)), params, {})
    return {name: value.copy() for name, value in values.items()}  # not the parameters themselves
