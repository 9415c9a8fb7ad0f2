"""Active learning for several target models: one budget of labels, many networks to train with it.

Tang and Huang, "Active Learning for Multiple Target Models", NeurIPS 2022.
"""
