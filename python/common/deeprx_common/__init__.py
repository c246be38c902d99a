"""What the runtime and the training environment both import: NumPy only, no GNU Radio, no torch."""
