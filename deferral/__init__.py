"""Who answers, and what it costs: pure functions of saved predictions.

Made of numpy, scipy and scikit-learn.
"""
