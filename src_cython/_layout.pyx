# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Layout drivers: they move whole rows.  Unfold, fold and pad lift every geometry to three spatial dimensions."""

from cython cimport floating
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from fc_layout cimport *

include "arrays.pxi"
include "chunks.pxi"
include "tasks.pxi"


# ------------------------------------------------------------------------------------------------ columns


cdef struct ColumnsJob:
    fc_layout_window window
    const char *source
    char *target
    int64_t planes, taps, plane_bytes, column_bytes, chunks
    size_t item
    int isa


cdef void unfold_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const ColumnsJob *job = <const ColumnsJob *> shared
    cdef int64_t rows = job.planes * job.taps, row
    for row in range(rows * i // job.chunks, rows * (i + 1) // job.chunks):
        fc_unfold_tap(
            job.isa, job.item, &job.window, row % job.taps, job.source + row // job.taps * job.plane_bytes,
            job.target + row * job.column_bytes,
        )


cdef void fold_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const ColumnsJob *job = <const ColumnsJob *> shared
    cdef int64_t plane, tap
    for plane in range(job.planes * i // job.chunks, job.planes * (i + 1) // job.chunks):
        memset(job.target + plane * job.plane_bytes, 0, job.plane_bytes)
        for tap in range(job.taps):
            fc_fold_tap(
                job.isa, job.item, &job.window, tap, job.source + (plane * job.taps + tap) * job.column_bytes,
                job.target + plane * job.plane_bytes,
            )


cdef void lift(object values, int64_t *target, int64_t missing):
    """A tuple of one to three numbers as three, the missing leading ones filled in."""
    cdef int64_t i, gap = 3 - len(values)
    for i in range(3):
        target[i] = missing if i < gap else values[i - gap]


cdef class Columns:
    """The columns that a sliding window sees, ready to be made of arrays: (N * C, prod(kernel), prod(out_size))."""
    cdef ColumnsJob job
    cdef int64_t elements

    def __init__(self, spec):
        cdef fc_layout_window *g = &self.job.window
        self.job.item = 4 if spec.dtype == "float32" else 8
        lift(spec.in_size, g.size, 1)
        lift(spec.out_size, g.out, 1)
        lift(spec.kernel, g.kernel, 1)
        lift(spec.stride, g.stride, 1)
        lift(spec.dilation, g.dilation, 1)
        lift(spec.pad_lo, g.pad, 0)
        self.job.planes = spec.batch * spec.in_channels
        self.job.taps = g.kernel[0] * g.kernel[1] * g.kernel[2]
        self.job.plane_bytes = g.size[0] * g.size[1] * g.size[2] * self.job.item
        self.job.column_bytes = g.out[0] * g.out[1] * g.out[2] * self.job.item
        self.elements = self.job.planes * self.job.taps * g.out[0] * g.out[1] * g.out[2]

    def unfold(self, input, columns, int isa, int n_threads):
        """Planes to columns."""
        cdef ColumnsJob job = self.job
        job.source = read_from(input, job.planes * job.plane_bytes)
        job.target = write_to(columns, job.planes * job.taps * job.column_bytes)
        job.isa, job.chunks = isa, chunk_count(self.elements, n_threads)
        run_tasks(unfold_task, &job, job.chunks, n_threads)

    def fold(self, columns, output, int isa, int n_threads):
        """Columns added up in planes."""
        cdef ColumnsJob job = self.job
        job.source = read_from(columns, job.planes * job.taps * job.column_bytes)
        job.target = write_to(output, job.planes * job.plane_bytes)
        job.isa, job.chunks = isa, chunk_count(self.elements, n_threads)
        run_tasks(fold_task, &job, job.chunks, n_threads)


# ------------------------------------------------------------------------------------------------ padding


cdef struct PadJob:
    const char *source
    char *target
    int64_t outer, chunks
    int64_t inside[3]  # sizes without and with padding
    int64_t padded[3]
    const int64_t *table[3]  # position inside of each padded one, -1 for the constant
    int64_t run_start, run_length  # columns that take consecutive ones
    double value
    size_t item


cdef void pad_row(const PadJob *job, const floating *source, floating *target, floating value) noexcept nogil:
    """``source`` is NULL where a row holds nothing but the constant."""
    cdef const int64_t *table = job.table[2]
    cdef int64_t i, width = job.padded[2], stop = job.run_start + job.run_length
    if source == NULL:
        for i in range(width):
            target[i] = value
        return
    for i in range(job.run_start):
        target[i] = source[table[i]] if table[i] >= 0 else value
    if job.run_length:
        memcpy(target + job.run_start, source + table[job.run_start], job.run_length * sizeof(floating))
    for i in range(stop, width):
        target[i] = source[table[i]] if table[i] >= 0 else value


cdef void add_row(const PadJob *job, const floating *source, floating *target) noexcept nogil:
    cdef const int64_t *table = job.table[2]
    cdef int64_t i, width = job.padded[2], stop = job.run_start + job.run_length
    cdef floating *run
    for i in range(job.run_start):
        if table[i] >= 0:
            target[table[i]] += source[i]
    if job.run_length:
        run = target + table[job.run_start]
        for i in range(job.run_length):
            run[i] += source[job.run_start + i]
    for i in range(stop, width):
        if table[i] >= 0:
            target[table[i]] += source[i]


cdef inline int64_t row_inside(const PadJob *job, int64_t outer, int64_t z, int64_t y) noexcept nogil:
    """Start of the row of elements inside that a padded row takes, -1 for none."""
    z, y = job.table[0][z], job.table[1][y]
    return -1 if z < 0 or y < 0 else ((outer * job.inside[0] + z) * job.inside[1] + y) * job.inside[2]


cdef void pad_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const PadJob *job = <const PadJob *> shared
    cdef int64_t nz = job.padded[0], ny = job.padded[1], rows = job.outer * nz * ny, row, start
    cdef const char *source
    cdef char *target
    for row in range(rows * i // job.chunks, rows * (i + 1) // job.chunks):
        start = row_inside(job, row // (ny * nz), row // ny % nz, row % ny)
        source = NULL
        if start >= 0:
            source = job.source + start * job.item
        target = job.target + row * job.padded[2] * job.item
        if job.item == 4:
            pad_row(job, <const float *> source, <float *> target, <float> job.value)
        else:
            pad_row(job, <const double *> source, <double *> target, job.value)


cdef void pad_backward_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const PadJob *job = <const PadJob *> shared
    cdef int64_t first = job.outer * i // job.chunks, last = job.outer * (i + 1) // job.chunks, outer, z, y, start
    cdef int64_t bytes_inside = job.inside[0] * job.inside[1] * job.inside[2] * job.item
    cdef int64_t row_bytes = job.padded[2] * job.item
    cdef const char *source = job.source + first * job.padded[0] * job.padded[1] * row_bytes
    cdef char *target
    for outer in range(first, last):
        memset(job.target + outer * bytes_inside, 0, bytes_inside)
        for z in range(job.padded[0]):
            for y in range(job.padded[1]):
                start = row_inside(job, outer, z, y)
                if start >= 0:
                    target = job.target + start * job.item
                    if job.item == 4:
                        add_row(job, <const float *> source, <float *> target)
                    else:
                        add_row(job, <const double *> source, <double *> target)
                source += row_bytes


cdef class Padding:
    """A padding of three axes, ready to be run on arrays.

    ``tables`` holds for each axis the input position that a padded one takes, as an int64 array with -1 for the
    constant.  Columns ``run_start`` to ``run_start + run_length`` take consecutive ones.
    """
    cdef PadJob job
    cdef object tables  # which `job` points into
    cdef size_t inside_bytes, padded_bytes

    def __init__(self, int64_t outer, inside, tables, int64_t run_start, int64_t run_length, double value, size_t item):
        self.tables = tables
        self.job.outer, self.job.run_start, self.job.run_length = outer, run_start, run_length
        self.job.value, self.job.item = value, item
        self.inside_bytes = self.padded_bytes = outer * item
        for axis in range(3):
            self.job.inside[axis], self.job.padded[axis] = inside[axis], len(tables[axis])
            self.job.table[axis] = <const int64_t *> read_from(tables[axis], self.job.padded[axis] * 8)
            self.inside_bytes *= self.job.inside[axis]
            self.padded_bytes *= self.job.padded[axis]

    def forward(self, x, out, int n_threads):
        """Axes grown or cropped."""
        cdef PadJob job = self.job
        job.source, job.target = read_from(x, self.inside_bytes), write_to(out, self.padded_bytes)
        job.chunks = chunk_count(self.padded_bytes // job.item, n_threads)
        run_tasks(pad_task, &job, job.chunks, n_threads)

    def backward(self, grad_output, grad_input, int n_threads):
        """Each gradient added to the position that its own took."""
        cdef PadJob job = self.job
        job.source, job.target = read_from(grad_output, self.padded_bytes), write_to(grad_input, self.inside_bytes)
        job.chunks = chunk_count(self.padded_bytes // job.item, n_threads)
        run_tasks(pad_backward_task, &job, job.chunks, n_threads)


# ------------------------------------------------------------------------------------------------ patches


cdef struct Place:
    int64_t start, patch_top, patch_left, patch_height, patch_width, top, left


cdef struct OverlayJob:
    const char *base
    const char *patches
    const Place *places
    char *target
    int64_t images, planes, base_height, base_width, height, width, chunks
    size_t lanes, item  # elements of a position, bytes of an element
    double fill


cdef void fill_positions(const OverlayJob *job, char *target, int64_t positions) noexcept nogil:
    cdef int64_t i, n = positions * job.lanes
    if job.fill == 0:
        memset(target, 0, n * job.item)
    elif job.item == 4:
        for i in range(n):
            (<float *> target)[i] = <float> job.fill
    else:
        for i in range(n):
            (<double *> target)[i] = job.fill


cdef inline int64_t clip(int64_t i, int64_t last) noexcept nogil:
    return 0 if i < 0 else last if i > last else i


cdef void overlay_plane(const OverlayJob *job, const Place *place, int64_t plane, char *target) noexcept nogil:
    cdef size_t position = job.lanes * job.item
    cdef int64_t y, row, width = job.width
    # columns of the box: those of the base from first to last, among them those of the patch from start to stop
    cdef int64_t first = clip(-place.left, width), last = clip(job.base_width - place.left, width)
    cdef int64_t start = clip(place.patch_left - place.left, width)
    cdef int64_t stop = clip(place.patch_left + place.patch_width - place.left, width)
    cdef const char *base = job.base + plane * job.base_height * job.base_width * position
    cdef const char *patch = job.patches + place.start * job.item
    cdef const char *source
    patch += plane * place.patch_height * place.patch_width * position
    for y in range(place.top, place.top + job.height):
        if y < 0 or y >= job.base_height:
            fill_positions(job, target, width)
        else:
            source = base + (y * job.base_width + place.left) * <int64_t> position
            row = y - place.patch_top
            fill_positions(job, target, first)
            fill_positions(job, target + last * position, width - last)
            if row < 0 or row >= place.patch_height or start >= stop:
                memcpy(target + first * position, source + first * position, (last - first) * position)
            else:
                memcpy(target + first * position, source + first * position, (start - first) * position)
                memcpy(target + stop * position, source + stop * position, (last - stop) * position)
                source = patch + (row * place.patch_width + place.left - place.patch_left) * <int64_t> position
                memcpy(target + start * position, source + start * position, (stop - start) * position)
        target += width * position


cdef void overlay_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const OverlayJob *job = <const OverlayJob *> shared
    cdef int64_t n = job.images * job.planes, k
    cdef size_t plane_bytes = job.height * job.width * job.lanes * job.item
    for k in range(n * i // job.chunks, n * (i + 1) // job.chunks):
        overlay_plane(job, job.places + k // job.planes, k % job.planes, job.target + k * plane_bytes)


def overlay(base, patches, places, out, base_size, double fill, int n_threads):
    """Boxes of an image with their patches: see the contract."""
    cdef OverlayJob job
    cdef const Place *place
    cdef int64_t k
    job.images, job.planes, job.height, job.width, job.lanes = out.shape
    job.base_height, job.base_width = base_size
    job.item, job.fill = out.itemsize, fill
    cdef int64_t plane = job.base_height * job.base_width * job.lanes, room = patches.size
    job.base = read_from(base, job.planes * plane * job.item)
    job.patches = read_from(patches, room * job.item)
    job.places = <const Place *> read_from(places, job.images * sizeof(Place))
    job.target = write_to(out, job.images * job.planes * job.height * job.width * job.lanes * job.item)
    for k in range(job.images):
        place = &job.places[k]
        if (
            place.start < 0 or place.patch_top < 0 or place.patch_left < 0
            or place.patch_height < 0 or place.patch_width < 0
            or place.patch_top + place.patch_height > job.base_height
            or place.patch_left + place.patch_width > job.base_width
            or place.start + place.patch_height * place.patch_width * job.planes * <int64_t> job.lanes > room
        ):
            raise ValueError(f"patch {k} does not lie inside the base and the patches' memory")
    job.chunks = chunk_count(out.size, n_threads)
    run_tasks(overlay_task, &job, job.chunks, n_threads)
