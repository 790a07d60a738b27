"""``python -m bench``: measure, then write the README's table."""

from bench import report, run

run.main([])
report.main()
