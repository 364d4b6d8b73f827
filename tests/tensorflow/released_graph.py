"""The released graph in TensorFlow's own operations, written from docs/paper.md alone, without `gwainet`.

Padding is TensorFlow's SAME, scopes are those of the released checkpoint, weights are random.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1


class ReleasedGraph:
    """Wnet, sampler and Gnet with random weights, and the optimiser's slots that a training leaves.

    Attributes:
        variables: name -> value of the graph's own variables, slots left out.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._graph = v1.Graph()
        with self._graph.as_default():
            self._i_lr, self._i_lru, self._i_gi = (v1.placeholder(tf.float32, (None, None, None, 3)) for _ in range(3))
            with v1.variable_scope("warper"):
                omega = self._warper(tf.concat([self._i_lru, self._i_gi], axis=-1))
            i_gw = sample(self._i_gi, omega)
            with v1.variable_scope("generator"):
                i_sr = self._generator(self._i_lr, i_gw)
            self._made = omega, i_gw, i_sr
            own = v1.trainable_variables()
            # a training's leftovers: Adam's slots, its powers of beta and the step
            v1.train.AdamOptimizer().minimize(tf.reduce_mean(i_sr), v1.train.get_or_create_global_step())
            self.gradients = tf.gradients(i_sr, own)
            self._saver = v1.train.Saver()
            self._session = v1.Session()
            self._session.run(v1.global_variables_initializer())
            values = self._session.run(own)
        self.variables = {variable.op.name: value for variable, value in zip(own, values, strict=True)}

    def save(self, prefix: str) -> None:
        """Write a checkpoint."""
        with self._graph.as_default():
            self._saver.save(self._session, prefix)

    def __call__(self, i_lr: np.ndarray, i_lru: np.ndarray, i_gi: np.ndarray) -> list[np.ndarray]:
        """Omega, I_GW and I_SR of a batch; channels last."""
        inputs = {self._i_lr: i_lr, self._i_lru: i_lru, self._i_gi: i_gi}
        made: list[np.ndarray] = self._session.run(self._made, inputs)
        return made

    def _warper(self, x: Any) -> Any:
        with v1.variable_scope("input_encoder"):
            first = x = self._conv("conv_input_res", self._downscale(x), 64)
            for block in range(1, 9):
                x = self._residual(f"resblocks/resblock{block}", x)
            x = self._conv("conv_before_skip", x, 64) + first
        with v1.variable_scope("flow_decoder"):
            for number in range(1, 4):
                x = self._upscale(f"upsampler{number}", x)
            return self._conv("conv1", x, 2, gain=0.016)  # coordinates inside and outside the image

    def _generator(self, i_lr: Any, i_gw: Any) -> Any:
        with v1.variable_scope("input_g_preprocessing"):
            g = self._downscale(i_gw)
        first = x = self._conv("conv1", i_lr, 64)
        g = self._conv("conv1_g", g, 64)
        for group in range(1, 5):
            scope = f"resblocks/resblocks_{group}"
            for block in range(1, 5):
                x = self._residual(f"{scope}/resblock{block}", x)
                if group < 4:
                    g = self._residual(f"{scope}/resblock_g{block}", g)
            if group < 4:
                x = self._conv(scope, tf.concat([x, g], axis=-1), 64)
        x = self._conv("conv_before_skip", x, 64) + first
        for number in range(1, 4):
            x = self._upscale(f"upsamplers/upsampler{number}", x)
        return self._conv("conv_final", x, 3, gain=0.05)  # most values in [-1, 1]

    def _downscale(self, x: Any) -> Any:
        for number in range(1, 7):
            x = tf.nn.relu(self._conv(f"conv{number}", x, 64, stride=1 if number % 2 else 2, gain=2.0))
        return x

    def _residual(self, scope: str, x: Any) -> Any:
        hidden = tf.nn.relu(self._conv(f"{scope}/conv1", x, 64))
        return x + self._conv(f"{scope}/conv2", hidden, 64, gain=0.3)

    def _upscale(self, scope: str, x: Any) -> Any:
        """Convolution and pixel shuffle, channels in torch's order: (B, H, W, C 2 2) -> (B, 2H, 2W, C)."""
        x = self._conv(scope, x, 256, gain=1.5)
        batch, height, width = (tf.shape(x)[axis] for axis in range(3))
        x = tf.reshape(x, (batch, height, width, 64, 2, 2))
        return tf.reshape(tf.transpose(x, (0, 1, 4, 2, 5, 3)), (batch, 2 * height, 2 * width, 64))

    def _conv(self, scope: str, x: Any, filters: int, stride: int = 1, gain: float = 1.0) -> Any:
        with v1.variable_scope(scope):
            fan = 9 * int(x.shape[-1])
            weight = v1.get_variable("weight", (3, 3, x.shape[-1], filters), initializer=self._normal(gain / fan**0.5))
            bias = v1.get_variable("bias", (filters,), initializer=self._normal(0.05))
        return tf.nn.conv2d(x, weight, stride, "SAME") + bias

    def _normal(self, scale: float) -> Callable[..., Any]:
        """Initial values by NumPy: the same whatever version of TensorFlow."""

        def values(shape: Any, dtype: Any = None, **_: Any) -> Any:
            return tf.constant(self._random.normal(scale=scale, size=tuple(shape)), dtype or tf.float32)

        return values


def sample(image: Any, omega: Any) -> Any:
    """Bilinear sampling as TensorFlow's spatial transformers are written: corners and weights from clipped indices.

    The rule of docs/paper.md, N9 (0 outside [0, n - 1)) is not written here, it follows: both corners of such a
    coordinate are clipped to one pixel, and its two weights cancel.

    Shapes: (B, H, W, C), (B, H, W, 2) -> (B, H, W, C).
    """
    batch, height, width = (tf.shape(image)[axis] for axis in range(3))
    x, x0, x1 = _corners(omega[..., 0] + tf.linspace(-1.0, 1.0, width), width)
    y, y0, y1 = _corners(omega[..., 1] + tf.linspace(-1.0, 1.0, height)[:, None], height)
    index = tf.zeros_like(x, tf.int32) + tf.range(batch)[:, None, None]

    def pixels(row: Any, column: Any) -> Any:
        return tf.gather_nd(image, tf.stack([index, tf.cast(row, tf.int32), tf.cast(column, tf.int32)], axis=-1))

    x, x0, x1, y, y0, y1 = (part[..., None] for part in (x, x0, x1, y, y0, y1))
    upper = (x1 - x) * pixels(y0[..., 0], x0[..., 0]) + (x - x0) * pixels(y0[..., 0], x1[..., 0])
    lower = (x1 - x) * pixels(y1[..., 0], x0[..., 0]) + (x - x0) * pixels(y1[..., 0], x1[..., 0])
    return (y1 - y) * upper + (y - y0) * lower


def _corners(rho: Any, size: Any) -> tuple[Any, Any, Any]:
    """Coordinate in pixels, and the pixels before and after it, clipped to the image."""
    last = tf.cast(size, tf.float32) - 1
    coordinate = (rho + 1) * last / 2
    before = tf.floor(coordinate)
    return coordinate, tf.clip_by_value(before, 0, last), tf.clip_by_value(before + 1, 0, last)
