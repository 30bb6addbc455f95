"""From video to 3D human motion: pipeline, exports, rendering and command line (see ``app.pipeline.estimate``)."""

__version__ = "0.1.0"
