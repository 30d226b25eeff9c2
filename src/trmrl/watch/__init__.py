"""Watching a trained agent find out its task: a page in a browser, and videos."""
