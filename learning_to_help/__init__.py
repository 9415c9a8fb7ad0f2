"""Learning to help: settings, Algorithm 1, the link to the edge net, amortized rejectors."""
