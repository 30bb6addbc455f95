"""``posemamba bench``: speed of the network and of the pipeline, as ratios within one run."""
