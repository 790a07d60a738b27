"""Build of the compiled extensions; everything declarative is in pyproject.toml.

The build never looks at the CPU it runs on: every object file targets the platform's portable baseline.  The
AVX2 and AVX-512 kernels sit in target regions of the same files, and ``fastconv.show_config()`` says which of
them are chosen at run time.

Environment variables
    FASTCONV_NO_OPENMP=1   build single-threaded extensions although the compiler has OpenMP
    FASTCONV_SANITIZE=1    build with AddressSanitizer and UndefinedBehaviorSanitizer, and the AVX-512 kernels
                           out of AVX2 instructions, so that they too run everywhere (see ``make sanitize``)
"""

import os
import subprocess
import sys
import tempfile
from glob import glob
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, ExecError, LinkError, PlatformError

NAMES = (
    "_cpu",
    "_memory",
    "_blocked",
    "_conv",
    "_direct",
    "_small",
    "_winograd",
    "_pool",
    "_layout",
    "_dropout",
    "_pointwise",
    "_statistics",
    "_update",
    "_digest",
)
HEADERS = sorted(glob("src_cython/include/*.h") + glob("src_cython/*.px[di]"))

EXTENSIONS = [
    Extension(
        f"fastconv.{name}", [f"src_cython/{name}.pyx"], include_dirs=["src_cython/include"], depends=HEADERS
    )
    for name in NAMES
]
# The one that creates arrays; the others see them through the buffer protocol.
MEMORY = EXTENSIONS[NAMES.index("_memory")]
MEMORY.include_dirs.append(numpy.get_include())
MEMORY.define_macros.append(("NPY_TARGET_VERSION", "NPY_1_22_API_VERSION"))
MEMORY.define_macros.append(("NPY_NO_DEPRECATED_API", "NPY_1_22_API_VERSION"))

PYTHON_PROBE = "#include <Python.h>\n"
OPENMP_PROBE = """\
#include <omp.h>
int main(void) {
    int count = 0;
#pragma omp parallel for reduction(+ : count)
    for (int i = 0; i < 4; ++i) count += omp_get_max_threads() > 0;
    return count != 4;
}
"""
NO_COMPILER = """\
fastconv is built from C, and a C compiler with the Python headers was not found or does not work:
    {error}
Install one and try again:
    Debian, Ubuntu    apt install gcc python3-dev
    Fedora, RHEL      dnf install gcc python3-devel
    macOS             xcode-select --install
    Windows           Build Tools for Visual Studio with "Desktop development with C++"
    conda             conda install c-compiler"""
NO_OPENMP = """\
fastconv: {reason}; building single-threaded extensions.{hint}"""


def enabled(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def libomp_prefix() -> Path | None:
    """Folder of Homebrew's libomp, which Apple's compiler neither ships nor searches."""
    try:
        found = subprocess.run(
            ["brew", "--prefix", "libomp"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found = ""
    candidates = [found] if found else ["/opt/homebrew/opt/libomp", "/usr/local/opt/libomp"]
    return next((Path(c) for c in candidates if Path(c, "include", "omp.h").exists()), None)


class BuildExt(build_ext):
    """Probe the compiler, choose flags, translate the .pyx files, compile in parallel."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        error = self.probe(PYTHON_PROBE, link=False)
        if error:
            raise PlatformError(NO_COMPILER.format(error=error))
        compile_args, link_args = self.flags()
        translated = cythonize(
            self.extensions,
            include_path=["src_cython"],
            build_dir=os.path.join(self.build_temp, "cython"),
            language_level=3,
            force=self.force,
        )
        for extension, source in zip(self.extensions, translated, strict=True):
            extension.sources = source.sources
            extension.extra_compile_args = compile_args
            extension.extra_link_args = link_args
        super().build_extensions()

    def flags(self) -> tuple[list[str], list[str]]:
        openmp_compile, openmp_link = self.openmp()
        if self.compiler.compiler_type == "msvc":
            return ["/O2", *openmp_compile], openmp_link
        # Kernels pass wide vectors among static functions only, where the calling convention is of no account.
        quiet = ["-Wno-psabi"]
        if enabled("FASTCONV_SANITIZE"):
            sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
            compile_args = ["-O1", "-g1", "-fno-omit-frame-pointer", "-DFC_EMULATE_AVX512", *sanitize]
            quiet.append("-Wno-maybe-uninitialized")  # instrumented code puzzles GCC
            return [*compile_args, *quiet, *openmp_compile], [*sanitize, *openmp_link]
        # Python's own flags often hold -g; debug information and symbols make an extension many times larger.
        compile_args = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math"]
        strip = ["-Wl,-s"] if sys.platform.startswith("linux") else []
        return [*compile_args, *quiet, *openmp_compile], [*strip, *openmp_link]

    def openmp(self) -> tuple[list[str], list[str]]:
        """Compile and link flags of OpenMP; empty, with a message, where it is off or does not work."""
        if enabled("FASTCONV_NO_OPENMP"):
            print(NO_OPENMP.format(reason="FASTCONV_NO_OPENMP is set", hint=""), flush=True)
            return [], []
        hint = ""
        if self.compiler.compiler_type == "msvc":
            compile_args, link_args = ["/openmp"], []
        elif sys.platform == "darwin":
            compile_args, link_args = ["-Xpreprocessor", "-fopenmp"], ["-lomp"]
            hint = "\nFor threads on macOS: brew install libomp, then install fastconv again."
            if prefix := libomp_prefix():
                compile_args.append(f"-I{prefix / 'include'}")
                link_args += [f"-L{prefix / 'lib'}", f"-Wl,-rpath,{prefix / 'lib'}"]
        else:
            compile_args, link_args = ["-fopenmp"], ["-fopenmp"]
        if self.probe(OPENMP_PROBE, compile_args, link_args):
            print(NO_OPENMP.format(reason="the compiler cannot build OpenMP programs", hint=hint), flush=True)
            return [], []
        return compile_args, link_args

    def probe(self, code: str, compile_args=(), link_args=(), link=True) -> str | None:
        """Compile `code` and link it to a program; the error's text, or None where both succeed."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(code)
            try:
                objects = self.compiler.compile([str(source)], folder, extra_preargs=list(compile_args))
                if link:
                    program = str(Path(folder, "probe"))
                    self.compiler.link_executable(objects, program, extra_postargs=list(link_args))
            except (CompileError, LinkError, ExecError) as error:
                return str(error)
        return None


setup(ext_modules=EXTENSIONS, cmdclass={"build_ext": BuildExt})
