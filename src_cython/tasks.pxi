"""Running the tasks of a driver, on one thread or several."""

from cython.parallel cimport prange

ctypedef void (*Task)(const void *job, Py_ssize_t i) noexcept nogil


cdef void run_tasks(Task task, const void *job, Py_ssize_t n_tasks, int n_threads):
    """``task(job, i)`` for every i below ``n_tasks``."""
    cdef Py_ssize_t i
    if n_tasks == 1:  # over before another Python thread would take its turn
        task(job, 0)
    elif n_threads == 1:  # entering a parallel region takes longer than many a small kernel
        with nogil:
            for i in range(n_tasks):
                task(job, i)
    else:
        for i in prange(n_tasks, nogil=True, num_threads=n_threads, schedule="static"):
            task(job, i)
