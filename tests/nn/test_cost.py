"""The counter of multiply-adds against numbers worked out by hand."""

import jax
import jax.numpy as jnp

from vasa_jax.nn.convolution import convolve_2d, convolve_3d, convolve_3d_depth_split, convolve_3d_direct
from vasa_jax.nn.cost import count_macs, count_parameters


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_matrix_products():
    assert count_macs(jnp.matmul, shape(5, 7, 3), shape(5, 3, 2)) == 5 * 7 * 3 * 2


def test_convolutions_count_every_kernel_position_of_every_output():
    assert count_macs(lambda x, k: convolve_2d(x, k, 2), shape(2, 8, 6, 3), shape(3, 3, 3, 5)) == 2 * 4 * 3 * 5 * 27


def test_a_3d_convolution_counts_every_position_whatever_the_platform_leaves_out():
    """The depth-split form skips slices beyond the ends: of 4 slices the outer two taps see 3."""
    x, kernel = shape(2, 4, 8, 6, 3), shape(3, 3, 3, 3, 40)
    counts = [count_macs(form, x, kernel) for form in (convolve_3d, convolve_3d_direct, convolve_3d_depth_split)]
    assert counts == [2 * 4 * 8 * 6 * 40 * 81, 2 * 4 * 8 * 6 * 40 * 81, 2 * (3 + 4 + 3) * 8 * 6 * 40 * 27]


def test_groups_divide_the_cost():
    def depthwise(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
        )

    assert count_macs(depthwise, shape(1, 8, 8, 4), shape(3, 3, 1, 4)) == 64 * 4 * 9


def test_scans_multiply_and_branches_take_the_dearest():
    def loop(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=10)[0]

    def branch(x, w):
        return jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x @ w)

    x, w = shape(2, 3), shape(3, 3)
    assert count_macs(loop, x, w) == 10 * 18
    assert count_macs(branch, x, w) == 2 * 18
    assert count_macs(jax.jit(jax.checkpoint(loop)), x, w) == 10 * 18


def test_parameters_of_shapes_and_arrays():
    assert count_parameters({"a": shape(2, 3), "b": [jnp.ones(4), shape()]}) == 11
