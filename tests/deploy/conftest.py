"""What the tests of the manifests share."""

import pytest

from tests.deploy.rendering import Rendered, folders, render


@pytest.fixture(scope="session")
def rendered() -> dict[str, Rendered]:
    """Every folder, by its path below deploy/kubernetes."""
    return dict(zip(folders(), render(folders().values()), strict=True))
