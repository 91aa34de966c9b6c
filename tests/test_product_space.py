"""Spaces side by side: parts of different shapes in one x, each with its own names, noise and norm."""

import math
from dataclasses import dataclass

import pytest
import torch

from pdediff.noise import Generators, WhiteNoise
from pdediff.spaces import FunctionSpace, ProductNoise, ProductSpace

U = FunctionSpace(("u",), (3, 5), cell_area=0.25)
A = FunctionSpace(("a", "b"), (4, 2), cell_area=2.0)
SPACE = ProductSpace((U, A))


def fields(batch=4):
    generator = torch.Generator().manual_seed(0)
    shapes = {"u": (3, 5), "a": (4, 2), "b": (4, 2)}
    return {name: torch.randn(batch, *shape, generator=generator) for name, shape in shapes.items()}


def test_flatten_and_unflatten_are_inverse():
    """Fields come back as they were, whatever the order of the names; D is the sum over the factors."""
    given = fields()
    x = SPACE.flatten({name: given[name] for name in ("b", "u", "a")})
    assert x.shape == (4, SPACE.dimension) == (4, 15 + 16)
    assert SPACE.sizes == (15, 16)
    assert SPACE.fields == ("u", "a", "b")
    back = SPACE.unflatten(x)
    assert list(back) == ["u", "a", "b"]
    for name, values in given.items():
        assert torch.equal(back[name], values)


def test_parts_and_shapes():
    """`part` is where a field lies in x, and `shape_of` its points, in a product as in each factor."""
    given = fields()
    x = SPACE.flatten(given)
    for name, values in given.items():
        assert SPACE.shape_of(name) == tuple(values.shape[1:])
        assert torch.equal(x[:, SPACE.part(name)].unflatten(-1, SPACE.shape_of(name)), values)
    first, second = SPACE.split(x)
    assert torch.equal(first, U.flatten({"u": given["u"]}))
    assert torch.equal(second, A.flatten({"a": given["a"], "b": given["b"]}))


def test_products_nest():
    """A product is a space, and so a factor."""
    nested = ProductSpace((SPACE, FunctionSpace(("c",), (1, 2))))
    given = fields() | {"c": torch.ones(4, 1, 2)}
    x = nested.flatten(given)
    assert nested.part("b") == slice(15 + 8, 15 + 16)
    assert nested.part("c") == slice(31, 33)
    assert all(torch.equal(nested.unflatten(x)[name], values) for name, values in given.items())


def test_norm_is_the_integral():
    """‖1‖² over both domains: 15 × 0.25, and 8 × 2 for each of two fields; each sample has its own norm."""
    x = torch.ones(2, 31) * torch.tensor([[1.0], [3.0]])
    torch.testing.assert_close(SPACE.norm(x), math.sqrt(15 * 0.25 + 2 * 8 * 2.0) * torch.tensor([1.0, 3.0]))


@dataclass(frozen=True)
class Scaled:
    """A law of deviation `scale`."""

    scale: float

    def sample(self, generators, dimension, dtype, device):
        return self.scale * generators.normal(dimension, dtype=dtype, device=device)

    def covariance(self, v):
        return self.scale**2 * v


def test_noise_of_each_part():
    """Each part has its factor's own law, drawn after the one before; C is block diagonal."""
    law = ProductNoise((WhiteNoise(), Scaled(3.0)), (2, 4))
    g = law.sample(Generators(0, [3, 5]), 6, torch.float64, torch.device("cpu"))
    again = Generators(0, [3, 5])
    expected = torch.cat([again.normal(2, dtype=torch.float64), 3 * again.normal(4, dtype=torch.float64)], dim=1)
    assert torch.equal(g, expected)
    v = torch.arange(6.0)[None]
    assert torch.equal(law.covariance(v), v * torch.tensor([1.0, 1, 9, 9, 9, 9]))
    assert SPACE.noise == ProductNoise((WhiteNoise(), WhiteNoise()), (15, 16))


def test_what_does_not_fit():
    """No factor, a name twice, an unknown name, another shape or dimension: each is refused."""
    with pytest.raises(ValueError, match="distinct field names"):
        ProductSpace(())
    with pytest.raises(ValueError, match="distinct field names"):
        ProductSpace((U, FunctionSpace(("u",), (2, 2))))
    with pytest.raises(ValueError, match=r"fields \['u'\] given"):
        SPACE.flatten({"u": fields()["u"]})
    with pytest.raises(ValueError, match="field 'u' has shape"):
        SPACE.flatten(fields() | {"u": torch.zeros(4, 5, 3)})
    with pytest.raises(ValueError, match="x has 30 values"):
        SPACE.unflatten(torch.zeros(2, 30))
    for method in (SPACE.part, SPACE.shape_of):
        with pytest.raises(ValueError, match="no field 'v' in a space of"):
            method("v")
    with pytest.raises(ValueError, match="5 values of noise asked of a law of 31"):
        SPACE.noise.sample(Generators(0, [0]), 5, torch.float32, torch.device("cpu"))
