import pytest
from jaxtyping import config


@pytest.fixture
def untyped():
    """Switch the tests' run-time type checks off, to see what a user sees who passes something that does not fit."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)
