"""What the scripts need and no lesson is about: you need not read this."""
