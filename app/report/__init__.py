"""Pictures to look at and to share: a report per clip, a preview, and a page of a whole batch."""
