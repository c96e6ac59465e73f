"""Tables as plain data, and their forms: Markdown, CSV, LaTeX."""
