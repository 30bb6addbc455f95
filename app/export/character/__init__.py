"""People as animated skeletons: the rig, its body, and the formats of animation software."""
