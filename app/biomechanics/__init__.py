"""Joint angles, their summary, and steps, from the 17 joints of a result; definitions in docs/angles.md."""
