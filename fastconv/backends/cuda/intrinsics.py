"""What Numba has no name for: unsigned division, 128-bit access, tensor cores.  The only module that writes LLVM IR.

Under Numba's simulator plain Python stands in.
"""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import SIMULATED, float32, types, uint32, uint64

__all__ = ["bits", "load128", "mma_tf32", "mulhi", "store128", "to_tf32", "udiv"]


def _udiv(a: Any, b: Any) -> Any:
    return a // b


def _mulhi(a: Any, b: Any) -> Any:
    return type(a)((int(a) * int(b)) >> 32)


def _bits(x: Any) -> Any:
    return x.view(f"uint{8 * x.itemsize}")


def _load128(array: Any, index: Any) -> Any:
    return tuple(array[index : index + 16 // array.itemsize])


def _store128(array: Any, index: Any, values: Any) -> None:
    array[index : index + 16 // array.itemsize] = values


def _warp_wide(*operands: Any) -> Any:
    raise NotImplementedError("Numba's simulator has no tensor cores: leave fastconv.allow_tf32 off under it")


if SIMULATED:
    to_tf32 = mma_tf32 = _warp_wide
    udiv, mulhi, bits, load128, store128 = _udiv, _mulhi, _bits, _load128, _store128
else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    def _vector(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
        """Pointer to the 16 bytes that begin at ``array[index]``."""
        data = context.make_array(array_type)(context, builder, array).data
        element = context.get_value_type(array_type.dtype)
        address = builder.gep(data, [builder.zext(index, ir.IntType(64))])
        lanes = 16 * 8 // array_type.dtype.bitwidth
        return builder.bitcast(address, ir.VectorType(element, lanes).as_pointer()), lanes

    @intrinsic
    def udiv(typing: Any, a: Any, b: Any) -> Any:
        """``a // b`` of uint32, which Numba would do in 64 bits: a call of some 150 instructions."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.udiv(*arguments)

        return uint32(uint32, uint32), generate

    @intrinsic
    def mulhi(typing: Any, a: Any, b: Any) -> Any:
        """Upper half of the 64-bit product of two uint32."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            wide = ir.IntType(64)
            product = builder.mul(*(builder.zext(each, wide) for each in arguments))
            return builder.trunc(builder.lshr(product, ir.Constant(wide, 32)), ir.IntType(32))

        return uint32(uint32, uint32), generate

    @intrinsic
    def bits(typing: Any, x: Any) -> Any:
        """The bits of a float32 as uint32, of a float64 as uint64."""
        width = x.bitwidth

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], ir.IntType(width))

        return {32: uint32, 64: uint64}[width](x), generate

    @intrinsic
    def load128(typing: Any, array: Any, index: Any) -> Any:
        """The 16 bytes that begin at ``array[index]``, a tuple; their address must be divisible by 16."""
        result = types.UniTuple(array.dtype, 128 // array.dtype.bitwidth)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer, lanes = _vector(context, builder, signature.args[0], *arguments)
            vector = builder.load(pointer)
            vector.align = 16
            values = [builder.extract_element(vector, ir.Constant(ir.IntType(32), i)) for i in range(lanes)]
            return context.make_tuple(builder, result, values)

        return result(array, uint32), generate

    @intrinsic
    def store128(typing: Any, array: Any, index: Any, values: Any) -> Any:
        """Write a tuple to the 16 bytes that begin at ``array[index]``; their address must be divisible by 16."""
        lanes = 128 // array.dtype.bitwidth

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array_value, index_value, tuple_value = arguments
            pointer, _ = _vector(context, builder, signature.args[0], array_value, index_value)
            vector = ir.Constant(pointer.type.pointee, ir.Undefined)
            for i in range(lanes):
                value = builder.extract_value(tuple_value, i)
                vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), i))
            builder.store(vector, pointer, align=16)
            return context.get_dummy_value()

        return types.void(array, uint32, types.UniTuple(array.dtype, lanes)), generate

    @intrinsic
    def to_tf32(typing: Any, x: Any) -> Any:
        """The float32 rounded to TF32, to nearest and ties away from 0, as bits."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.FunctionType(ir.IntType(32), [ir.FloatType()])
            return builder.asm(kind, "cvt.rna.tf32.f32 $0, $1;", "=r,f", arguments, side_effect=False)

        return uint32(float32), generate

    @intrinsic
    def mma_tf32(typing: Any, a: Any, b: Any, c: Any) -> Any:
        """``A @ B + C`` of a warp: TF32 of (16, 8) and (8, 8), float32 of (16, 8); needs compute capability 8.0.

        Lane l, with g = l // 4 and p = l % 4, has A[g, p], A[g + 8, p], A[g, p + 4], A[g + 8, p + 4]; B[p, g],
        B[p + 4, g]; of C and the result [g, 2p], [g, 2p + 1], [g + 8, 2p], [g + 8, 2p + 1].
        """
        four = types.UniTuple(float32, 4)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word, number = ir.IntType(32), ir.FloatType()
            operands = [
                builder.extract_value(given, i)
                for given, count in zip(arguments, (4, 2, 4), strict=True)
                for i in range(count)
            ]
            kind = ir.FunctionType(ir.LiteralStructType([number] * 4), [word] * 6 + [number] * 4)
            code = (
                "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
            )
            constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
            made = builder.asm(kind, code, constraints, operands, side_effect=True)
            return context.make_tuple(builder, four, [builder.extract_value(made, i) for i in range(4)])

        return four(types.UniTuple(uint32, 4), types.UniTuple(uint32, 2), four), generate
