"""The exercises 2 to 4 of the slides: a program for each, and what they measure with."""
