"""How Winograd convolution cuts an image into tiles, for the drivers that need it."""

from functools import lru_cache

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fc_tiling cimport fc_frequencies, fc_max, fc_min, fc_panels, fc_round_up, fc_tiling


cdef class Tiling:
    """How a grid of output positions is cut into tiles; see ``include/fc_winograd.h``."""
    cdef fc_tiling t
    cdef int64_t *table

    def __cinit__(self, grid, dilation, m):
        cdef int64_t i, rows, columns
        starts = []
        at = []
        per_phase = (grid[1] + dilation[1] - 1) // dilation[1]
        alpha = [n + 2 if n > 1 else 1 for n in m]
        self.t.phases = dilation[1]
        self.t.phase_length = (per_phase + m[1] - 1) // m[1] * m[1] + alpha[1] - m[1]
        for axis in range(2):
            starts.append([])
            self.t.grid[axis], self.t.dilation[axis] = grid[axis], dilation[axis]
            self.t.m[axis], self.t.alpha[axis], self.t.taps[axis] = m[axis], alpha[axis], alpha[axis] - m[axis] + 1
            for phase in range(min(dilation[axis], grid[axis])):
                for k, start in enumerate(range(phase, grid[axis], dilation[axis] * m[axis])):
                    starts[axis].append(start)
                    if axis == 1:
                        at.append(phase * self.t.phase_length + k * m[1])
        rows, columns = len(starts[0]), len(starts[1])
        self.table = <int64_t *> malloc(<size_t> (rows + 2 * columns) * 8)
        if self.table == NULL:
            raise MemoryError()
        for i, value in enumerate(starts[0] + starts[1] + at):
            self.table[i] = value
        self.t.tile_rows, self.t.tile_columns = rows, columns
        self.t.row_start = self.table
        self.t.column_start = self.table + rows
        self.t.column_at = self.table + rows + columns

    def __dealloc__(self):
        free(self.table)


_tiling = lru_cache(1024)(Tiling)


def plane(values, fill):
    """Sizes of 1 or 2 dimensions as 2."""
    return (fill,) * (2 - len(values)) + tuple(values)


def tile_shape(spec, m):
    """Outputs of a tile along both dimensions: ``m`` where the kernel has 3 taps, 1 where it has one."""
    return tuple(m if k == 3 else 1 for k in plane(spec.kernel, 1))
