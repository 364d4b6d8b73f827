"""The identity encoder."""

import pytest
import torch
from torch import nn

from gwainet.nets.blocks import SameConv2d
from gwainet.nets.inet import Inet, PairHead


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize(
    ("height", "width", "layout", "parameters"),
    [(168, 144, "vgg16", 111_200_065), (168, 144, "table2", 108_250_177), (256, 256, "vgg16", 182_503_233)],
)
def test_sizes_are_the_papers(height, width, layout, parameters):
    with torch.device("meta"):
        assert count(Inet(height, width, layout=layout), PairHead(4096)) == parameters


@pytest.mark.parametrize(("layout", "groups"), [("vgg16", (2, 2, 3, 3, 3)), ("table2", (2, 2, 2, 3, 2))])
def test_the_layout_sets_the_convolutions(layout, groups):
    with torch.device("meta"):
        inet = Inet(32, 32, 2, 8, layout)
    letters = {SameConv2d: "c", nn.ReLU: "r", nn.MaxPool2d: "p"}
    assert "".join(letters[type(layer)] for layer in inet.convs) == "".join("cr" * count + "p" for count in groups)


def test_the_last_layer_has_no_relu_and_pooling_rounds_up():
    torch.manual_seed(0)
    inet = Inet(168, 144, 1, 16)
    assert inet.fc[0].in_features == 8 * 6 * 5
    embedding = inet(torch.randn(4, 3, 168, 144) * 10)
    assert embedding.shape == (4, 16)
    assert embedding.min() < 0


def test_the_pair_head_is_symmetric_and_gives_b_for_equal_embeddings():
    torch.manual_seed(0)
    head = PairHead(5)
    a, b = torch.randn(2, 3, 5)
    assert torch.equal(head(a, b), head(b, a))
    assert torch.allclose(head(a, a), head.fc.bias.expand(3))


def test_the_pair_head_weighs_absolute_differences():
    head = PairHead(2)
    head.fc.weight.data = torch.tensor([[2.0, -1.0]])
    head.fc.bias.data = torch.tensor([0.5])
    assert head(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 3.0]])).item() == pytest.approx(2 * 2 - 3 + 0.5)
