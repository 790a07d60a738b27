# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Driver of small convolutions: everything that depends on the spec alone is done once, an image is a task."""

from libc.stdint cimport int64_t

from fc_epilogue cimport fc_epilogue
from fc_small cimport FC_SMALL_TAPS, fc_small, fc_small_axis, fc_small_forward, fc_small_input_grad

include "arrays.pxi"
include "epilogue.pxi"
include "tasks.pxi"

MAX_TAPS = FC_SMALL_TAPS


cdef struct Job:
    const fc_small *g
    const char *source
    const char *weight
    fc_epilogue epilogue  # the residual is that of image 0
    char *target
    size_t source_bytes, target_bytes  # of one image
    size_t item
    int isa


cdef void forward_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const Job *job = <const Job *> shared
    cdef fc_epilogue epilogue = job.epilogue
    if epilogue.residual != NULL:
        epilogue.residual = <const char *> epilogue.residual + i * job.target_bytes
    fc_small_forward(
        job.isa, job.item, job.g, job.source + i * job.source_bytes, job.weight, &epilogue,
        job.target + i * job.target_bytes,
    )


cdef void input_grad_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const Job *job = <const Job *> shared
    fc_small_input_grad(
        job.isa, job.item, job.g, job.source + i * job.source_bytes, job.weight, job.epilogue.bias,
        job.target + i * job.target_bytes,
    )


cdef fc_small_axis axis_of(sizes) except *:
    cdef fc_small_axis axis
    source, grid, taps, stride, dilation, pad = sizes
    axis.source, axis.grid, axis.taps, axis.step = source, grid, taps, stride
    for t in range(taps):
        offset = t * dilation - pad  # Python's integers: divisions round down
        first = max(0, -(offset // stride))
        axis.offset[t], axis.first[t] = offset, first
        axis.stop[t] = max(first, min(grid, (source - 1 - offset) // stride + 1))
    return axis


cdef class Small:
    """A convolution of one or two dimensions, ready to be run on arrays."""
    cdef fc_small g
    cdef size_t images, input_bytes, output_bytes, weight_bytes, item  # bytes of an image, and of all weights
    cdef size_t input_bias_bytes, output_bias_bytes
    cdef fc_epilogue epilogue  # without arrays

    def __init__(self, spec):
        cdef size_t item = 4 if spec.dtype == "float32" else 8
        lift = (1,) * (2 - len(spec.in_size))
        axes = zip(
            lift + spec.in_size, lift + spec.out_size, lift + spec.kernel, lift + spec.stride, lift + spec.dilation,
            (0,) * len(lift) + spec.pad_lo,
        )
        y, x = axes
        self.g.y, self.g.x = axis_of(y), axis_of(x)
        self.g.groups = spec.groups
        self.g.channels = spec.in_channels // spec.groups
        self.g.filters = spec.out_channels // spec.groups
        self.epilogue.activation, self.epilogue.slope = ACTIVATIONS[spec.activation], spec.slope
        self.images, self.item = spec.batch, item
        self.input_bias_bytes, self.output_bias_bytes = spec.in_channels * item, spec.out_channels * item
        self.input_bytes = self.input_bias_bytes * self.g.y.source * self.g.x.source
        self.output_bytes = self.output_bias_bytes * self.g.y.grid * self.g.x.grid
        self.weight_bytes = self.output_bias_bytes * self.g.channels * self.g.y.taps * self.g.x.taps

    def forward(self, input, weight, bias, residual, out, int isa, int n_threads):
        """Cross-correlation plus ``bias`` plus ``residual`` (None where there is none), activated, into ``out``."""
        cdef Job job = Job(
            &self.g, read_from(input, self.images * self.input_bytes), read_from(weight, self.weight_bytes),
            self.epilogue, write_to(out, self.images * self.output_bytes),
            self.input_bytes, self.output_bytes, self.item, isa
        )
        job.epilogue.bias = read_from(bias, self.output_bias_bytes)
        job.epilogue.residual = read_from(residual, self.images * self.output_bytes)
        run_tasks(forward_task, &job, self.images, n_threads)

    def input_grad(self, grad, weight, bias, out, int isa, int n_threads):
        """Adjoint of :meth:`forward` in the input, plus ``bias`` (or None) per input channel, into ``out``."""
        cdef Job job = Job(
            &self.g, read_from(grad, self.images * self.output_bytes), read_from(weight, self.weight_bytes),
            fc_epilogue(read_from(bias, self.input_bias_bytes), NULL, 0, 0.0),
            write_to(out, self.images * self.input_bytes),
            self.output_bytes, self.input_bytes, self.item, isa
        )
        run_tasks(input_grad_task, &job, self.images, n_threads)
