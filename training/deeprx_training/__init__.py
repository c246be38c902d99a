"""Train, distil, evaluate and export neural OFDM receivers for gr-deeprx."""
