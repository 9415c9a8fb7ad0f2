"""Networks with exits: base, l2w and boosted training, anytime and budgeted evaluation."""
