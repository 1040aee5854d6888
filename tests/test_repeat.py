"""Repeated runs on the CPU; the tests of a GPU and its emulator import the same cases."""

import pytest
from repeat_cases import (  # noqa: F401
    test_poll_ends_a_repeated_run_before_it_starts,
    test_repeat_goes_on_where_other_runs_ended,
    test_repeat_holds_still_from_the_first_loss_that_is_not_finite,
    test_repeat_is_as_many_single_runs,
    test_repeat_names_bad_arguments,
)


@pytest.fixture(params=[{"backend": "ref"}, {"backend": "cpu", "threads": 2}], ids=str)
def place(request):
    return request.param
