"""The critic."""

import pytest
import torch

from gwainet.nets.cnet import Cnet


@pytest.mark.parametrize(
    ("height", "width", "inputs", "parameters"), [(168, 144, 50_688, 4_357_249), (256, 256, 131_072, 4_437_633)]
)
def test_sizes_are_the_papers(height, width, inputs, parameters):
    cnet = Cnet(height, width)
    assert cnet.fc.in_features == inputs
    assert sum(p.numel() for p in cnet.parameters()) == parameters


def test_scores_are_one_unbounded_number_an_image():
    cnet = Cnet(32, 16, features=2)
    assert cnet(torch.zeros(3, 3, 32, 16)).shape == (3,)
    torch.nn.init.constant_(cnet.fc.bias, -7.0)
    torch.nn.init.zeros_(cnet.fc.weight)
    assert torch.equal(cnet(torch.randn(2, 3, 32, 16)), torch.full((2,), -7.0))


def test_images_of_a_batch_do_not_influence_each_other():
    torch.manual_seed(0)
    cnet = Cnet(16, 16, features=2)
    images = torch.randn(3, 3, 16, 16)
    alone = torch.cat([cnet(image.unsqueeze(0)) for image in images])
    assert torch.allclose(cnet(images), alone, atol=1e-6)


def test_the_activation_leaks_by_0_2():
    cnet = Cnet(16, 16, features=1)
    for conv in cnet.convs:
        torch.nn.init.zeros_(conv.get_parameter("weight"))
        torch.nn.init.constant_(conv.get_parameter("bias"), -1.0)
    torch.nn.init.constant_(cnet.fc.weight, 1.0)
    torch.nn.init.zeros_(cnet.fc.bias)
    assert cnet(torch.zeros(1, 3, 16, 16)).item() == pytest.approx(-0.2 * cnet.fc.in_features, rel=1e-5)


def test_four_layers_of_stride_2_read_the_pixels_that_tensorflow_reads():
    cnet = Cnet(32, 32, features=1)
    for layer in (*cnet.convs, cnet.fc):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    for conv in cnet.convs:
        conv.get_parameter("weight").data[0, 0, 1, 1] = 1.0  # the tap that lies on input pixel (2 i, 2 j)
    image = torch.rand(1, 3, 32, 32)
    for place, expected in enumerate(image[0, 0, ::16, ::16].flatten()):
        torch.nn.init.zeros_(cnet.fc.weight)
        cnet.fc.weight.data[0, place] = 1.0
        assert cnet(image).item() == expected
