"""Real applications, traced on this machine's kernel by the plan that it allows."""

from __future__ import annotations

from applications.gunicorn_tests import test_gunicorn_workers_collections_copy_unless_frozen
from applications.multiprocessing_tests import (
    test_multiprocessing_reference_counts_copy_what_is_read,
)
from applications.postgres_tests import test_postgres_shared_buffers_are_no_copies
from applications.question_tests import (
    test_gunicorn_diff_says_that_freezing_helped,
    test_redis_levels_off_when_nobody_writes_and_copies_no_more_than_was_said,
)
from applications.redis_tests import test_redis_parents_copies_during_bgsave
from applications.snapshot_tests import (
    test_snapshot_pages_diverge,
    test_snapshot_single_faults_name_the_pages_that_diverge,
)
from applications.watching import watched

__all__ = [
    "test_gunicorn_diff_says_that_freezing_helped",
    "test_gunicorn_workers_collections_copy_unless_frozen",
    "test_multiprocessing_reference_counts_copy_what_is_read",
    "test_postgres_shared_buffers_are_no_copies",
    "test_redis_levels_off_when_nobody_writes_and_copies_no_more_than_was_said",
    "test_redis_parents_copies_during_bgsave",
    "test_snapshot_pages_diverge",
    "test_snapshot_single_faults_name_the_pages_that_diverge",
    "watched",
]
