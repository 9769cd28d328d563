"""With your own recordings: compare two, enrol people in the browser, ask who speaks, and when."""
