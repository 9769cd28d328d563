"""After the lab: the last page of the slides, and beyond."""
