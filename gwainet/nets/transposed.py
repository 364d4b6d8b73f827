"""The critic's gradient with respect to the picture, written out: the layers transposed, in reverse (Eq. 8).

Autograd finds the same gradient, but its gradient in turn, which the penalty needs, also sends zeros back through every
convolution of the forward: LeakyReLU's slopes are constants almost everywhere. Written out, the gradient is an ordinary
function of the critic's weights, for which autograd of the first order is enough: four forwards' work instead of six.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gwainet.nets.blocks import SameConv2d, same_padding
from gwainet.nets.cnet import Cnet


def critic_gradient(critic: Cnet, image: Tensor) -> Tensor:
    """Gradient of D with respect to each picture; differentiable with respect to the critic's weights alone.

    Shapes: (B, 3, H, W) -> the same.

    Raises:
        TypeError: the critic is not `Cnet` itself, or has a layer whose transpose is not known here.
    """
    if type(critic) is not Cnet:  # a subclass may have a forward of its own
        raise TypeError(f"gwainet.nets.transposed knows Cnet, not {type(critic).__name__}")
    layers = critic.layers()
    inputs = []
    with torch.no_grad():
        x = image
        for layer in layers[:-1]:
            inputs.append(x)
            x = layer(x)
        inputs.append(x)
    gradient = x.new_ones(len(x), 1)
    for layer, x in zip(reversed(layers), reversed(inputs), strict=True):
        gradient = _transposed(layer, x, gradient)
    return gradient


def _transposed(layer: nn.Module, x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with respect to a layer's input `x`, from that with respect to its output."""
    if type(layer) is nn.Linear:
        return gradient @ layer.weight
    if type(layer) is nn.Flatten and layer.start_dim == 1:
        return gradient.view_as(x)
    if type(layer) is nn.LeakyReLU:
        return gradient * (x > 0).to(x.dtype).clamp(min=layer.negative_slope)
    if type(layer) is SameConv2d and layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros":
        height, width = x.shape[2:]
        top, _ = same_padding(height, layer.kernel_size[0], layer.stride[0])
        left, _ = same_padding(width, layer.kernel_size[1], layer.stride[1])
        # cuts what lies in the padding: as much as before on every side, then the odd row and column behind (N1)
        inside = F.conv_transpose2d(gradient, layer.weight, stride=layer.stride, padding=(top, left))
        return inside[:, :, :height, :width]
    raise TypeError(f"gwainet.nets.transposed does not know the transpose of {layer}")
