MAX_THREADS: int
WORKSPACE_BYTES: int
HAVE_OPENMP: bool
COMPILER: str

def best_isa() -> int: ...
def openmp_max_threads() -> int: ...
