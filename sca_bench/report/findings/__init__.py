"""What the numbers say: claims, differences, and the paper's numbers beside ours."""
