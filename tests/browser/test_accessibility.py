"""That accessibility is really checked in the other tests here: axe-core finds what is wrong on
purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def test_what_is_wrong_on_purpose_is_found(
    page: Any, axe_script: str, axe: Callable[[Any], list[str]]
) -> None:
    if axe_script.startswith("needs"):
        pytest.skip(axe_script)
    page.set_content("<main><button></button><p style='color:#ccc;background:#fff'>pale</p></main>")
    assert {found.split(":")[0] for found in axe(page.locator("main"))} >= {
        "critical button-name",
        "serious color-contrast",
    }


@pytest.mark.parametrize("axe_script", ["needs axe-core, and there is none"])
def test_a_check_that_cannot_be_made_says_so_in_each_test(
    page: Any, axe_script: str, axe: Callable[[Any], list[str]]
) -> None:
    """It said that nothing was wrong, and the tests passed without a word."""
    with pytest.warns(UserWarning, match="accessibility NOT checked here: needs axe-core"):
        assert axe(page.locator("main")) == []
