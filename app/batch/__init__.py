"""Many clips: finding, processing, resuming, summarizing."""
