"""The paper's data sets: where their files come from, and whether they are what they should be."""
