"""The names of what may be asked of a map."""

import subprocess
import sys

import pytest

from cvx import attribution
from cvx.attribution import options


def test_every_name_has_its_function_or_type():
    assert tuple(attribution.METHODS) == options.METHOD_NAMES
    assert tuple(attribution.PRECISIONS) == options.PRECISION_NAMES


def test_whoever_lists_the_names_does_not_wait_for_torch():
    names = "cvx.attribution.options, cvx.maps.request, cvx.cli.compare, cvx.cli.attribute, demo.state.selection"
    subprocess.run([sys.executable, "-c", f"import sys, {names}; assert 'torch' not in sys.modules"], check=True)


def test_the_packages_face_has_all_it_names_and_nothing_else():
    assert all(hasattr(attribution, name) for name in attribution.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lime'"):
        attribution.lime  # noqa: B018
    with pytest.raises(ImportError, match="lime"):
        from cvx.attribution import lime  # noqa: F401
