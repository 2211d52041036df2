"""Law suites are no test files: without this a law that is broken would not tell the values it found."""

import pytest

pytest.register_assert_rewrite("tests.search.proposer_laws", "tests.search.scheduler_laws")
