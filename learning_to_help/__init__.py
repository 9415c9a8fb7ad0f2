"""What the scripts of learning to help share: settings, stacks of rejectors in training."""
