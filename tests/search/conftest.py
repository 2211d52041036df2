"""The law modules are not test files: without this, a failing law would not show the values it compared."""

import pytest

pytest.register_assert_rewrite("tests.search.proposer_laws", "tests.search.scheduler_laws")
