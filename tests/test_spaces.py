"""Function spaces: named fields to (B, D) and back."""

import math

import pytest
import torch

from pdediff.spaces import FunctionSpace

SPACE = FunctionSpace(("a", "u"), (3, 5), cell_area=0.25)


def fields(batch=4):
    a, u = torch.randn(2, batch, 3, 5, generator=torch.Generator().manual_seed(0))
    return {"a": a, "u": u}


def test_flatten_and_unflatten_are_inverse():
    """Fields come back as they were, whatever the order of the names; D = channels × points."""
    given = fields()
    x = SPACE.flatten({"u": given["u"], "a": given["a"]})
    assert x.shape == (4, SPACE.dimension) == (4, 30)
    assert (SPACE.channels, SPACE.points) == (2, 15)
    back = SPACE.unflatten(x)
    assert list(back) == ["a", "u"]
    for name, values in given.items():
        assert torch.equal(back[name], values)
    assert torch.equal(SPACE.grid_view(x)[:, 1], given["u"])


def test_norm_is_the_integral():
    """‖1‖ over a domain of area 15 × 0.25, of each of two channels; each function has its own norm."""
    x = torch.ones(2, 30) * torch.tensor([[1.0], [3.0]])
    torch.testing.assert_close(SPACE.norm(x), math.sqrt(2 * 15 * 0.25) * torch.tensor([1.0, 3.0]))


@pytest.mark.parametrize("names", [(), ("a", "a")])
def test_names_must_be_distinct(names):
    """No field, or two of one name."""
    with pytest.raises(ValueError, match="distinct field names"):
        FunctionSpace(names, (3, 5))


def test_fields_that_do_not_fit():
    """A missing or additional name, another shape, a batch axis that is missing, another dimension: each is refused."""
    given = fields()
    with pytest.raises(ValueError, match=r"fields \['a'\] given"):
        SPACE.flatten({"a": given["a"]})
    with pytest.raises(ValueError, match="given to a space"):
        SPACE.flatten(given | {"b": given["a"]})
    with pytest.raises(ValueError, match="field 'u' has shape"):
        SPACE.flatten(given | {"u": given["u"].mT})
    with pytest.raises(ValueError, match="field 'a' has shape"):
        SPACE.flatten({name: values[0] for name, values in given.items()})
    with pytest.raises(ValueError, match="x has 29 values"):
        SPACE.unflatten(torch.zeros(2, 29))
