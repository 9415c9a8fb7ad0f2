"""Who answers, and what it costs: pure functions of saved predictions (numpy only)."""
