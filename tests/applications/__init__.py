"""Real applications, traced: each module drives one, and says by what else its copies are known."""

import pytest

for _name in ("redis", "postgres", "gunicorn", "multiprocessing", "snapshot"):
    pytest.register_assert_rewrite(f"applications.{_name}_tests")
