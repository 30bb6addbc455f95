"""The web app: page, API, job queue and worker processes."""
