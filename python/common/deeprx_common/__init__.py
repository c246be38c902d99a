"""What the runtime and the training environment both import: NumPy only, no GNU Radio, no torch."""

__version__ = "0.1.0"  # of gr-deeprx; CMakeLists.txt says it, too
